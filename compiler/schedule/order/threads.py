"""Three passes that say which threads run an instance, and where these meet: work, barriers and queues."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import field, replace
from functools import partial

from compiler.loops import ir as loops
from compiler.schedule.ir import Instance, Schedule, spans_of_loops
from compiler.support.record import mutable_record
from compiler.types import Extent, elements, size_at


def share_work(schedule: Schedule) -> Schedule:
    """The schedule whose instances say whether their work, at the nominal batch, pays for a second thread."""
    least, batch = schedule.machine.tuning.serial_work, schedule.batch
    instances = [replace(i, parallel=True) if work_of(i, batch) > least else i for i in schedule.instances]
    return replace(schedule, instances=tuple(instances))


def shared_rows(schedule: Schedule) -> int:
    """The fewest rows of a step at which work that is shared at the nominal batch pays for it; 0 where none is shared.

    Bits do not depend on it.
    """
    least, fewest = schedule.machine.tuning.serial_work, schedule.batch
    shared = [instance for instance in schedule.instances if instance.parallel]
    for instance in shared:
        if work_of(instance, fewest - 1) > least:
            fewest = bisect_right(range(fewest), least, key=partial(work_of, instance))
    return max(1, fewest) if shared else 0


def work_of(instance: Instance, batch: int) -> int:
    """Some measure of the work of an instance at the nominal batch, in operations on elements."""
    kernel = instance.kernel
    work = size_at(elements(_counted(kernel)), batch)
    if not isinstance(kernel, loops.StagedKernel):
        return work
    work_of_element = 1 + sum([len(stage.body) for stage in kernel.stages])
    contraction = loops.contraction_of(kernel)
    if contraction is None:
        return work * work_of_element
    depth = size_at(elements(tuple([axis.extent for axis in contraction.k])), batch)
    return work * work_of_element + work * depth // 4 + contraction.n * depth  # weights for few rows come from far


def _counted(kernel: loops.Kernel) -> tuple[Extent, ...]:
    """The extents that make up the work of a kernel: of one outer block, unless it reduces rows."""
    match kernel:
        case loops.FlatKernel():
            return (kernel.elements,)
        case loops.ScatterKernel() | loops.PrefixSumKernel():
            return kernel.rows, kernel.columns
        case _:
            return loops.extents_of(kernel)


def set_barriers(schedule: Schedule) -> Schedule:
    """The schedule with a barrier before each instance that meets what another thread may have written, or still reads.

    None is needed behind the instances that run once: the runner sets one there. A loop whose work is shared has one at
    the start of each step; a chain has none inside.
    """
    instances = schedule.instances
    ends = {chain.first: chain.last for chain in schedule.chains}
    inside = {k for chain in schedule.chains for k in range(chain.first + 1, chain.last + 1)}
    spans = spans_of_loops(instances)
    starts = {first for first, last in spans if any(i.parallel for i in instances[first : last + 1])}
    found: list[bool] = []
    written: dict[int, bool] = {}  # by buffer, whether by several threads
    read: dict[int, bool] = {}
    behind_once = sum([i.once for i in instances])
    for number, instance in enumerate(instances):
        if number == behind_once:
            written, read = {}, {}
        wide = instance.parallel
        together = instances[number : ends.get(number, number) + 1]
        reads, writes = [b for i in together for b in i.reads], [b for i in together for b in i.writes]
        meets = [b for b in (*reads, *writes) if b in written and (wide or written[b])]
        meets += [b for b in writes if b in read and (wide or read[b])]
        is_met = (bool(meets) or number in starts) and number not in inside
        if is_met:
            written, read = {}, {}
        found.append(is_met)
        for buffers, used in ((instance.writes, written), (instance.reads, read)):
            for b in buffers:
                used[b] = wide or (b in used and used[b])
    return replace(schedule, barriers=tuple(found))


def deal_out(schedule: Schedule) -> Schedule:
    """The schedule with the queues of its instances: the first one for those of loops, and those that run once.

    Small kernels that do not use each other's results may run beside each other, each on one thread.
    """
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
