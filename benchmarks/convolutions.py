"""Convolutions by themselves, forward and both gradients, beside oneDNN in PyTorch: GFLOP/s, and parts of the peak.

Depthwise ones are bound by memory. The part of its speed is what moving the images takes by itself, in turns with the
rest: a copy past the caches, or reading both images for the gradient of the weights.

    python benchmarks/convolutions.py [--threads 1] [--seconds 1]

Both take turns, and the best sample of each counts: others on the machine can only slow one down. A turn has several
samples, since OpenMP's threads keep their processors busy for milliseconds after a call. After each turn of both, the
machine's own speed is probed; turns before or after which it was slow are left out. Images have their channels
last in memory for both, so that no layout is converted within the time, and start at a cache line for both.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.interface import Options
from compiler.ops.contraction import Contraction
from compiler.ops.movement import Pad, Slice
from compiler.ops.window import Fold, Window
from compiler.pipeline import optimise_graph
from compiler.programs.compilation import prepared_compilation
from compiler.targets.registry import target_of
from compiler.types import BatchExtent, DType, TensorType, at_batch
from peers.memory_peer import Memory
from peers.peak_peer import peak
from probe import FULL, Probe, Probes
from turns import shortest, take_turns

SAMPLES_OF_A_TURN = 10
PATIENCE = 10.0  # seconds that a part waits for full speed, at most
PARTS = ("forward", "input gradient", "weight gradient")


@dataclass(frozen=True)
class Case:
    """A convolution of square images; where it is depthwise, each channel is a group of its own."""

    name: str
    batch: int
    size: int
    channels: int
    filters: int
    kernel: int
    stride: int = 1
    depthwise: bool = False

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def result(self) -> int:
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def flops(self) -> int:
        inputs = 1 if self.depthwise else self.channels
        return 2 * self.batch * self.result**2 * self.kernel**2 * inputs * self.filters


CASES = (
    Case("3×3, 64→64, 32×32", 32, 32, 64, 64, 3),
    Case("3×3, 256→256, 14×14", 32, 14, 256, 256, 3),
    Case("7×7 stride 2, 3→64, 224×224", 8, 224, 3, 64, 7, 2),
    Case("1×1, 256→64, 56×56", 8, 56, 256, 64, 1),
    Case("3×3 depthwise, 256, 28×28", 32, 28, 256, 256, 3, depthwise=True),
)


def graph_of(case: Case, part: str) -> Graph:
    """One part of a convolution, on images with their channels last."""
    builder = GraphBuilder(part)
    k, p, edge = case.kernel, case.padding, case.size + 2 * case.padding
    batch = BatchExtent()
    shapes = {
        "x": (batch, case.size, case.size, case.channels),
        "w": (k, k, case.channels) if case.depthwise else (k, k, case.channels, case.filters),
        "dy": (batch, case.result, case.result, case.filters),
    }
    needed = {"forward": ("x", "w"), "input gradient": ("dy", "w"), "weight gradient": ("x", "dy")}[part]
    given = {name: builder.input(name, Role.DATA, TensorType(DType.F32, shapes[name])) for name in needed}
    sliding = ((1, 2), (k, k), (case.stride,) * 2, (1, 1))
    places, taps, c, f = (0, 1, 2), (4, 5), 3, 3 if case.depthwise else 6
    windows, weights, slopes = (*places, c, *taps), (*taps, c, f)[: 3 if case.depthwise else 4], (*places, f)
    if part == "input gradient":
        product = builder.emit(Contraction(slopes, weights, windows), given["dy"], given["w"])
        whole = builder.emit(Fold(*sliding, (edge, edge)), product)
        inside = (batch, case.size, case.size, case.channels)
        value = builder.emit(Slice((0, p, p, 0), inside, (1, 1, 1, 1)), whole) if p else whole
    else:
        padded = builder.emit(Pad((0, p, p, 0), (0, p, p, 0), 0.0), given["x"]) if p else given["x"]
        view = builder.emit(Window(*sliding), padded)
        if part == "forward":
            value = builder.emit(Contraction(windows, weights, slopes), view, given["w"])
        else:
            value = builder.emit(Contraction(windows, slopes, weights), view, given["dy"])
    builder.output("result", Role.OUTPUT, value)
    return optimise_graph(builder.build())


def ours(case: Case, part: str, threads: int) -> Callable[[], object]:
    graph = graph_of(case, part)
    options = Options(batch=case.batch, threads=threads)
    executable = target_of(options).load(prepared_compilation(graph, options))
    random = np.random.default_rng(0)
    inputs = {
        entry.name: random.standard_normal(at_batch(entry.value.type.shape, case.batch)).astype(np.float32)
        for entry in graph.inputs
    }
    inputs = {name: at_cache_line(value) for name, value in inputs.items()}
    return lambda: executable.call(inputs, case.batch)


def at_cache_line(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy that starts where PyTorch's arrays do, at a multiple of 64 bytes; NumPy's large ones start 16 behind."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def theirs(case: Case, part: str) -> Callable[[], object]:
    groups = case.channels if case.depthwise else 1
    last = torch.channels_last

    def image(channels: int, size: int) -> Any:
        return torch.randn(case.batch, channels, size, size).to(memory_format=last)

    x, dy = image(case.channels, case.size), image(case.filters, case.result)
    w = torch.randn(case.filters, case.channels // groups, case.kernel, case.kernel).to(memory_format=last)
    numbers = ([case.stride] * 2, [case.padding] * 2, [1, 1], False, [0, 0], groups)
    if part == "forward":
        return lambda: torch.nn.functional.conv2d(x, w, None, case.stride, case.padding, 1, groups)
    wanted = [part == "input gradient", part == "weight gradient", False]
    return lambda: torch.ops.aten.convolution_backward(dy, x, w, None, *numbers, wanted)


def moving(case: Case, part: str, memory: Memory) -> Callable[[], float]:
    """The seconds that it takes to read both images, or to copy one to where the other lies."""
    shapes = ((case.size, case.channels), (case.result, case.filters))
    x, dy = (at_cache_line(np.ones((case.batch, size, size, channels), np.float32)) for size, channels in shapes)
    if part == "weight gradient":
        return lambda: memory.read(x) + memory.read(dy)
    return lambda: memory.copy(x, dy)


def timed(run: Callable[[], object]) -> Callable[[], float]:
    """The seconds that a run takes."""

    def seconds() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return seconds


@dataclass(frozen=True)
class Row:
    """The seconds of `dlc`, of oneDNN and, where it is the bound, of moving the images; how many turns were slow."""

    case: Case
    part: str
    seconds: list[float]
    turns: int
    slow: int

    def cells(self, ceiling: float) -> list[str]:
        """GFLOP/s, and the parts of the peak and of the memory's speed."""
        found = [self.case.name, self.part + (" ↓" if self.slow == self.turns else "")]
        for seconds in self.seconds[:2]:
            rate = self.case.flops / seconds / 1e9
            of_memory = f"{self.seconds[2] / seconds:.2f}" if self.seconds[2:] else "–"
            found += [f"{rate:.0f}", f"{rate / ceiling:.2f}", of_memory]
        return found


def measure(case: Case, part: str, threads: int, seconds: float, probe: Probe, memory: Memory) -> Row:
    runs = [timed(ours(case, part, threads)), timed(theirs(case, part))]
    bounds = [moving(case, part, memory)] if case.depthwise else []
    turns = take_turns([*runs, *bounds], SAMPLES_OF_A_TURN, seconds, probe, PATIENCE)
    times, slow = shortest(turns, probe.best)
    return Row(case, part, times, len(turns), slow)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each part of each case")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    probe, memory = Probes(PATIENCE).of(options.threads), Memory(options.threads)
    probe.await_full_speed()
    peak_rate = peak(options.threads, options.seconds)["gflops"]
    rows: list[Row] = []
    for case, part in product(CASES, PARTS):
        rows.append(measure(case, part, options.threads, options.seconds, probe, memory))
        print(f"{case.name}, {part}: {rows[-1].turns} turns, {rows[-1].slow} slow", file=sys.stderr, flush=True)
    ceiling = max(peak_rate, probe.best)
    print(f"{options.threads} threads, fused multiply-adds on registers: {ceiling:.0f} GFLOP/s\n")
    columns = ["of peak", "of memory"]
    print(f"| {' | '.join(['convolution', 'part', 'dlc GFLOP/s', *columns, 'oneDNN GFLOP/s', *columns])} |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(f"| {' | '.join(row.cells(ceiling))} |")
    total, slow = sum(row.turns for row in rows), sum(row.slow for row in rows)
    print(
        f"\n{slow} of {total} turns, beside a probe below {100 * FULL:.0f} % of {probe.best:.0f} GFLOP/s, are left out,"
    )
    print("except where all turns of a row are such (↓).")


if __name__ == "__main__":
    main()
