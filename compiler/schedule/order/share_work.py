"""Which instances are worth several threads, at the nominal batch."""

from __future__ import annotations

from dataclasses import replace

from compiler.loops.ir import (
    FlatKernel,
    Kernel,
    PrefixSumKernel,
    ScatterKernel,
    StagedKernel,
    contraction_of,
    extents_of,
)
from compiler.schedule.ir import Instance, Schedule
from compiler.types import Extent, elements, size_at


def share_work(schedule: Schedule) -> Schedule:
    """The schedule whose instances say whether their work pays for a second thread."""
    least, batch = schedule.machine.tuning.serial_work, schedule.batch
    instances = [replace(i, parallel=True) if work_of(i, batch) > least else i for i in schedule.instances]
    return replace(schedule, instances=tuple(instances))


def work_of(instance: Instance, batch: int) -> int:
    """Some measure of the work of an instance at the nominal batch, in operations on elements."""
    kernel = instance.kernel
    work = size_at(elements(_counted(kernel)), batch)
    if not isinstance(kernel, StagedKernel):
        return work
    work_of_element = 1 + sum([len(stage.body) for stage in kernel.stages])
    contraction = contraction_of(kernel)
    if contraction is None:
        return work * work_of_element
    depth = size_at(elements(tuple([axis.extent for axis in contraction.k])), batch)
    return work * work_of_element + work * depth // 4 + contraction.n * depth  # weights for few rows come from far


def _counted(kernel: Kernel) -> tuple[Extent, ...]:
    """The extents that make up the work of a kernel: of one outer block, unless it reduces rows.

    Of a flat kernel over the batch, each element counts as a row.
    """
    match kernel:
        case FlatKernel(elements=int(count), columns=columns):
            return -(-count // columns), columns
        case FlatKernel():
            return kernel.elements, kernel.columns
        case ScatterKernel() | PrefixSumKernel():
            return kernel.rows, kernel.columns
        case _:
            return extents_of(kernel)
