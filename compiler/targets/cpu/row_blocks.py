"""Row blocking (unroll and jam): values that several rows read, such as pixels of a window, are loaded once for all.

Of each vector of columns, the elements that a block of rows reads stay in registers, and so does what is the same for
all rows, such as the weights of a depthwise convolution. In a kernel over columns an item is a whole image, whose sums
stay in scratch. Vectors are as wide as registers: a wider one would be several sums, and take the registers of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from typing import TypeAlias

from compiler.loops.ir import (
    Access,
    ColumnKernel,
    Compute,
    Edge,
    IndexTerm,
    Instruction,
    Load,
    Reduce,
    RowKernel,
    Store,
)
from compiler.nest.builder import Builder
from compiler.nest.ir import BEGIN, END, TRUTH, Index, Items, Nest, Operand, Value, Zeros, vector
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record
from compiler.targets.cpu.iteration_space import RowBlock
from compiler.targets.cpu.kernel_frame import in_memory
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.types import DType

FIRST_LEVEL, SECOND_LEVEL = 3, 2  # localities of `llvm.prefetch`: into which cache
COMPARED = 4096  # bytes: places that agree up to whole ones of these are taken for one until a store is done
FEWEST_APART = 256  # of them, between which the columns of all rows repeat, for their order to matter

_Path: TypeAlias = tuple[int, tuple[IndexTerm, ...]]  # a buffer, and how rows lead through it
# Of a digit of a group's first row, the least and the most for which what is read lies inside an image.
_Bound: TypeAlias = tuple[IndexTerm, int | None, int | None]
_Way: TypeAlias = tuple[_Path, tuple[_Bound, ...]]  # what is read through one address: zeros, where a bound is passed


def emit_row_blocks(k: KernelNest, kernel: RowKernel, block: RowBlock) -> Nest:
    """The code of a kernel over rows, of which a block is an item: see `row_block_of`."""
    nest = k.nest
    k.open()
    group = _Group(k, kernel, block)
    group.choose_direction([group.start(i) for i in group.moved if isinstance(i, Store) and group.passes(i)])

    def item(number: Value, carried: list[Value]) -> Sequence[Operand]:
        group.begin(_first_row(nest, block, number))
        group.all_vectors({})
        return []

    nest.loop(BEGIN, END, 1, [], item)
    if k.passing:
        nest.store_fence()  # stores past the caches are in no order with others
    return k.close(Items(kernel.rows, block.rows))


def _first_row(nest: Builder, block: RowBlock, number: Index) -> Index:
    if block.lines == 1:
        return nest.mul(number, block.pixels)
    across = block.width // block.pixels
    lines = nest.mul(nest.binary("div", number, across), block.stretch)
    return nest.add(lines, nest.mul(nest.binary("rem", number, across), block.pixels))


def emit_sums_in_row_blocks(k: KernelNest, kernel: ColumnKernel, block: RowBlock) -> Nest:
    """The code of a kernel over columns that takes a block of rows at once, and all columns of an image in an item."""
    nest = k.nest
    (stage,) = kernel.stages
    columns = count(kernel.columns)
    reduces = [i for i in stage.body if isinstance(i, Reduce)]
    k.open()
    group = _Group(k, kernel, block)
    for number, reduce in enumerate(reduces):
        k.reserve(-2 - number, count(kernel.columns) * reduce.dtype.size)
    sums = {reduce.result: k.bases[-2 - number] for number, reduce in enumerate(reduces)}

    def start(column: Value, carried: list[Value]) -> Sequence[Operand]:
        for reduce in reduces:
            _store(k, reduce, k.identity(reduce, k.lanes), nest.pointer(sums[reduce.result], column, reduce.dtype))
        return []

    def finish(outer: Index, column: Index) -> Sequence[Operand]:
        for reduce in reduces:
            with k.of(reduce):
                k.put(reduce.result, _loaded(k, reduce, nest.pointer(sums[reduce.result], column, reduce.dtype)))
        for instruction in stage.after:
            k.vector(instruction, outer, column, None)
        return []

    def item(outer: Value, carried: list[Value]) -> Sequence[Operand]:
        nest.loop(0, columns, k.lanes, [], start)
        first = nest.mul(outer, count(kernel.rows))

        def several(row: Value, carried: list[Value]) -> Sequence[Operand]:
            group.begin(nest.add(first, row))
            group.all_vectors(sums)
            return []

        nest.loop(0, count(kernel.rows), block.rows, [], several)
        k.new_row(outer, stage.after)
        nest.loop(0, columns, k.lanes, [], lambda column, _: finish(outer, column))
        return []

    nest.loop(BEGIN, END, 1, [], item)
    return k.close(Items(kernel.outer))


def _store(k: KernelNest, of: Reduce, value: Operand, place: Value) -> None:
    with k.of(of):
        k.nest.store(value, place, k.lanes * of.dtype.size)


def _loaded(k: KernelNest, of: Reduce, place: Value) -> Value:
    return k.nest.load(place, vector(of.dtype, k.lanes), k.lanes * of.dtype.size)


def _path(access: Access) -> _Path:
    return access.buffer, access.rows


class _Group:
    """A block of rows and the instructions on them, for one vector of columns after the other."""

    def __init__(self, k: KernelNest, kernel: RowKernel | ColumnKernel, block: RowBlock) -> None:
        self.k, self.block, self.columns = k, block, count(kernel.columns)
        (stage,) = kernel.stages
        self.body = stage.body
        self.first: Index = 0
        self.downwards: Value | None = None
        self.sums_strips = isinstance(kernel, ColumnKernel) and block.pixels == block.width
        self.starts: dict[_Way, Value] = {}  # the address of the lowest element that is read in this way
        self.moved = [i for i in self.body if isinstance(i, Load | Store)]
        self.lowest: dict[_Way, int] = {}
        highest: dict[_Way, int] = {}
        for moved in self.moved:
            for row in range(block.rows):
                way, place = self.way(moved, row), self.place(moved, row)
                self.lowest[way] = min(self.lowest.get(way, place), place)
                highest[way] = max(highest.get(way, place), place)
            self.lowest.setdefault((_path(moved.access), ()), 0)
        spans = [highest[way] - self.lowest[way] for way in highest if way[1]]
        if spans:
            self.reserve_zeros(max(spans) + self.columns)

    def reserve_zeros(self, elements: int) -> None:
        nest, size = self.k.nest, max(b.dtype.size for b in self.k.kernel.buffers)
        self.k.reserve(-1, elements * size)

        def fill(place: Value, carried: list[Value]) -> Sequence[Operand]:
            nest.store(Zeros(vector(DType.U8, 64)), nest.pointer(self.k.bases[-1], place, DType.U8), 64)
            return []

        nest.loop(0, elements * size, 64, [], fill)

    def place(self, moved: Load | Store, row: int) -> int:
        (below, beside), (line, pixel) = self.block.steps(moved.access), divmod(row, self.block.pixels)
        return moved.access.offset + line * below + pixel * beside

    def way(self, moved: Load | Store, row: int) -> _Way:
        edges = moved.edges if isinstance(moved, Load) else ()
        bounds = (self.bound(edge, row) for edge in edges)
        return _path(moved.access), tuple(b for b in bounds if b[1] is not None or b[2] is not None)

    def bound(self, edge: Edge, row: int) -> _Bound:
        """For which groups that row of them lies inside; None where no group lies beyond."""
        (line, pixel), offset = divmod(row, self.block.pixels), edge.offset
        for part in edge.terms:
            growth = self.block.growth(part)
            assert growth is not None
            offset += (line * growth[0] + pixel * growth[1]) * part.stride
        term = next((part for part in edge.terms if self.block.varies(part)), edge.terms[0])
        last = term.modulus
        step = {1: self.block.pixels, self.block.width: self.block.lines}.get(term.divisor, 1)
        least = -(offset // term.stride)  # ceil(-offset / stride)
        most = (edge.extent - 1 - offset) // term.stride
        least, most = -(-least // step) * step, most // step * step
        return term, least if least > 0 else None, most if last is None or most < last - step else None

    def begin(self, first: Index) -> None:
        """Go to the group of that first row."""
        k, nest, self.first = self.k, self.k.nest, first
        paths: dict[_Path, Value] = {}
        for moved in self.moved:
            with k.of(moved):
                type_ = in_memory(moved.dtype)
                path = _path(moved.access)
                if path not in paths:
                    paths[path] = nest.pointer(k.bases[path[0]], k.number(path[1], first), type_)
                for way in dict.fromkeys(((path, ()), *(self.way(moved, row) for row in range(self.block.rows)))):
                    start = nest.pointer(paths[path], self.lowest[way], type_)
                    tests = [test for bound in way[1] for test in self.tests(bound)]
                    for test in tests[1:]:
                        tests[0] = nest.binary("and", tests[0], test, TRUTH)
                    if tests:
                        start = nest.select(tests[0], start, k.bases[-1])
                    self.starts[way] = start

    def tests(self, bound: _Bound) -> list[Value]:
        term, least, most = bound
        digit = self.k.digit(term, self.first)
        found = [] if least is None else [self.k.nest.compare("ge", digit, least)]
        return found if most is None else [*found, self.k.nest.compare("le", digit, most)]

    def passes(self, moved: Load | Store) -> bool:
        """Whether it stores past the caches."""
        places = (moved.access.offset, *(term.stride for term in moved.access.rows))
        is_aligned = all(place % LANES == 0 for place in places)
        return isinstance(moved, Store) and moved.access.buffer in self.k.passing and is_aligned

    @property
    def period(self) -> int:
        """Bytes after which the same columns of all rows lie at the same place again, up to whole ones of COMPARED.

        1 where columns have different sizes.
        """
        size, places = self.moved[0].dtype.size, dict[_Path, int]()
        found = [COMPARED, self.columns * size]
        for moved in self.moved:
            found += [term.stride * size for term in moved.access.rows]
            for row in range(self.block.rows):
                place = self.place(moved, row)
                found.append((place - places.setdefault(_path(moved.access), place)) * size)
        return math.gcd(*found) if all(moved.dtype.size == size for moved in self.moved) else 1

    def start(self, moved: Load | Store) -> Value:
        """Where column 0 of some row lies, as a number."""
        place = self.k.nest.pointer(self.k.bases[moved.access.buffer], self.place(moved, 0), in_memory(moved.dtype))
        return self.k.nest.number_of(place)

    def choose_direction(self, stores: Sequence[Value]) -> None:
        """Go through the columns from the last to the first where the next ones would lie as those do that were just
        stored at `stores`, but for whole ones of COMPARED: a load of them would wait for those stores.
        """
        nest, period = self.k.nest, self.period
        if period < FEWEST_APART or not stores:
            return
        up: Index = period
        down: Index = period
        loads = {_path(moved.access): moved for moved in self.moved if isinstance(moved, Load)}
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

        def vectors(column: Value, carried: list[Value]) -> Sequence[Operand]:
            if self.downwards:
                from_the_end = nest.sub(columns - LANES, column)
                column = nest.select(self.downwards, from_the_end, column)
            self.vectors(column, sums)
            return []

        nest.loop(0, columns, LANES, [], vectors)

    def vectors(self, column: Index, sums: dict[int, Value]) -> None:
        """All that is done with LANES columns from `column` on. They are stored at last, whole lines at once."""
        _Vectors(self, column).ask()
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
    """A vector of columns of all rows of a group. What is loaded is so where it is used first."""

    group: _Group
    column: Index
    loads: dict[int, Load] = field(default_factory=dict[int, Load])
    loaded: dict[tuple[_Way, int], Value] = field(default_factory=dict[tuple[_Way, int], Value])

    def ask(self) -> None:
        """Ask for what a later group reads and writes, and no group before it."""
        group, newest = self.group, dict[_Path, Load | Store]()
        tuning = group.k.tuning
        for i in (i for i in group.moved if i.access.rows and not group.passes(i)):
            newest[_path(i.access)] = max(newest.get(_path(i.access), i), i, key=lambda i: i.access.offset)
        for i in newest.values():
            block, beside = group.block, group.block.steps(i.access)[1]
            step = block.pixels * max(beside, LANES)
            ahead, locality = (
                max(1, tuning.block_bytes_ahead * block.lines // (step * i.dtype.size)) * step,
                SECOND_LEVEL,
            )
            if group.sums_strips and beside > group.columns:
                ahead, locality = tuning.strip_bytes_ahead // i.dtype.size, FIRST_LEVEL
            with group.k.of(i):
                for row in range(block.rows):
                    place = self.address((_path(i.access), ()), group.place(i, row) + ahead, i)
                    group.k.nest.prefetch(place, isinstance(i, Store), locality)

    def address(self, way: _Way, place: int, moved: Load | Store) -> Value:
        nest, type_ = self.group.k.nest, in_memory(moved.dtype)
        here = nest.pointer(self.group.starts[way], self.column, type_)
        return nest.pointer(here, place - self.group.lowest[way], type_)

    def load(self, value: int, row: int) -> None:
        load = self.loads.get(value)
        if load is None:
            return
        k, key = self.group.k, (self.group.way(load, row), self.group.place(load, row))
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
        """What is stored for each row."""
        for row in range(self.group.block.rows):
            self.load(store.value, row)
        return [self.group.k.wide(store.value, row) for row in range(self.group.block.rows)]

    def store(self, store: Store, row: int, value: Operand, more: bool) -> None:
        """Write a part of a row; `more`: the same store has further elements to come."""
        k, dtype = self.group.k, store.dtype
        place = self.address((_path(store.access), ()), self.group.place(store, row), store)
        streams = self.group.passes(store)
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
