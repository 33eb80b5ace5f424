"""The rows of a profile: the time, work and place of every line, layer, kernel and operation of a step.

A kernel's time is divided among its statements, and so among the lines they came from: by their bytes where moving
the kernel's bytes would take longer than its operations, both at the machine's measured peak; else by operations.
A statement that serves several lines is divided evenly. A time is that of all
threads, divided by their number, so that all rows add up to the step.
"""

from __future__ import annotations

from dataclasses import asdict, field
from typing import Any

from compiler.support.record import record


@record
class LineRow:
    """A line of the user's text; `file` is empty for what came from none."""

    file: str
    line: int
    text: str
    forward_ms: float
    backward_ms: float
    update_ms: float
    bytes: float
    flops: float


@record
class LayerTime:
    path: str
    forward_ms: float
    backward_ms: float
    update_ms: float
    bytes: float
    flops: float


@record
class OpRow:
    name: str
    ms: float
    bytes: float
    flops: float


@record
class KernelTime:
    """A function and all its calls. `of_peak` and `of_bandwidth`: of what as many threads reach while they work on it.

    `gflops` is the rate in that time, `threads_ms` the time of each thread, `bound` the limit: `memory` or
    `arithmetic`. The bandwidth is that of the nearest cache that holds the bytes of a call.
    """

    name: str
    symbol: str
    kind: str
    ms: float
    calls: int
    flops: float
    bytes: float
    gflops: float
    of_peak: float
    of_bandwidth: float
    bound: str
    threads_ms: tuple[float, ...]
    lines: tuple[str, ...]


@record
class ProfileReport:
    """Times are of one step of `batch` rows, in milliseconds.

    `step_ms` is the time of the steps that were recorded, those in the middle half; `plain_ms` that of steps without
    stamps, measured in turn with them, and `stamps_cost` by what part these are longer. The lines, `barrier_ms`,
    `idle_ms`, `runner_ms` (from kernel to kernel, with the stamps) and `call_ms` (before and after the steps of a call)
    add up to `step_ms`. `alone_ms` is for how much of the step a single thread works: no part of the lines, whose
    times are divided by the number of threads. On a `device`, named where there is one, kernels that are recorded run
    one after the other, and those without stamps beside each other.
    """

    model: str
    mode: str
    batch: int
    threads: int
    step_ms: float
    plain_ms: float
    stamps_cost: float
    barrier_ms: float
    idle_ms: float
    alone_ms: float
    runner_ms: float
    call_ms: float
    steps: int
    lines: tuple[LineRow, ...]
    kernels: tuple[KernelTime, ...]
    layers: tuple[LayerTime, ...]
    ops: tuple[OpRow, ...]
    peak_gflops: float
    bandwidth_gbs: float
    bandwidths: tuple[tuple[int, float], ...]
    peaks_measured: str
    machine: str
    dtype: str
    clock: str
    threads_ms: tuple[dict[str, float], ...] = ()
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    tuning: dict[str, float] = field(default_factory=dict[str, float])
    device: str = ""

    def to_json(self) -> dict[str, Any]:
        """All of it, with paths of files as they were given."""
        return asdict(self)


@record(eq=False)
class Measured:
    """The measurement: the seconds of a step without stamps, by what part it is longer with them, and the seconds
    of such a step in which the runner had no part.
    """

    plain: float
    cost: float
    outside: float


@record
class TimelineSpan:
    """A stretch of a thread's time, in microseconds from the start of the step; `kind` is `work` or `wait`."""

    thread: int
    name: str
    kind: str
    begin: float
    lasted: float
    items: int
    lines: tuple[str, ...] = ()
