"""Products and training steps with `precision = bf16` beside f32 on this processor: two programs that take turns.

    python benchmarks/precision_speed.py [--threads 2] [--rounds 15] [--sizes 256 512] [--models mlp gpt_mini]

Products are of two square matrices in memory, steps those of models of the zoo on made-up rows. Each round takes a
sample of both. What is printed are the medians over the rounds and their ratio, f32 by bf16, with the lowest and the
highest ratio of a round: these lie far apart where others compute beside it. With `--own-time` and one thread, the time
is what the process itself had of the processor.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy as np

from compiler import driver
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.interface import Options
from compiler.ops.contraction import Contraction
from compiler.programs.compilation import prepared_compilation
from compiler.schedule.numerics.round_products import round_products
from compiler.support.processors import usable_cores
from compiler.targets.registry import target_of
from compiler.types import DType, TensorType
from runtime.analysis.made_up_steps import CompiledSteps, usual_batch

ZOO = Path(__file__).parent / "zoo"
PRECISIONS = ("f32", "bf16")
SAMPLE = 0.05  # seconds
Clock: TypeAlias = Callable[[], float]
Run: TypeAlias = Callable[[int], Any]  # so many times


def product_of(size: int, threads: int, precision: str) -> Run:
    """The product of two square matrices."""
    builder = GraphBuilder("product")
    type_ = TensorType(DType.F32, (size, size))
    left, right = (builder.input(name, Role.DATA, type_) for name in ("left", "right"))
    builder.output("y", Role.OUTPUT, builder.emit(Contraction((0, 1), (1, 2), (0, 2)), left, right))
    graph = builder.build() if precision == "f32" else round_products(builder.build())
    executable = target_of(Options()).load(prepared_compilation(partial(_same, graph), Options(threads=threads)))
    random = np.random.default_rng(0)
    given = {name: random.standard_normal((size, size)).astype(np.float32) for name in ("left", "right")}

    def run(times: int) -> None:
        for _ in range(times):
            executable.call(given)

    return run


def _same(graph: Graph) -> Graph:
    return graph


def step_of(model: str, threads: int, precision: str) -> Run:
    """A training step of a model of the zoo."""
    program = driver.load(ZOO / f"{model}.dl", overrides=(("precision", precision),))
    batch = usual_batch(program, "train")
    return CompiledSteps(program, "train", batch, driver.options_of(program, Options(batch=batch, threads=threads)))


def compared(runs: Sequence[Run], rounds: int, clock: Clock) -> list[list[float]]:
    """The seconds of a sample of each run, round by round."""

    def seconds(run: Run, times: int) -> float:
        start = clock()
        run(times)
        return (clock() - start) / times

    for run in runs:
        run(2)
    times = next(n for k in count() if (n := 2**k) * seconds(runs[0], n) > SAMPLE)
    return [[seconds(run, times) for run in runs] for _ in range(rounds)]


def row(name: str, rounds: list[list[float]], flops: int | None) -> str:
    """A row of the table, in Markdown."""
    plain, rounded = (median(times) for times in zip(*rounds, strict=True))
    ratios = [one / other for one, other in rounds]
    times = (f"{1e3 * t:.3g} ms" if flops is None else f"{flops / t / 1e9:.0f} GFLOP/s" for t in (plain, rounded))
    return f"| {name} | {' | '.join(times)} | {plain / rounded:.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 512, 1024, 2048])
    parser.add_argument("--models", nargs="*", default=["mlp", "gpt_mini", "gpt_small_block", "resnet20"])
    parser.add_argument("--own-time", action="store_true", help="time of this process's own, with one thread")
    given = parser.parse_args()
    clock = time.process_time if given.own_time else time.perf_counter
    print("| what | f32 | bf16 | f32 / bf16 | of single rounds |\n|---|---:|---:|---:|---:|")
    for size in given.sizes:
        runs = [product_of(size, given.threads, precision) for precision in PRECISIONS]
        print(row(f"{size} x {size} x {size}", compared(runs, given.rounds, clock), 2 * size**3), flush=True)
    for model in given.models:
        runs = [step_of(model, given.threads, precision) for precision in PRECISIONS]
        print(row(model, compared(runs, given.rounds, clock), None), flush=True)


if __name__ == "__main__":
    main()
