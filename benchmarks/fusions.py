"""The gain of each fusion: a training step, or an inference, of a model of the zoo without one fusion at a time.

    python benchmarks/fusions.py resnet20 [--infer 32] [--threads 1] [--seconds 60] [--only residual,bias+slopes]

All variants run in one process, in turns, and the 10th percentile of each counts: others on the machine can only slow
one down. The first run fills the cache of compiled code, and `--seconds 0` does nothing else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import numpy as np

from catalogue import CATALOGUE, TIMING_RATE
from compiler import driver, pipeline
from compiler.driver import FUSIONS, STEP_OF_MODE, Options
from compiler.graph_passes.fold_scales import fold_scales
from compiler.programs.stages import graph_of, prepared, scheduled
from compiler.support.cache import default_folder
from compiler.targets.manifest import Manifest, capacity_for
from compiler.targets.registry import kernel_target_of
from runtime.analysis.made_up_steps import CompiledSteps

LEAST_SAMPLE = 0.004  # seconds; shorter ones measure the clock
WHOLE, NOTHING, FOLDING = "(all are on)", "`--no-fuse`", "fold_scales"
TOGETHER = ("activation+bias+residual+slopes", "reductions+rows+siblings", "windows+elementwise+rematerialise_cheap")


@dataclass(slots=True)
class Variant:
    """A way to compile the program, and the milliseconds of each sample of it."""

    name: str
    run: CompiledSteps
    manifest: Manifest
    steps: int = 1
    samples: list[float] = field(default_factory=list[float])

    def sample(self) -> None:
        self.run(1)  # brings back to the caches what the other variants took
        self.samples.append(self.run(self.steps) / self.steps * 1e3)

    @property
    def time(self) -> float:
        return float(np.percentile(self.samples, 10))

    @property
    def kernels(self) -> int:
        """How many kernels a step runs; those in loops count once, and transfers of inputs and results do not."""
        functions = [line.function for line in self.manifest.entries[self.manifest.once :] if line.function >= 0]
        return sum(not self.manifest.functions[function].startswith("dlc_") for function in functions)

    @property
    def memory(self) -> float:
        """MB of all buffers of a batch; parameters and scratch are no part of it."""
        per_row = self.manifest.batch_bytes
        return (self.manifest.static_bytes + per_row * capacity_for(per_row, self.manifest.batch)) / 1e6


@contextmanager
def without_folding() -> Generator[Options]:
    """The pass that folds a normalisation changes roundings, so no option leaves it out; it has a cache of its own."""
    passes = tuple(p for p in pipeline.GRAPH_PASSES if p is not fold_scales)
    with patch.object(pipeline, "GRAPH_PASSES", passes):
        yield Options(cache=default_folder().with_name("without_fold_scales"))


def made(model: str, rows: int, name: str, threads: int) -> Variant:
    """The training step of a model, or its inference of so many rows, without the fusions that `name` joins by `+`."""
    entry = CATALOGUE[model]
    program = driver.load(entry.source, overrides=() if rows else (("optimizer.lr", str(TIMING_RATE)),))
    without = {WHOLE: (), FOLDING: (), NOTHING: tuple(FUSIONS)}.get(name, tuple(name.split("+")))
    options = Options(without=without, threads=threads, batch=rows or entry.batch)
    if name == FOLDING:
        with without_folding() as given:
            return finished(name, program, rows, replace(options, cache=given.cache))
    return finished(name, program, rows, options)


def finished(name: str, program: driver.Program, rows: int, options: Options) -> Variant:
    options = driver.options_of(program, options)
    mode = "infer" if rows else "train"
    target, ready = kernel_target_of(options), prepared(graph_of(program, STEP_OF_MODE[mode], options), options)
    machine = target.machine(options)
    lowered = target.lower(ready, scheduled(ready, options, machine), machine, options.batch)
    return Variant(name, CompiledSteps(program, mode, options.batch, options), lowered.manifest)


def measure(variants: list[Variant], seconds: float) -> None:
    for variant in variants:
        variant.run(2)
        variant.steps = max(1, round(LEAST_SAMPLE / variant.run(1)))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for variant in variants:
            variant.sample()


def table(variants: list[Variant]) -> str:
    whole = variants[0]
    lines = ["| without | ms | times as long | kernels | MB |", "|---|---:|---:|---:|---:|"]
    for variant in variants:
        cells = (variant.name, f"{variant.time:#.3g}", f"{variant.time / whole.time:.2f}", str(variant.kernels))
        lines.append(f"| {' | '.join(cells)} | {variant.memory:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=CATALOGUE)
    parser.add_argument("--infer", type=int, default=0, metavar="ROWS", help="an inference, not a training step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all variants together")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAME,…", help="these fusions")
    options = parser.parse_args()
    names = options.only or [*FUSIONS, *([FOLDING] if options.infer else []), *TOGETHER, NOTHING]
    whole, *others = [made(options.model, options.infer, name, options.threads) for name in (WHOLE, *names)]
    variants = [whole, *(v for v in others if v.manifest != whole.manifest)]
    if options.seconds:
        measure(variants, options.seconds)
        print(f"{options.model}, {options.threads} threads, {len(whole.samples)} rounds\n\n{table(variants)}\n")
        print("The same program without", ", ".join(v.name for v in others if v.manifest == whole.manifest))


if __name__ == "__main__":
    main()
