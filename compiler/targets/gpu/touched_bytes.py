"""Which bytes each line of an execution plan reads and writes, for a target that runs lines beside each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from compiler.loops.ir import CollectKernel, FetchKernel
from compiler.schedule.ir import Arena, BufferPlace, Instance, Schedule
from compiler.schedule.memory.plan_memory import size_in_arena
from compiler.targets.lowered import Lowered
from compiler.targets.manifest import BATCH_ARENA, CONTROL_ARENA, FIRST_TENSOR, STATIC_ARENA, Touched

HEAD_BYTES = 40  # of the control block: what a step changes lies there, and what tells which step it is
HEAD = Touched(CONTROL_ARENA, 0, HEAD_BYTES, False)


def with_touched_bytes(lowered: Lowered) -> Lowered:
    """The program with a line of touched bytes for each entry of its manifest; a mark touches none."""
    instances = dict(zip(lowered.firsts, (instance for _, instance in lowered.instances), strict=True))
    lines = tuple(
        touched_bytes(instances[entry.first_argument], lowered.plan) if entry.function >= 0 else ()
        for entry in lowered.manifest.entries
    )
    return replace(lowered, manifest=replace(lowered.manifest, touched=lines))


def touched_bytes(instance: Instance, plan: Schedule) -> tuple[Touched, ...]:
    """What an instance touches, buffers whole, at whichever place of its loops."""
    found = [*_of(instance.reads, plan, False), *_of(instance.writes, plan, True)]
    if isinstance(instance.kernel, FetchKernel | CollectKernel):
        found.append(HEAD)
    return tuple(dict.fromkeys(found))


def _of(buffers: Iterable[int], plan: Schedule, writes: bool) -> Iterable[Touched]:
    for number in buffers:
        place, size = plan.places[number], size_in_arena(plan.buffers[number])
        yield _touched(place, size, writes)


def _touched(place: BufferPlace, size: int, writes: bool) -> Touched:
    match place.arena:
        case Arena.TENSORS:
            return Touched(FIRST_TENSOR + place.offset, 0, size, writes)
        case Arena.STATIC:
            return Touched(STATIC_ARENA, place.offset, place.offset + size, writes)
        case Arena.BATCH:
            return Touched(BATCH_ARENA, place.offset, place.offset + size, writes)
        case Arena.CONTROL:
            return HEAD
