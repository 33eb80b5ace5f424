"""A schedule to a picture of its memory: which buffer lies where, and when it is needed."""

from __future__ import annotations

from itertools import accumulate

from compiler.graph.ir import Origin
from compiler.schedule.ir import Arena, Schedule
from compiler.schedule.memory.plan_memory import lives_of, size_in_arena
from compiler.support.record import record
from compiler.targets.manifest import capacity_for


@record
class LivingBuffer:
    """`first` and `last` number the stretches between barriers in which it is needed; places and sizes are in bytes.

    `origins` are those of the kernel that first writes it; none of what the caller writes.
    """

    name: str
    is_of_batch: bool
    offset: int
    size: int
    first: int
    last: int
    origins: tuple[Origin, ...]


@record
class MemoryPicture:
    """The buffers of a step, by their places; `kernels` has the names of the kernels of each stretch."""

    buffers: tuple[LivingBuffer, ...]
    kernels: tuple[tuple[str, ...], ...]
    static_bytes: int
    batch_bytes: int

    @property
    def peak(self) -> int:
        """The stretch in which most bytes are needed, the first of several."""
        needed = [0] * len(self.kernels)
        for buffer in self.buffers:
            for stretch in range(buffer.first, buffer.last + 1):
                needed[stretch] += buffer.size
        return max(range(len(needed)), key=needed.__getitem__, default=0)


def memory_picture(schedule: Schedule, batch: int) -> MemoryPicture:
    capacity = capacity_for(schedule.batch_bytes, batch)
    stretches = list(accumulate(map(int, schedule.barriers)))
    kernels: list[list[str]] = [[] for _ in range(max(stretches, default=-1) + 1)]
    writers: dict[int, tuple[Origin, ...]] = {}
    for instance, stretch in zip(schedule.instances, stretches, strict=True):
        kernels[stretch].append(instance.kernel.name)
        for buffer in instance.writes:
            writers.setdefault(buffer, instance.origins)
    found: list[LivingBuffer] = []
    for index, life in lives_of(schedule).items():
        place, buffer = schedule.places[index], schedule.buffers[index]
        if place.arena in (Arena.STATIC, Arena.BATCH):
            is_of_batch = place.arena is Arena.BATCH
            times = capacity if is_of_batch else 1
            offset, size = place.offset * times, size_in_arena(buffer) * times
            origins = writers.get(index, ())
            found.append(LivingBuffer(buffer.name or "", is_of_batch, offset, size, life.first, life.last, origins))
    found.sort(key=lambda b: (b.is_of_batch, b.offset, b.first))
    sizes = schedule.static_bytes, schedule.batch_bytes * capacity
    return MemoryPicture(tuple(found), tuple(map(tuple, kernels)), *sizes)
