"""Row blocking (unroll and jam): values that several rows read, such as pixels of a window, are loaded once for all.

Of each vector of columns, the elements that a block of rows reads stay in registers, and so does what is the same for
all rows, such as the weights of a depthwise convolution. In a kernel over columns an item is a whole image, whose sums
stay in scratch. Vectors are as wide as registers: a wider one would be several sums, and take the registers of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from compiler.loops.ir import ColumnKernel, Compute, Instruction, Load, Reduce, RowKernel, Store
from compiler.nest.builder import Builder
from compiler.nest.ir import BEGIN, END, TRUTH, Index, Items, Nest, Operand, Value, vector
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record
from compiler.targets.cpu.iteration_space import RowBlock
from compiler.targets.cpu.kernel_frame import in_memory
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.rows.ir import Ask, Bound, Path, RowLoops, Way, lowest_of, path_of, place_of, way_of
from compiler.types import DType


def build_row_blocks(k: KernelNest, kernel: RowKernel, loops: RowLoops) -> Nest:
    """The nest of a kernel over rows, of which a block is an item: see `row_block_of`."""
    nest, block = k.nest, loops.block
    k.open()
    group = _Group(k, loops)
    if loops.apart:
        group.find_direction()
    with nest.each(BEGIN, END) as number:
        group.begin(_first_row(nest, block, number))
        group.all_vectors({})
    if loops.streams:
        nest.store_fence()  # stores past the caches are in no order with others
    return k.close(Items(kernel.rows, block.rows))


def _first_row(nest: Builder, block: RowBlock, number: Index) -> Index:
    if block.lines == 1:
        return nest.mul(number, block.pixels)
    across = block.width // block.pixels
    lines = nest.mul(nest.binary("div", number, across), block.stretch)
    return nest.add(lines, nest.mul(nest.binary("rem", number, across), block.pixels))


def build_sums_in_row_blocks(k: KernelNest, kernel: ColumnKernel, loops: RowLoops) -> Nest:
    """The nest of a kernel over columns that takes a block of rows at once, and all columns of an image in an item."""
    nest = k.nest
    (stage,) = kernel.stages
    columns = count(kernel.columns)
    reduces = [i for i in stage.body if isinstance(i, Reduce)]
    k.open()
    group = _Group(k, loops)
    for number, reduce in enumerate(reduces):
        k.reserve(-2 - number, count(kernel.columns) * reduce.dtype.size)
    sums = {reduce.result: k.bases[-2 - number] for number, reduce in enumerate(reduces)}
    with nest.each(BEGIN, END) as outer:
        with nest.each(0, columns, k.lanes) as column:
            for reduce in reduces:
                _store(k, reduce, k.identity(reduce, k.lanes), nest.pointer(sums[reduce.result], column, reduce.dtype))
        first = nest.mul(outer, count(kernel.rows))
        with nest.each(0, count(kernel.rows), loops.block.rows) as row:
            group.begin(nest.add(first, row))
            group.all_vectors(sums)
        k.new_row(outer, stage.after)
        with nest.each(0, columns, k.lanes) as column:
            for reduce in reduces:
                with k.of(reduce):
                    k.put(reduce.result, _loaded(k, reduce, nest.pointer(sums[reduce.result], column, reduce.dtype)))
            for instruction in stage.after:
                k.vector(instruction, outer, column, None)
    return k.close(Items(kernel.outer))


def _store(k: KernelNest, of: Reduce, value: Operand, place: Value) -> None:
    with k.of(of):
        k.nest.store(value, place, k.lanes * of.dtype.size)


def _loaded(k: KernelNest, of: Reduce, place: Value) -> Value:
    return k.nest.load(place, vector(of.dtype, k.lanes), k.lanes * of.dtype.size)


class _Group:
    """A block of rows and the instructions on them, for one vector of columns after the other."""

    def __init__(self, k: KernelNest, loops: RowLoops) -> None:
        self.k, self.loops, self.block, self.columns = k, loops, loops.block, count(loops.kernel.columns)
        self.body, self.moved = loops.body, loops.moved
        self.streamed = [self.body[number] for number in loops.streams]
        self.first: Index = 0
        self.downwards: Value | None = None
        self.starts: dict[Way, Value] = {}  # the address of the lowest element that is read in this way
        self.lowest = lowest_of(loops)
        if loops.zeros:
            k.reserve(-1, loops.zeros)
            k.nest.clear(k.bases[-1], loops.zeros, vector(DType.U8, 64))

    def ways(self, moved: Load | Store) -> list[Way]:
        """How each row of the block finds the element that is moved."""
        return [way_of(self.block, moved, row) for row in range(self.block.rows)]

    def begin(self, first: Index) -> None:
        """Go to the group of that first row."""
        k, nest, self.first = self.k, self.k.nest, first
        paths: dict[Path, Value] = {}
        for moved in self.moved:
            with k.of(moved):
                type_ = in_memory(moved.dtype)
                path = path_of(moved.access)
                if path not in paths:
                    paths[path] = nest.pointer(k.bases[path[0]], k.number(path[1], first), type_)
                for way in dict.fromkeys(((path, ()), *self.ways(moved))):
                    start = nest.pointer(paths[path], self.lowest[way], type_)
                    tests = [test for bound in way[1] for test in self.tests(bound)]
                    for test in tests[1:]:
                        tests[0] = nest.binary("and", tests[0], test, TRUTH)
                    if tests:
                        start = nest.select(tests[0], start, k.bases[-1])
                    self.starts[way] = start

    def tests(self, bound: Bound) -> list[Value]:
        term, least, most = bound
        digit = self.k.digit(term, self.first)
        found = [] if least is None else [self.k.nest.compare("ge", digit, least)]
        return found if most is None else [*found, self.k.nest.compare("le", digit, most)]

    def start(self, moved: Load | Store) -> Value:
        """Where column 0 of some row lies, as a number."""
        place = self.k.nest.pointer(
            self.k.bases[moved.access.buffer], place_of(self.block, moved, 0), in_memory(moved.dtype)
        )
        return self.k.nest.number_of(place)

    def find_direction(self) -> None:
        """Whether the columns go from the last to the first: see `RowLoops.apart`."""
        nest, period = self.k.nest, self.loops.apart
        stores = [self.start(i) for i in self.moved if i in self.streamed]
        up: Index = period
        down: Index = period
        loads = {path_of(moved.access): moved for moved in self.moved if isinstance(moved, Load)}
        for load in loads.values():
            start = self.start(load)
            for store in stores:
                ahead, behind = (nest.sub(a, b) for a, b in ((store, start), (start, store)))
                up, down = (
                    nest.minimum(nest.add(nest.binary("and", nest.add(apart, -1), period - 1), 1), least)
                    for apart, least in ((ahead, up), (behind, down))
                )
        self.downwards = nest.compare("lt", up, down)

    def all_vectors(self, sums: dict[int, Value]) -> None:
        """All that is done with the rows; `sums` says where the sums of columns lie."""
        nest, columns = self.k.nest, self.columns
        with nest.each(0, columns, LANES) as column:
            if self.downwards:
                from_the_end = nest.sub(columns - LANES, column)
                column = nest.select(self.downwards, from_the_end, column)
            self.vectors(column, sums)

    def vectors(self, column: Index, sums: dict[int, Value]) -> None:
        """All that is done with LANES columns from `column` on. They are stored at last, whole lines at once."""
        for ask in self.loops.asks:
            _Vectors(self, column).ask(ask)
        parts = [_Vectors(self, self.k.nest.add(column, part)) for part in range(0, LANES, self.k.lanes)]
        stored: dict[int, list[Sequence[Operand]]] = {}
        for here in parts:
            for number, instruction in enumerate(self.body):
                with self.k.of(instruction):
                    if isinstance(instruction, Reduce):
                        here.add(instruction, sums[instruction.result])
                    elif isinstance(instruction, Store):
                        stored.setdefault(number, []).append(here.stored(instruction))
                    else:
                        for row in range(self.block.rows):
                            here.emit(instruction, row)
        for number, values in stored.items():
            store = self.body[number]
            assert isinstance(store, Store)
            with self.k.of(store):
                for row in range(self.block.rows):
                    for here, of_part in zip(parts, values, strict=True):
                        more = row < self.block.rows - 1 or here is not parts[-1]
                        here.store(store, row, of_part[row], more)


@mutable_record
class _Vectors:
    """A vector of columns of all rows of a group. Elements are loaded where they are used first."""

    group: _Group
    column: Index
    loads: dict[int, Load] = field(default_factory=dict[int, Load])
    loaded: dict[tuple[Way, int], Value] = field(default_factory=dict[tuple[Way, int], Value])

    def ask(self, ask: Ask) -> None:
        """Ask for memory that a later group reads or writes."""
        group, moved = self.group, self.group.body[ask.statement]
        assert isinstance(moved, Load | Store)
        with group.k.of(moved):
            for row in range(group.block.rows):
                place = place_of(group.block, moved, row) + ask.elements
                address = self.address((path_of(moved.access), ()), place, moved)
                group.k.nest.prefetch(address, isinstance(moved, Store), ask.locality)

    def address(self, way: Way, place: int, moved: Load | Store) -> Value:
        nest, type_ = self.group.k.nest, in_memory(moved.dtype)
        here = nest.pointer(self.group.starts[way], self.column, type_)
        return nest.pointer(here, place - self.group.lowest[way], type_)

    def load(self, value: int, row: int) -> None:
        load = self.loads.get(value)
        if load is None:
            return
        k, block = self.group.k, self.group.block
        key = (way_of(block, load, row), place_of(block, load, row))
        with k.of(load):
            if key not in self.loaded:
                type_ = vector(in_memory(load.dtype), k.lanes)
                self.loaded[key] = k.nest.load(self.address(*key, load), type_, load.dtype.size)
            k.put(value, self.loaded[key], row)

    def emit(self, instruction: Instruction, row: int) -> None:
        k = self.group.k
        match instruction:
            case Load(result=result):
                self.loads[result] = instruction
            case Compute(operands=operands):
                for operand in operands:
                    self.load(operand, row)
                k.vector(instruction, self.group.first, self.column, None, row)
            case _:
                k.vector(instruction, self.group.first, self.column, None, row)

    def stored(self, store: Store) -> Sequence[Operand]:
        """The values that are stored, one for each row."""
        for row in range(self.group.block.rows):
            self.load(store.value, row)
        return [self.group.k.wide(store.value, row) for row in range(self.group.block.rows)]

    def store(self, store: Store, row: int, value: Operand, more: bool) -> None:
        """Write a part of a row; `more`: the same store has further elements to come."""
        k, dtype = self.group.k, store.dtype
        place = self.address((path_of(store.access), ()), place_of(self.group.block, store, row), store)
        streams = store in self.group.streamed
        k.nest.store(value, place, k.lanes * dtype.size if streams else dtype.size, streams=streams)
        k.finite_checks.vector(store, value, None, more)

    def add(self, reduce: Reduce, sums: Value) -> None:
        """Add the products of all rows to the sum of each column."""
        k, type_ = self.group.k, reduce.dtype
        assert reduce.factor is not None
        place = k.nest.pointer(sums, self.column, type_)
        total = _loaded(k, reduce, place)
        for row in range(self.group.block.rows):
            for value in (reduce.operand, reduce.factor):
                self.load(value, row)
            with k.of(reduce):
                total = k.combined(reduce, total, k.wide(reduce.operand, row), k.wide(reduce.factor, row))
        _store(k, reduce, total, place)
