"""Gives every buffer its place: values that are never needed between the same two barriers share memory."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from operator import itemgetter

from compiler.graph.ir import PERSISTENT
from compiler.schedule.addresses import count
from compiler.schedule.ir import CONTROLLED, Arena, Buffer, BufferPlace, Schedule, spans_of_loops
from compiler.support.record import record
from compiler.types import BatchExtent

ALIGNMENT = 64  # bytes; in the batch arena, a capacity that is a multiple of 16 gives the same to 4-byte units
APART = 64  # bytes, at least, between static buffers; what is read behind one may be another, or behind the arena


@record
class Life:
    """The first and last stretch between barriers in which a buffer is used."""

    first: int
    last: int


def plan_memory(schedule: Schedule) -> Schedule:
    """The schedule with a place for each buffer, and the sizes of the arenas."""
    fixed: dict[int, BufferPlace] = {}
    for arena, roles in ((Arena.TENSORS, PERSISTENT), (Arena.CONTROL, CONTROLLED)):
        own = [b.index for b in schedule.buffers if b.role in roles]
        fixed.update({index: BufferPlace(arena, position) for position, index in enumerate(own)})
    places, static, batch = places_of(schedule.buffers, lives_of(schedule), fixed)
    ordered = tuple([places.get(b.index, BufferPlace(Arena.STATIC, 0)) for b in schedule.buffers])
    return replace(schedule, places=ordered, static_bytes=static, batch_bytes=batch)


def lives_of(schedule: Schedule) -> dict[int, Life]:
    """When each buffer is used, in stretches between barriers."""
    lives: dict[int, Life] = {}
    epochs = list(accumulate(map(int, schedule.barriers)))
    for instance, epoch in zip(schedule.instances, epochs, strict=True):
        for b in (*instance.reads, *instance.writes):
            lives[b] = Life(lives[b].first if b in lives else epoch, epoch)
    _extend_over_loops(lives, schedule, epochs)
    always = [item.buffer for item in schedule.inputs if item.batch_axis is None]  # the caller writes it before all
    always += [b for i in schedule.instances if i.once for b in i.writes]
    lives.update(dict.fromkeys(always, Life(0, max(epochs, default=0))))
    return lives


def _extend_over_loops(lives: dict[int, Life], schedule: Schedule, epochs: Sequence[int]) -> None:
    """A buffer that is used in a loop and outside, or carried by it, is needed at each of its steps."""
    instances = schedule.instances
    for first, last in spans_of_loops(instances):
        inside = {b for i in instances[first : last + 1] for b in (*i.reads, *i.writes)}
        outside = {b for i in (*instances[:first], *instances[last + 1 :]) for b in (*i.reads, *i.writes)}
        for b in inside & (outside | schedule.carried):
            life = lives[b]
            lives[b] = Life(min(life.first, epochs[first]), max(life.last, epochs[last]))


def places_of(
    buffers: Sequence[Buffer], lives: Mapping[int, Life], fixed: Mapping[int, BufferPlace]
) -> tuple[dict[int, BufferPlace], int, int]:
    """Places for all buffers in `lives` that are not `fixed`; then the bytes of the static and the batch arena."""
    places = dict(fixed)
    sizes: dict[Arena, int] = {}
    for arena in (Arena.STATIC, Arena.BATCH):
        mine = [b for b in buffers if b.index in lives and b.index not in fixed and _arena(b) is arena]
        sizes[arena] = _pack(mine, lives, places, arena)
    return places, sizes[Arena.STATIC], sizes[Arena.BATCH]


def size_in_arena(buffer: Buffer) -> int:
    """Bytes, or bytes for each row of the batch."""
    size = count(buffer.elements) * buffer.dtype.size
    if isinstance(buffer.elements, BatchExtent):
        unit = ALIGNMENT if size >= ALIGNMENT else 4
        return -(-size // unit) * unit
    return -(-(size + APART) // ALIGNMENT) * ALIGNMENT


def _arena(buffer: Buffer) -> Arena:
    return Arena.BATCH if isinstance(buffer.elements, BatchExtent) else Arena.STATIC


def _pack(buffers: Sequence[Buffer], lives: Mapping[int, Life], places: dict[int, BufferPlace], arena: Arena) -> int:
    """Largest first, each at the lowest multiple of its elements' size that is free for its whole life."""
    placed: list[tuple[int, int, int, int]] = []  # begin, end, first and last stretch: by begin
    total = 0
    for buffer in sorted(buffers, key=lambda b: (-size_in_arena(b), b.index)):
        life, size = lives[buffer.index], size_in_arena(buffer)
        offset = 0
        born, dead = life.first, life.last
        for start, end, first, last in placed:
            if last < born or dead < first:
                continue
            if offset + size <= start:
                break
            if end > offset:
                offset = -(-end // buffer.dtype.size) * buffer.dtype.size
        places[buffer.index] = BufferPlace(arena, offset)
        insort(placed, (offset, offset + size, born, dead), key=itemgetter(0))
        total = max(total, offset + size)
    return total
