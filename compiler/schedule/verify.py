"""Checks the invariants of a schedule; a broken one is a fault of the compiler."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import field
from itertools import combinations, product
from typing import assert_never

from compiler.errors.diagnostics import CompilerBug
from compiler.loops import ir as loops
from compiler.loops.footprint import Footprint, blocks_of, count, indices_of, meet, operand_of, touched_by
from compiler.loops.verify import Broken, verify_kernel
from compiler.loops.verify_elements import Room, verify_elements
from compiler.schedule.ir import Arena, Instance, Schedule, spans_of_loops
from compiler.schedule.memory.plan_memory import ALIGNMENT, Life, size_in_arena
from compiler.schedule.order.chained_kernels import fills_evenly, keep_to_shards
from compiler.schedule.printer import print_schedule
from compiler.support.arrays import Array, np
from compiler.support.record import mutable_record
from compiler.types import BatchExtent, Extent, elements

PERMANENT = (Arena.TENSORS, Arena.CONTROL)
ALL = -1  # in place of a queue: the threads share the work


def verify_schedule(schedule: Schedule, batch: int) -> None:
    """Raise `CompilerBug` unless each kernel is sound, reads what was written, and no thread meets another's data.

    `batch` is the nominal size for which the schedule was made.
    """
    for kernel in dict.fromkeys(instance.kernel for instance in schedule.instances):
        verify_kernel(kernel)
    try:
        _Check(schedule, batch).run()
    except Broken as broken:
        raise CompilerBug("schedule", str(broken), _dump(schedule)) from None


def _dump(schedule: Schedule) -> str:
    """The schedule as text; one that is broken badly may have none."""
    try:
        return print_schedule(schedule)
    except (LookupError, ValueError, AssertionError):
        return repr(schedule)


@mutable_record
class _Check:
    schedule: Schedule
    batch: int
    epochs: list[int] = field(default_factory=list[int])

    def run(self) -> None:
        plan = self.schedule
        if [b.index for b in plan.buffers] != list(range(len(plan.places))):
            raise Broken("buffers are not numbered in order, or some have no place")
        if len(plan.barriers) != len(plan.instances):
            raise Broken("there is not one mark of a barrier for each instance")
        for barrier in plan.barriers:
            self.epochs.append((self.epochs[-1] if self.epochs else 0) + barrier)
        for instance in plan.instances:
            self.check_arguments(instance)
            self.check_in_place(instance)
            self.check_stores(instance)
        self.check_once()
        self.check_barriers()
        self.check_chains()
        self.check_written()
        self.check_memory()

    # one instance

    def check_arguments(self, instance: Instance) -> None:
        """The declared reads and writes are those of the kernel, on buffers of its types."""
        kernel = instance.kernel
        if len(instance.arguments) != len(kernel.buffers):
            raise Broken(f"{kernel.name} is given {len(instance.arguments)} of {len(kernel.buffers)} buffers")
        for number, argument in zip(instance.arguments, kernel.buffers, strict=True):
            if (number < 0) != argument.is_scratch:
                raise Broken(f"{kernel.name}: only scratch has no buffer behind it, but {argument.name} has {number}")
            if number >= 0 and self.schedule.buffers[number].dtype is not argument.dtype:
                raise Broken(f"{kernel.name}: buffer {number} is no {argument.dtype.value}")
        read, written = touched(instance)
        if not read <= set(instance.reads) or written != set(instance.writes):
            raise Broken(f"{kernel.name} reads {sorted(read)} and writes {sorted(written)}, unlike its declaration")

    def check_in_place(self, instance: Instance) -> None:
        """An element that is read of a written buffer is written nowhere, or in its place after it was read."""
        kernel = instance.kernel
        for buffer in set(instance.reads) & set(instance.writes):
            touching = _touching(instance, buffer)
            stores = [(number, i) for number, i in enumerate(touching) if isinstance(i, loops.Store)]
            operands = _operands(instance, buffer)
            if not stores or any(meet(part, _elements(store, instance)) for part in operands for _, store in stores):
                raise Broken(f"{kernel.name} overwrites buffer {buffer} while it needs the old content")
            loads = [(number, i) for number, i in enumerate(touching) if isinstance(i, loops.Load)]
            for (first, load), (second, store) in product(loads, stores):
                if _is_same_element(load, store, instance):
                    if first > second:
                        raise Broken(f"{kernel.name} reads buffer {buffer} again after it has overwritten it")
                elif _may_meet(load, store, instance):
                    raise Broken(f"{kernel.name} reads other elements of buffer {buffer} than it overwrites")

    def check_stores(self, instance: Instance) -> None:
        """No element is stored by two instructions of a kernel, unless the same row and column stores it twice."""
        for buffer in instance.writes:
            stores = [i for i in _touching(instance, buffer) if isinstance(i, loops.Store)]
            for one, other in combinations(stores, 2):
                if not _is_same_element(one, other, instance) and _may_meet(one, other, instance):
                    raise Broken(f"{instance.kernel.name} stores elements of buffer {buffer} twice")

    # all instances

    def check_written(self) -> None:
        """Each instance touches elements that are there, stores each once, and reads those that were written."""
        plan = self.schedule
        whole = {b.index for b in plan.buffers if plan.places[b.index].arena in PERMANENT} | self.static_inputs()
        data = set(whole)
        parts: dict[int, list[Footprint]] = {}
        for instance in plan.instances:
            if isinstance(instance.kernel, loops.FetchKernel) or not data.isdisjoint(instance.reads):
                data.update(instance.writes)
            verify_elements(instance.kernel, self.rooms(instance, data))
            for buffer in {*instance.reads} - whole:
                for read in self.footprints(instance, buffer, loops.Load):
                    if (missing := _missing(read, parts.get(buffer, ()))) is not None:
                        element = f"element {missing} of buffer {buffer}"
                        raise Broken(f"{instance.kernel.name} reads {element} before anything has written it")
            for buffer in {*instance.writes} - whole:
                extent = plan.buffers[buffer].elements
                if not (is_whole := not instance.moves and _stores_all(instance, buffer, extent)):
                    parts.setdefault(buffer, []).extend(filter(None, self.footprints(instance, buffer, loops.Store)))
                if is_whole or _fills(parts[buffer], extent):
                    whole.add(buffer)

    def rooms(self, instance: Instance, data: Container[int]) -> list[Room | None]:
        """The elements of each argument, and how far loops move it."""
        found: list[Room | None] = []
        for position, number in enumerate(instance.arguments):
            ends = [int(places[-1]) for places in self.moves(instance, position)]
            before, behind = (sum(pick(end, 0) for end in ends) for pick in (min, max))
            extent = self.schedule.buffers[number].elements
            found.append(Room(extent, number in data, before, behind) if number >= 0 else None)
        return found

    def moves(self, instance: Instance, argument: int) -> list[Array]:
        """By how many elements each loop moves an argument, at each of its places."""
        strides = instance.strides[argument] if instance.strides else ()
        return [
            np.arange(self.schedule.loops[k].steps) * step for k, step in zip(instance.loops, strides, strict=False)
        ]

    def footprints(
        self, instance: Instance, buffer: int, kind: type[loops.Load | loops.Store]
    ) -> Iterator[Footprint | None]:
        """The elements of a buffer that an instance loads or stores, at all places of its loops."""
        for argument, found in _footprints(instance, buffer, kind):
            if found is not None:
                for places in self.moves(instance, argument):
                    found = Footprint(np.unique(np.add.outer(found.first, places)), found.step)
            yield found

    def check_once(self) -> None:
        """Instances that run once come first; no other writes their buffers, but for parts of a fill."""
        plan = self.schedule
        once = [i for i in plan.instances if i.once]
        later = {b for i in plan.instances[len(once) :] for b in i.writes}
        for number, instance in enumerate(plan.instances):
            if instance.once != (number < len(once)):
                raise Broken(f"{instance.kernel.name} runs once but does not stand before all that runs each time")
            if instance.once and instance.reads and later & {*instance.reads, *instance.writes}:
                raise Broken(f"{instance.kernel.name} runs once, but its buffers are written at each step")

    def static_inputs(self) -> set[int]:
        """Buffers that the caller fills before the first step."""
        return {item.buffer for item in self.schedule.inputs if item.batch_axis is None}

    def check_barriers(self) -> None:
        """Between two barriers, queues may only share what none of them writes. Each loop is gone through twice."""
        self.check_stretch(list(range(len(self.schedule.instances))))
        for begin, last in spans_of_loops(self.schedule.instances):
            self.check_stretch([*range(begin, last + 1)] * 2)

    def check_stretch(self, numbers: list[int]) -> None:
        readers: dict[int, set[int]] = {}
        writers: dict[int, set[int]] = {}
        first = sum(i.once for i in self.schedule.instances)
        for number in numbers:
            instance = self.schedule.instances[number]
            if self.schedule.barriers[number] or number == first:
                readers, writers = {}, {}
            queue = ALL if instance.parallel else self.schedule.queue(number)
            own = self.own(number)
            for buffer in {*instance.reads, *instance.writes} - own:
                if _others(writers.get(buffer, set()), queue):
                    raise Broken(f"{instance.kernel.name} needs a barrier: buffer {buffer} was written just before")
            for buffer in {*instance.writes} - own:
                if _others(readers.get(buffer, set()), queue):
                    raise Broken(f"{instance.kernel.name} needs a barrier: buffer {buffer} may still be read")
            for marks, buffers in ((readers, instance.reads), (writers, instance.writes)):
                for buffer in buffers:
                    marks.setdefault(buffer, set()).add(queue)

    def check_chains(self) -> None:
        """The instances of a chain divide evenly, and each touches buffers that they write in its own shard only."""
        plan = self.schedule
        for chain in plan.chains:
            members = plan.instances[chain.first : chain.last + 1]
            if any(plan.barriers[chain.first + 1 : chain.last + 1]):
                raise Broken("a barrier stands inside a chain")
            if not keep_to_shards(members, chain.shards, plan.buffers):
                raise Broken(f"the shards of a chain at {members[0].kernel.name} are not independent")
            others = [*plan.instances[: chain.first], *plan.instances[chain.last + 1 :]]
            used = {b for i in others for b in (*i.reads, *i.writes) if not fills_evenly(i, plan.buffers[b])}
            if {*chain.passed_on} & used:
                raise Broken(f"a buffer inside a chain at {members[0].kernel.name} is used outside of it")

    def own(self, number: int) -> set[int]:
        """The buffers that the instances before it in the same chain touch, of which threads keep to their shards."""
        plan = self.schedule
        begin = next((s.first for s in plan.chains if s.first <= number <= s.last), number)
        return {b for i in plan.instances[begin:number] for b in (*i.reads, *i.writes)}

    def lives(self) -> dict[int, Life]:
        lives: dict[int, Life] = {}
        for instance, epoch in zip(self.schedule.instances, self.epochs, strict=True):
            for buffer in (*instance.reads, *instance.writes):
                lives[buffer] = Life(lives[buffer].first if buffer in lives else epoch, epoch)
        for begin, last in spans_of_loops(self.schedule.instances):
            self.extend(lives, begin, last)
        lasting = {b for i in self.schedule.instances if i.once for b in i.writes}
        for buffer in self.static_inputs() | lasting:
            lives[buffer] = Life(0, self.epochs[-1] if self.epochs else 0)
        return lives

    def extend(self, lives: dict[int, Life], begin: int, last: int) -> None:
        """A buffer lives over a whole loop if it is used outside too, or if a step reads it before it writes it."""
        written: set[int] = set()
        carried: set[int] = set()
        for instance in self.schedule.instances[begin : last + 1]:
            carried |= {*instance.reads} - written
            written |= {*instance.writes}
        span = Life(self.epochs[begin], self.epochs[last])
        for buffer in written | carried:
            life = lives[buffer]
            if buffer in carried or life.first < span.first or life.last > span.last:
                lives[buffer] = Life(min(life.first, span.first), max(life.last, span.last))

    def check_memory(self) -> None:
        """Buffers lie in their arena, aligned, and apart from all that are in use between the same barriers."""
        plan, lives = self.schedule, self.lives()
        for arena, size in ((Arena.STATIC, plan.static_bytes), (Arena.BATCH, plan.batch_bytes)):
            spans: list[tuple[int, int, int]] = []
            for index in lives:
                place = plan.places[index]
                if place.arena is arena:
                    buffer, unit = plan.buffers[index], ALIGNMENT
                    if arena is Arena.BATCH and size_in_arena(buffer) < ALIGNMENT:
                        unit = max(4, buffer.dtype.size)  # of which most capacities make 64
                    end = place.offset + size_in_arena(buffer)
                    if place.offset % unit or place.offset < 0 or end > size:
                        raise Broken(f"buffer {index} lies at {place.offset}..{end} of {size} bytes")
                    spans.append((place.offset, end, index))
            for first, second in _overlapping(sorted(spans)):
                if lives[first].first <= lives[second].last and lives[second].first <= lives[first].last:
                    raise Broken(f"buffers {first} and {second} are in use at once and share memory")


def touched(instance: Instance) -> tuple[set[int], set[int]]:
    """The buffers that an instance reads, and those that it writes, as its instructions say."""
    kernel, arguments = instance.kernel, instance.arguments
    read, written = set[int](), set[int]()
    match kernel:
        case loops.ScatterKernel() | loops.PrefixSumKernel():
            read, written = set(arguments[:-1]), {arguments[-1]}
        case loops.CopyKernel():
            read, written = {arguments[1]}, {arguments[0]}
        case loops.FetchKernel():
            written = {*arguments}
        case loops.CollectKernel():
            read = {*arguments}
        case loops.ContractionKernel(contraction=contraction):
            read = {arguments[contraction.lhs], arguments[contraction.rhs]}
        case loops.RowKernel() | loops.FlatKernel() | loops.ColumnKernel():
            pass
        case _:
            assert_never(kernel)
    for instruction in loops.instructions_of(kernel):
        if isinstance(instruction, loops.Load | loops.Store) and arguments[instruction.access.buffer] >= 0:
            (read if isinstance(instruction, loops.Load) else written).add(arguments[instruction.access.buffer])
    return read, written


def _touching(instance: Instance, buffer: int) -> list[loops.Load | loops.Store]:
    """The loads and stores of a buffer, in the order in which a row meets them."""
    accesses = [i for i in loops.instructions_of(instance.kernel) if isinstance(i, loops.Load | loops.Store)]
    return [i for i in accesses if instance.arguments[i.access.buffer] == buffer]


def _operands(instance: Instance, buffer: int) -> list[Footprint]:
    """The elements of a buffer that the product of an instance reads."""
    contract = loops.contraction_of(instance.kernel)
    if contract is None:
        return []
    sides = ((contract.lhs, True), (contract.rhs, False))
    return [operand_of(contract, is_left).footprint() for side, is_left in sides if instance.arguments[side] == buffer]


def _footprints(
    instance: Instance, buffer: int, kind: type[loops.Load | loops.Store]
) -> Iterator[tuple[int, Footprint | None]]:
    """Loads or stores of a buffer by an instance, with the argument; a store to a chosen place is none."""
    kernel = instance.kernel
    for moved in _touching(instance, buffer):
        if isinstance(moved, kind) and (isinstance(moved, loops.Load) or moved.index is None):
            yield moved.access.buffer, _elements(moved, instance)
    if kind is loops.Load or not isinstance(kernel, loops.StagedKernel):
        touches = instance.reads if kind is loops.Load else instance.writes
        for argument, block in blocks_of(kernel) if buffer in touches else ():
            if instance.arguments[argument] == buffer:
                yield argument, block.footprint()


def _stores_all(instance: Instance, buffer: int, extent: Extent) -> bool:
    """Whether one store writes all elements: as many as there are, each once and inside of the buffer."""
    kernel = instance.kernel
    if not isinstance(kernel, loops.StagedKernel):
        return any(b.size == extent and instance.arguments[a] == buffer for a, b in blocks_of(kernel))
    stores = [i for i in _touching(instance, buffer) if isinstance(i, loops.Store) and i.index is None]
    return any(elements(tuple(index.extent for index in indices_of(store, kernel))) == extent for store in stores)


def _missing(read: Footprint | None, parts: Sequence[Footprint]) -> int | None:
    """The first element that is read, but lies in no part that grows with the batch as it does."""
    known = [part.first for part in parts if read is not None and read.step in (0, part.step)]
    left = np.setdiff1d(read.first if read is not None else 0, np.concatenate(known) if known else ())
    return int(left[0]) if left.size else None


def _fills(parts: Sequence[Footprint], extent: Extent) -> bool:
    """Whether parts that lie within a buffer are all of it."""
    step = count(extent) if isinstance(extent, BatchExtent) else 0
    known = [part.first for part in parts if part.step == step]
    return bool(known) and np.unique(np.concatenate(known)).size == count(extent)


def _is_same_element(load: loops.Load | loops.Store, store: loops.Store, instance: Instance) -> bool:
    """Whether each element is loaded, or stored, by the row and column that store it, and by no others."""
    one, other = (
        (i.access.offset, i.access.rows, i.access.columns, i.index, i.index_stride, i.index_extent)
        for i in (load, store)
    )
    # Space COLUMN counts blocks of rows, the others rows.
    is_one_row = isinstance(instance.kernel, loops.ColumnKernel) and instance.kernel.rows == 1
    is_same_count = (load.space is loops.Space.COLUMN) == (store.space is loops.Space.COLUMN) or is_one_row
    is_same_row = is_same_count or not load.access.rows
    return one == other and is_same_row and _move_together(load, store, instance)


def _may_meet(load: loops.Load | loops.Store, store: loops.Store, instance: Instance) -> bool:
    """Whether an element that is stored may be loaded, or stored again, by whichever row."""
    return not _move_together(load, store, instance) or meet(_elements(load, instance), _elements(store, instance))


def _elements(moved: loops.Load | loops.Store, instance: Instance) -> Footprint | None:
    assert isinstance(instance.kernel, loops.StagedKernel)
    return touched_by(moved, instance.kernel)


def _move_together(load: loops.Load | loops.Store, store: loops.Store, instance: Instance) -> bool:
    """Whether loops move both from place to place alike."""
    return not instance.loops or instance.strides[load.access.buffer] == instance.strides[store.access.buffer]


def _overlapping(spans: list[tuple[int, int, int]]) -> Iterator[tuple[int, int]]:
    """Pairs of spans (start, end, buffer), sorted by their start, that have bytes in common."""
    for number, (_, end, first) in enumerate(spans):
        for start, _, second in spans[number + 1 :]:
            if start >= end:
                break
            yield first, second


def _others(queues: set[int], queue: int) -> bool:
    """Whether one of the queues may belong to another thread than `queue` does."""
    return bool(queues) and (queue == ALL or queues != {queue})
