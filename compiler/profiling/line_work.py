"""Kernels that did not run to the work of each line and kernel: the rows of a profile without its times."""

from __future__ import annotations

from compiler.profiling.attribution import Attribution
from compiler.profiling.kernel_entries import kernel_entries
from compiler.profiling.report import KernelTime, LineRow
from compiler.support.record import record
from compiler.targets.lowered import Lowered
from compiler.targets.target import Peaks


@record
class Work:
    """The operations and bytes of a step; the times in its rows are 0."""

    lines: tuple[LineRow, ...]
    kernels: tuple[KernelTime, ...]


def work_without_times(lowered: Lowered, batch: int, in_place: bool) -> Work:
    """The work of a step of `batch` rows; `in_place` as in `kernel_entries`."""
    rows = Attribution({1: Peaks(1, 1.0, ((1, 1.0),), "")}, 1, {})  # peaks only divide times, and there are none
    for entry in kernel_entries(lowered, batch, in_place):
        rows.add(entry, [0.0], 1)
    return Work(rows.lines(), rows.kernels())
