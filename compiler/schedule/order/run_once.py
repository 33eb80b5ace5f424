"""Kernels that read nothing but tensors that stay as they are while the program runs, run once, before all else."""

from __future__ import annotations

from dataclasses import replace

from compiler.graph.ir import PERSISTENT
from compiler.loops.ir import BatchCount, Kernel, Random, extents_of, instructions_of
from compiler.schedule.ir import Schedule
from compiler.types import depends_on_batch


def run_once(schedule: Schedule) -> Schedule:
    """The schedule with such instances in front, out of their loops."""
    once = _lasting(schedule) | _fills(schedule)
    first = [replace(i, once=True, loops=(), strides=()) for k, i in enumerate(schedule.instances) if k in once]
    rest = [i for k, i in enumerate(schedule.instances) if k not in once]
    return replace(schedule, instances=(*first, *rest))


def _lasting(schedule: Schedule) -> set[int]:
    """The numbers of the instances whose results are the same at each step.

    None writes over what an instance before it reads that stays behind it.
    """
    instances, buffers = schedule.instances, schedule.buffers
    given = {b.index for b in buffers if b.role is not None}
    kept = {b.index for b in buffers if b.role in PERSISTENT} - {b for i in instances for b in i.writes}
    fixed = [(k, i.kernel) for k, i in enumerate(instances) if not (i.checked_stores or i.moves)]
    chosen = {k for k, kernel in fixed if not (depends_on_batch(extents_of(kernel)) or _draws(kernel))}
    while True:
        others = _written_by_others(schedule, chosen)
        lasting = kept | {b for k in chosen for b in instances[k].writes} - others - given - schedule.carried
        fitting = {k for k in chosen if {*instances[k].reads, *instances[k].writes} <= lasting}
        if fitting == chosen:
            return chosen
        chosen = fitting


def _written_by_others(schedule: Schedule, chosen: set[int]) -> set[int]:
    """The buffers that each step writes, and those that the `chosen` write after a step has read them."""
    written, read = set[int](), set[int]()
    for number, instance in enumerate(schedule.instances):
        if number in chosen:
            written |= read & {*instance.writes}
        else:
            written |= {*instance.writes}
            read |= {*instance.reads}
    return written


def _fills(schedule: Schedule) -> set[int]:
    """The numbers of what fills a buffer with numbers, such as a halo, that others write only parts of.

    The parts are the same in each step, so what stands around them stays. It costs the buffer a place of its own,
    which training, with many of them, would rather use again.
    """
    if schedule.updates:
        return set()
    instances = schedule.instances
    kept = {b for i in instances for b in {*i.reads} & {*i.writes}} | schedule.carried
    filling = [(k, i) for k, i in enumerate(instances) if not (i.reads or i.checked_stores or i.moves)]
    return {k for k, i in filling if not (_draws(i.kernel) or kept & {*i.writes})}


def _draws(kernel: Kernel) -> bool:
    """Whether a kernel draws, or computes with the size of the batch."""
    return any(isinstance(i, Random | BatchCount) for i in instructions_of(kernel))
