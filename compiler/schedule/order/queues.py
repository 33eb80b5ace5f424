"""Kernels for one thread that may run beside each other: small ones that do not use each other's results."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field, replace

from compiler.schedule.ir import Instance, Schedule
from compiler.schedule.order.share_work import work_of
from compiler.support.record import mutable_record


def deal_out(schedule: Schedule) -> Schedule:
    """The schedule with the queues of its instances: the first one for those of loops, and those that run once."""
    instances = schedule.instances
    work = [None if i.parallel else work_of(i, schedule.batch) for i in instances]
    for chain in schedule.chains:
        work[chain.first : chain.last + 1] = [None] * (chain.last + 1 - chain.first)
    pinned = {number for number, instance in enumerate(instances) if instance.once or instance.loops}
    return replace(schedule, queues=queues_of(instances, schedule.barriers, work, pinned))


@mutable_record
class _Queue:
    """Instances that one thread has to do in order, the buffers that they use, and how much work they are."""

    is_pinned: bool = False
    work: int = 0
    members: list[int] = field(default_factory=list[int])
    reads: set[int] = field(default_factory=set[int])
    writes: set[int] = field(default_factory=set[int])

    def add(self, number: int, instance: Instance, work: int) -> None:
        self.members.append(number)
        self.reads.update(instance.reads)
        self.writes.update(instance.writes)
        self.work += work

    def depends(self, instance: Instance) -> bool:
        touched = {*instance.reads, *instance.writes}
        return bool(self.writes & touched or self.reads & {*instance.writes})

    def take(self, other: _Queue) -> None:
        self.members += other.members
        self.reads |= other.reads
        self.writes |= other.writes
        self.work += other.work


def queues_of(
    instances: Sequence[Instance], barriers: Sequence[bool], work: Sequence[int | None], pinned: Collection[int]
) -> tuple[int, ...]:
    """The queue of each instance; between two barriers, instances of different queues are independent.

    `work` is that of an instance for one thread, None where several share it. The queues with the most work come first,
    so that dealing them out to threads in turn is fair. Those that are `pinned` run in queue 0.
    """
    found = [0] * len(instances)
    queues = [_Queue(is_pinned=True)]
    for number, (instance, barrier, own) in enumerate(zip(instances, barriers, work, strict=True)):
        if barrier:
            _number(queues, found)
            queues = [_Queue(is_pinned=True)]
        if own is None:
            continue
        joined, apart = [queues[0]] if number in pinned else [], list[_Queue]()
        for queue in queues[len(joined) :]:
            (joined if queue.depends(instance) else apart).append(queue)
        first = joined[0] if joined else _Queue()
        for other in joined[1:]:
            first.take(other)
        first.add(number, instance, own)
        queues = [first, *apart] if first.is_pinned else [*apart, first]
    _number(queues, found)
    return tuple(found)


def _number(queues: Sequence[_Queue], found: list[int]) -> None:
    """Write down the queues of a stretch between two barriers; the pinned one, if it has members, is the first."""
    used = sorted((k for k in queues if k.members), key=lambda k: (not k.is_pinned, -k.work, k.members[0]))
    for queue, members in enumerate(k.members for k in used):
        for number in members:
            found[number] = queue
