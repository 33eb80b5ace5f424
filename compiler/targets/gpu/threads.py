"""A nest over vectors of LANES elements becomes one for single threads: each thread has a lane, LANES of them an item.

A vector is a scalar in each thread. What depends on no lane is computed by all of them alike. Lanes that a fold joins
are exchanged; scalars are stored by the first lane, while the others wait. Vectors of fewer lanes lie in the first
threads, and the others hold anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from typing import assert_never

from compiler.errors.diagnostics import CompilerBug
from compiler.loops import ir as loops
from compiler.nest import ir
from compiler.nest.arguments import Argument, ColumnsNumber, ExtentNumber, ItemsNumber
from compiler.nest.builder import Builder
from compiler.nest.ir import (
    ADDRESS,
    BEGIN,
    END,
    INDEX,
    SCRATCH,
    Constant,
    Index,
    Nest,
    Operand,
    Statement,
    Value,
    Zeros,
)
from compiler.nest.printer import print_nest
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record
from compiler.targets.gpu.device import BLOCK_THREADS
from compiler.types import DType

GROUPS = BLOCK_THREADS // LANES  # of a block, each of which does an item


def blocks_of(items: ir.Items) -> ir.Items:
    """Blocks that do these items: a block is within one of the `factor` parts of an extent, or in one part of it."""
    if items.factor == 1:
        return replace(items, chunk=items.chunk * GROUPS)
    return replace(items, factor=-(-items.factor // GROUPS))


def items_of(kernel: loops.Kernel, nest: Nest) -> ir.Items:
    """The items of a kernel, by its own extents where its code serves others too."""
    match kernel:
        case loops.RowKernel(rows=rows):
            return ir.Items(rows)
        case loops.FlatKernel(elements=elements, columns=columns):
            return ir.Items(elements, columns)
        case loops.ColumnKernel(outer=outer, columns=columns):
            return ir.Items(outer, 1, -(-count(columns) // LANES))
        case _:
            return nest.items


def for_threads(nest: Nest, kernel: loops.Kernel) -> Nest:
    """The nest of a thread, whose items are blocks; those of a nest that asks for its block are so already."""
    of_blocks = any(isinstance(statement, ir.Ordinal) for statement in nest.body)
    return _Threads(nest, kernel).of_blocks() if of_blocks else _Threads(nest, kernel).of_items()


@mutable_record
class _Threads:
    given: Nest
    kernel: loops.Kernel
    made: Builder = field(default_factory=Builder)
    arguments: list[Argument] = field(init=False)
    values: dict[int, Operand] = field(default_factory=dict[int, Operand])  # by the number of a value of the given nest
    entered: dict[int, Value] = field(
        default_factory=dict[int, Value]
    )  # arguments that the entry needs, by their slots
    own: set[int] = field(default_factory=set[int])  # numbers of stretches of scratch, and of addresses in them
    scratch_bytes: int = 0
    lane: Value = field(init=False)
    group: Value = field(init=False)
    of_any: set[int] = field(default_factory=set[int])  # values of the given nest: whether any lane holds
    is_apart: bool = False  # whether lanes do the same work here, or some of them none

    def of_items(self) -> Nest:
        self.enter()
        items = items_of(self.kernel, self.given)
        begin, end = self.items(items, self.made.define(ir.Ordinal, INDEX, "block"), self.group)
        self.values |= {BEGIN.number: begin, END.number: end}
        return self.nest(blocks_of(items))

    def of_blocks(self) -> Nest:
        self.enter()
        return self.nest(self.given.items)

    def enter(self) -> None:
        """Find out which thread this is."""
        made = self.made
        self.arguments = [*self.given.arguments]
        thread = made.define(ir.Ordinal, INDEX, "thread")
        self.lane = made.binary("and", thread, LANES - 1)
        self.group = made.binary("shift", thread, LANES.bit_length() - 1)
        self.values = {SCRATCH.number: SCRATCH}

    def nest(self, blocks: ir.Items) -> Nest:
        made = self.made
        self.all(self.given.body)
        return Nest(tuple(self.arguments), blocks, made.body, made.count, self.given.lines, self.scratch_bytes, 0)

    def items(self, items: ir.Items, block: Value, group: Value) -> tuple[Index, Index]:
        """The item of a group of a block, as a range that is empty where there is none."""
        made = self.made
        if items.factor == 1:
            item = made.add(made.mul(block, GROUPS), group)
            extent = made.add(self.extent(items), items.chunk - 1)
            last = extent if items.chunk == 1 else made.binary("div", extent, items.chunk)
            return item, made.minimum(made.add(item, 1), last)
        factor = self.factor(items)
        parts: Index = (
            -(-factor // GROUPS)
            if isinstance(factor, int)
            else made.binary("div", made.add(factor, GROUPS - 1), GROUPS)
        )
        outer: Index = block if parts == 1 else made.binary("div", block, parts)
        part: Index = 0 if parts == 1 else made.binary("rem", block, parts)
        place = made.add(made.mul(part, GROUPS), group)
        item = made.add(made.mul(outer, factor), place)
        following = made.add(item, 1)
        return item, made.select(made.compare("lt", place, factor), following, item)

    def extent(self, items: ir.Items) -> Index:
        """The extent of items, which is an argument where code serves kernels of several."""
        if isinstance(self.kernel, loops.RowKernel | loops.FlatKernel | loops.ColumnKernel):
            return self.argument(ItemsNumber())
        return items.extent if isinstance(items.extent, int) else self.argument(ExtentNumber(items.extent))

    def factor(self, items: ir.Items) -> Index:
        """The vectors of a row of a kernel over columns, whose code serves any number of them."""
        if not isinstance(self.kernel, loops.ColumnKernel) or ColumnsNumber() not in self.arguments:
            return items.factor
        width = self.argument(ColumnsNumber())
        return self.made.binary("div", self.made.add(width, LANES - 1), LANES)

    def argument(self, what: Argument) -> Value:
        if what not in self.arguments:
            self.arguments.append(what)
        slot = self.arguments.index(what)
        found = self.entered[slot] = self.made.given(slot, INDEX)
        return found

    # operands

    def all(self, body: Sequence[Statement]) -> None:
        for statement in body:
            self.made.line = statement.line
            self.statement(statement)

    def of(self, operand: Operand) -> Operand:
        match operand:
            case int():
                return operand
            case Value():
                return self.values[operand.number]
            case Zeros(type=type_):
                assert type_.dtype is not None
                return _number(type_.dtype, 0)
            case Constant(type=type_, value=value):
                assert type_.dtype is not None
                if isinstance(value, tuple):
                    return self.one_of(value, type_.dtype)
                return Constant(_scalar(type_), None) if value is None else _number(type_.dtype, value)

    def index(self, operand: Index) -> Index:
        found = self.of(operand)
        assert isinstance(found, Value | int)
        return found

    def address(self, address: Value) -> Value:
        found = self.of(address)
        assert isinstance(found, Value)
        return found

    def one_of(self, numbers: tuple[int | bool, ...], dtype: DType) -> Operand:
        """The number of the own lane."""
        made, first, known = self.made, numbers[0], len(numbers)
        if all(number == first for number in numbers):
            return _number(dtype, first)
        if dtype is DType.BOOL and numbers == tuple(k < sum(numbers) for k in range(known)):
            return made.compare("lt", self.lane, sum(numbers))
        step = numbers[1] - first
        if numbers == tuple(first + step * k for k in range(known)):
            return made.converted(made.add(made.mul(self.lane, step), int(first)), dtype)
        found = _number(dtype, numbers[-1])
        for lane in range(known - 2, -1, -1):
            found = made.select(made.compare("eq", self.lane, lane), _number(dtype, numbers[lane]), found)
        return found

    def define(self, given: Value, found: Operand) -> None:
        self.values[given.number] = found

    # statements

    def statement(self, statement: Statement) -> None:
        match statement:
            case ir.Loop():
                self.loop(statement)
            case ir.Guard(condition=condition):
                self.guard(statement, self.of(condition), self.is_apart or self.is_of_lanes(condition))
            case ir.Load() | ir.Gather():
                self.define(statement.result, self.load(statement))
            case ir.Store() | ir.Scatter():
                self.store(statement)
            case ir.Scratch(result=result):
                self.define(result, self.room(statement))
            case ir.Address(result=result, base=base, index=index, dtype=dtype):
                self.define(result, self.place(base, index, dtype))
            case ir.DrawKey(seed=seed, step=step, slot=slot):
                first, second = self.made.draw_key(self.of(seed), self.of(step), slot)
                self.define(statement.first, first)
                self.define(statement.second, second)
            case ir.Shuffle(result=result):
                self.define(result, self.shuffled(statement))
            case ir.Lane(result=result, vector=vector):
                self.define(result, self.exchanged(self.of(vector), 0))
            case ir.Broadcast(result=result, scalar=operand):
                self.define(result, self.of(operand))
            case ir.Any(result=result, mask=mask):
                self.of_any.add(result.number)
                self.define(result, self.of(mask))
            case ir.Prefetch() | ir.LoadFence() | ir.StoreFence():
                pass  # a device hides how far away memory is by other threads
            case ir.OpenTiles() | ir.MultiplyTiles() | ir.CloseTiles():
                raise self.wrong("tiles are registers of a CPU")
            case _:
                if isinstance(statement, ir.OfBlock):
                    self.of_device(statement)
                else:
                    self.computation(statement)

    def of_device(self, statement: ir.OfBlock) -> None:
        """What a nest of blocks asks of its device; its lanes are not threads yet."""
        match statement:
            case ir.Ordinal(result=result, of="group"):
                self.define(result, self.group)
            case ir.Ordinal(result=result, of="block"):
                self.define(result, self.made.define(ir.Ordinal, INDEX, "block"))
            case ir.Shared(result=result, start=start, bytes=size):
                self.define(result, self.made.define(ir.Shared, ADDRESS, start, size))
            case ir.Barrier(line=line):
                if self.is_apart:
                    raise self.wrong("threads meet where some of them are not")
                self.made.body.append(ir.Barrier(line))
            case ir.CopyAhead():
                self.copy_ahead(statement)
            case ir.CommitCopies() | ir.AwaitCopies():
                self.made.body.append(statement)  # of each thread alone
            case ir.MultiplyMatrices():
                self.matrices(statement)
            case ir.Ordinal() | ir.Exchange() | ir.Meet():
                raise self.wrong("it is for threads already")

    def copy_ahead(self, statement: ir.CopyAhead) -> None:
        target, source = self.address(statement.target), self.address(statement.source)
        targets, sources, kept = map(self.of, (statement.targets, statement.sources, statement.kept))
        self.made.copy_ahead(target, targets, source, sources, kept, statement.dtype)

    def matrices(self, statement: ir.MultiplyMatrices) -> None:
        if self.is_apart:
            raise self.wrong("threads multiply matrices where some of them are not")
        left, right, sums = ([*map(self.of, o)] for o in (statement.left, statement.right, statement.sums))
        found = self.made.multiply_matrices(left, right, sums, statement.rounding)
        for result, value in zip(statement.results, found, strict=True):
            self.define(result, value)

    def computation(self, statement: ir.Given | ir.Computation) -> None:
        result, made = statement.result, self.made
        type_ = _scalar(result.type)
        match statement:
            case ir.Given(slot=slot):
                found: Operand = self.entered.get(slot) or made.given(slot, type_)
            case ir.Binary(op=op, left=left, right=right):
                found = made.binary(op, self.of(left), self.of(right), type_)
            case ir.Compare(relation=relation, left=left, right=right):
                found = made.compare(relation, self.of(left), self.of(right))
            case ir.Select(condition=condition, yes=yes, no=no):
                found = made.select(self.of(condition), self.of(yes), self.of(no))
            case ir.Convert(value=value):
                found = made.define(ir.Convert, type_, self.of(value))
            case ir.Bits(value=value):
                found = made.define(ir.Bits, type_, self.of(value))
            case ir.RoundFactor(value=value, rounding=rounding):
                found = made.round_factor(self.of(value), rounding)
            case ir.Fma(left=left, right=right, addend=addend):
                found = made.fma(self.of(left), self.of(right), self.of(addend))
            case ir.Elementwise(op=op, operands=operands):
                found = made.elementwise(op, [self.of(operand) for operand in operands], type_)
            case ir.Number(address=address):
                found = made.number_of(self.address(address))
            case ir.Draw(first=first, second=second, places=places):
                found = made.draw((self.address(first), self.address(second)), self.of(places))
            case ir.Broadcast() | ir.Shuffle() | ir.Lane() | ir.Any():
                raise self.wrong("lanes are joined elsewhere")
            case ir.Rounded() | ir.PairFma():
                raise self.wrong("these are instructions of a processor")
            case _:
                assert_never(statement)
        self.define(result, found)

    def loop(self, loop: ir.Loop) -> None:
        made = self.made
        index = made.fresh(INDEX)
        carried = tuple(made.fresh(_scalar(value.type)) for value in loop.carried)
        start, stop, initial = self.index(loop.start), self.index(loop.stop), tuple(map(self.of, loop.initial))
        self.define(loop.index, index)
        for value, found in zip(loop.carried, carried, strict=True):
            self.define(value, found)
        around, made.body = made.body, list[Statement]()
        self.all(loop.body)
        following = tuple(map(self.of, loop.following))
        body, made.body = made.body, around
        carry = carried, initial, following
        body_of = ir.Loop(loop.line, index, start, stop, loop.step, *carry, body, loop.rounds, loop.over_items)
        made.body.append(body_of)

    def guard(self, statement: ir.Guard, condition: Operand, is_apart: bool) -> None:
        made, before = self.made, self.is_apart
        around, made.body, self.is_apart = made.body, list[Statement](), is_apart
        self.all(statement.body)
        body, made.body, self.is_apart = made.body, around, before
        made.body.append(ir.Guard(statement.line, condition, body, statement.is_rare))

    def is_of_lanes(self, condition: Operand) -> bool:
        """Whether a condition is that any lane holds: then each thread asks for itself alone."""
        return isinstance(condition, Value) and condition.number in self.of_any

    # memory

    def room(self, scratch: ir.Scratch) -> Value:
        """The lanes of a stretch that are the thread's own."""
        size = -(-scratch.bytes // LANES // 8) * 8 + 8
        found = self.made.define(ir.Scratch, ADDRESS, self.scratch_bytes, size)
        self.own.add(found.number)
        self.scratch_bytes += size
        return found

    def place(self, base: Value, index: Index, dtype: DType) -> Value:
        start, place = self.address(base), self.index(index)
        if start.number not in self.own:
            return self.made.define(ir.Address, ADDRESS, start, place, dtype)
        vectors = place // LANES if isinstance(place, int) else self.made.binary("shift", place, LANES.bit_length() - 1)
        found = self.made.define(ir.Address, ADDRESS, start, vectors, dtype)
        self.own.add(found.number)
        return found

    def of_lane(self, address: Value, type_: ir.Type) -> Value:
        """Where the element of the own lane lies."""
        start = self.address(address)
        if start.number in self.own:
            if type_.lanes != LANES:
                raise self.wrong("a part of a vector in scratch")
            return start
        if not _is_vector(type_):
            return start
        assert type_.dtype is not None
        return self.made.pointer(start, self.lane, type_.dtype)

    def load(self, load: ir.Load | ir.Gather) -> Operand:
        type_ = load.result.type
        dtype, made = type_.dtype, self.made
        assert dtype is not None
        if isinstance(load, ir.Load):
            align = dtype.size if _is_vector(type_) else load.align
            return made.load(self.of_lane(load.address, type_), _scalar(type_), align)
        places, mask = self.of(load.places), self.of(load.mask)
        assert isinstance(places, Value | int)
        if isinstance(mask, Constant):
            return made.load(made.pointer(self.address(load.address), places, dtype), _scalar(type_), dtype.size)
        kept = made.select(mask, places, 0)
        assert isinstance(kept, Value)
        found = made.load(made.pointer(self.address(load.address), kept, dtype), _scalar(type_), dtype.size)
        return made.select(mask, found, _number(dtype, 0))

    def store(self, store: ir.Store | ir.Scatter) -> None:
        type_, made = ir.type_of(store.value), self.made
        value, dtype = self.of(store.value), type_.dtype
        assert dtype is not None
        if isinstance(store, ir.Scatter):
            places = self.of(store.places)
            assert isinstance(places, Value | int)
            place = made.pointer(self.address(store.address), places, dtype)
        else:
            place = self.of_lane(store.address, type_)
        if not _is_vector(type_) and not self.is_apart:
            made.body.append(ir.Meet(store.line))
            with made.when(made.compare("eq", self.lane, 0)):
                made.store(value, place, dtype.size)
            made.body.append(ir.Meet(store.line))
            return
        conditions = [] if store.mask is None else [self.of(store.mask)]
        if 1 < type_.lanes < LANES:
            conditions.append(made.compare("lt", self.lane, type_.lanes))
        self.store_where([c for c in conditions if not isinstance(c, Constant)], value, place, dtype)

    def store_where(self, conditions: Sequence[Operand], value: Operand, place: Value, dtype: DType) -> None:
        if not conditions:
            self.made.store(value, place, dtype.size)
            return
        condition, *others = conditions
        assert isinstance(condition, Value)
        with self.made.when(condition):
            self.store_where(others, value, place, dtype)

    # lanes

    def shuffled(self, shuffle: ir.Shuffle) -> Operand:
        lanes, picks = ir.type_of(shuffle.left).lanes, shuffle.picks
        left = self.picked(self.of(shuffle.left), [pick if pick < lanes else None for pick in picks])
        if all(pick < lanes for pick in picks):
            return left
        assert shuffle.right is not None
        right = self.picked(self.of(shuffle.right), [pick - lanes if pick >= lanes else None for pick in picks])
        if all(pick >= lanes for pick in picks):
            return right
        is_left = self.one_of(tuple(pick < lanes for pick in picks), DType.BOOL)
        return self.made.select(is_left, left, right)

    def picked(self, value: Operand, picks: Sequence[int | None]) -> Operand:
        """For each lane the value of another one, where it needs any."""
        shifts = {pick - lane for lane, pick in enumerate(picks) if pick is not None}
        if shifts <= {0}:
            return value
        if len(shifts) == 1:
            lane = self.made.binary("and", self.made.add(self.lane, shifts.pop()), LANES - 1)
            return self.exchanged(value, lane)
        lane = self.one_of(tuple(pick or 0 for pick in picks), DType.I64)
        assert isinstance(lane, Value | int)
        return self.exchanged(value, lane)

    def exchanged(self, value: Operand, lane: Index) -> Operand:
        if not isinstance(value, Value):
            return value
        if self.is_apart:
            raise self.wrong("lanes meet where some of them are not")
        return self.made.define(ir.Exchange, value.type, value, lane)

    def wrong(self, message: str) -> CompilerBug:
        return CompilerBug("for_threads", message, print_nest(self.given))


def _is_vector(type_: ir.Type) -> bool:
    return type_.lanes > 1 or (type_.dtype is not None and type_ is ir.single(type_.dtype))


def _scalar(type_: ir.Type) -> ir.Type:
    return type_ if type_.dtype is None else ir.vector(type_.dtype, 1)


def _number(dtype: DType, value: float | int | bool) -> Operand:
    return int(value) if dtype is DType.I64 else Constant(ir.vector(dtype, 1), value)
