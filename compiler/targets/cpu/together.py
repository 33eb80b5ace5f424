"""Rows that are computed side by side: what several of them read, such as pixels under a sliding window, is read once.

Of each vector of columns, the elements that a block of rows reads stay in registers, and so does what is the same for
all rows, such as the weights of a depthwise convolution. In a walk over columns an item is a whole image, whose sums
stay in scratch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from compiler.loops.ir import Access, Compute, Edge, Instruction, Load, Reduce, Store, Term, Walk
from compiler.schedule.access import count
from compiler.targets.cpu.kernel_code import Items, KernelCode
from compiler.targets.cpu.kernel_text import KernelText
from compiler.targets.cpu.text import LANES, MEMORY, REGISTER, Text, splat_of
from compiler.targets.cpu.walks import Block

AHEAD = 1 << 15  # bytes before its use a row's newest element is asked for, times the lines of a block
AHEAD_IN_LINES = 1 << 10  # the same of sums over strips, where each row of a block lies in a line of its own
FIRST_LEVEL, SECOND_LEVEL = 3, 2  # localities of `llvm.prefetch`: into which cache

_Walk: TypeAlias = tuple[int, tuple[Term, ...]]  # a buffer, and how rows go through it
# Of a digit of a group's first row, the least and the most for which what is read lies inside an image.
_Bound: TypeAlias = tuple[Term, int | None, int | None]
_Way: TypeAlias = tuple[_Walk, tuple[_Bound, ...]]  # what is read through one address: zeros, where a bound is passed


def emit_together(k: KernelText, block: Block) -> KernelCode:
    """The code of a walk over rows, of which a block is an item: see `block_of`."""
    text = k.text
    (stage,) = k.kernel.stages
    k.open()
    group = _Group(k, block, stage.body)

    def item(number: str, carried: list[str]) -> list[str]:
        group.begin(_first_row(text, block, number))
        text.loop("0", str(count(k.kernel.columns)), LANES, [], lambda column, _: group.vectors(column, {}))
        return []

    text.loop("%begin", "%end", 1, [], item)
    if k.passing:
        text.line("fence seq_cst")  # stores past the caches are in no order with others
    return k.close(Items(k.kernel.rows, block.rows))


def _first_row(text: Text, block: Block, number: str) -> str:
    if block.lines == 1:
        return text.mul(number, block.pixels)
    across = block.width // block.pixels
    lines = text.mul(text.let(f"udiv i64 {number}, {across}"), block.stretch)
    return text.add(lines, text.mul(text.let(f"urem i64 {number}, {across}"), block.pixels))


def emit_sums_together(k: KernelText, block: Block) -> KernelCode:
    """The code of a walk over columns that takes a block of rows at once, and all columns of an image in an item."""
    text, kernel = k.text, k.kernel
    (stage,) = kernel.stages
    columns = str(count(kernel.columns))
    reduces = [i for i in stage.body if isinstance(i, Reduce)]
    k.open()
    group = _Group(k, block, stage.body)
    for number, reduce in enumerate(reduces):
        k.reserve(-2 - number, count(kernel.columns) * reduce.dtype.size)
    sums = {reduce.result: k.bases[-2 - number] for number, reduce in enumerate(reduces)}

    def start(column: str, carried: list[str]) -> list[str]:
        for reduce in reduces:
            initial = splat_of(REGISTER[reduce.dtype], k.identity(reduce), k.lanes)
            _store(k, reduce, initial, text.pointer(sums[reduce.result], column, REGISTER[reduce.dtype]))
        return []

    def finish(outer: str, column: str) -> list[str]:
        for reduce in reduces:
            with k.of(reduce):
                type_ = REGISTER[reduce.dtype]
                place = text.pointer(sums[reduce.result], column, type_)
                k.put(reduce.result, text.let(f"load <{k.lanes} x {type_}>, ptr {place}, align {reduce.dtype.size*k.lanes}"), type_, wide=True)
        for instruction in stage.after:
            k.vector(instruction, outer, column, None)
        return []

    def item(outer: str, carried: list[str]) -> list[str]:
        text.loop("0", columns, k.lanes, [], start)
        first = text.mul(outer, count(kernel.rows))

        def several(row: str, carried: list[str]) -> list[str]:
            group.begin(text.add(first, row))
            text.loop("0", columns, LANES, [], lambda column, _: group.vectors(column, sums))
            return []

        text.loop("0", str(count(kernel.rows)), block.rows, [], several)
        k.new_row(outer, stage.after)
        text.loop("0", columns, k.lanes, [], lambda column, _: finish(outer, column))
        return []

    text.loop("%begin", "%end", 1, [], item)
    return k.close(Items(kernel.outer))


def _store(k: KernelText, of: Reduce, value: str, place: str) -> None:
    with k.of(of):
        k.text.line(f"store <{k.lanes} x {REGISTER[of.dtype]}> {value}, ptr {place}, align {k.lanes*of.dtype.size}")


def _walk(access: Access) -> _Walk:
    return access.buffer, access.rows


class _Group:
    """A block of rows and the instructions on them, for one vector of columns after the other."""

    def __init__(self, k: KernelText, block: Block, body: Sequence[Instruction]) -> None:
        self.k, self.block, self.body = k, block, body
        self.first = ""
        self.sums_strips = k.kernel.walk is Walk.COLUMNS and block.pixels == block.width
        self.starts: dict[_Way, str] = {}  # the address of the lowest element that is read in this way
        self.moved = [i for i in body if isinstance(i, Load | Store)]
        self.lowest: dict[_Way, int] = {}
        highest: dict[_Way, int] = {}
        for moved in self.moved:
            for row in range(block.rows):
                way, place = self.way(moved, row), self.place(moved, row)
                self.lowest[way] = min(self.lowest.get(way, place), place)
                highest[way] = max(highest.get(way, place), place)
            self.lowest.setdefault((_walk(moved.access), ()), 0)
        spans = [highest[way] - self.lowest[way] for way in highest if way[1]]
        if spans:
            self.reserve_zeros(max(spans) + count(k.kernel.columns))

    def reserve_zeros(self, elements: int) -> None:
        text, size = self.k.text, max(b.dtype.size for b in self.k.kernel.buffers)
        self.k.reserve(-1, elements * size)

        def fill(place: str, carried: list[str]) -> list[str]:
            text.line(f"store <64 x i8> zeroinitializer, ptr {text.pointer(self.k.bases[-1], place, 'i8')}, align 64")
            return []

        text.loop("0", str(elements * size), 64, [], fill)

    def place(self, moved: Load | Store, row: int) -> int:
        (below, beside), (line, pixel) = self.block.steps(moved.access), divmod(row, self.block.pixels)
        return moved.access.offset + line * below + pixel * beside

    def way(self, moved: Load | Store, row: int) -> _Way:
        edges = moved.edges if isinstance(moved, Load) else ()
        bounds = (self.bound(edge, row) for edge in edges)
        return _walk(moved.access), tuple(b for b in bounds if b[1] is not None or b[2] is not None)

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

    def begin(self, first: str) -> None:
        """Go to the group of that first row."""
        k, text, self.first = self.k, self.k.text, first
        walks: dict[_Walk, str] = {}
        for moved in self.moved:
            with k.of(moved):
                type_ = MEMORY[moved.dtype]
                walk = _walk(moved.access)
                if walk not in walks:
                    walks[walk] = text.pointer(k.bases[walk[0]], k.number(walk[1], first), type_)
                for way in dict.fromkeys(((walk, ()), *(self.way(moved, row) for row in range(self.block.rows)))):
                    start = text.pointer(walks[walk], str(self.lowest[way]), type_)
                    tests = [test for bound in way[1] for test in self.tests(bound)]
                    for test in tests[1:]:
                        tests[0] = text.let(f"and i1 {tests[0]}, {test}")
                    if tests:
                        start = text.let(f"select i1 {tests[0]}, ptr {start}, ptr {k.bases[-1]}")
                    self.starts[way] = start

    def tests(self, bound: _Bound) -> list[str]:
        term, least, most = bound
        digit = self.k.digit(term, self.first)
        found = [] if least is None else [self.k.text.let(f"icmp sge i64 {digit}, {least}")]
        return found if most is None else [*found, self.k.text.let(f"icmp sle i64 {digit}, {most}")]

    def vectors(self, column: str, sums: dict[int, str]) -> list[str]:
        """All that is done with the columns from `column` on; `sums` says where the sums of columns lie."""
        _Vectors(self, column).ask()
        stores=[]
        for part in range(0, LANES, self.k.lanes):
            here = _Vectors(self, self.k.text.add(column, part))
            for instruction in self.body:
                with self.k.of(instruction):
                    if isinstance(instruction, Reduce):
                        here.add(instruction, sums[instruction.result])
                        continue
                    for row in range(self.block.rows):
                        if isinstance(instruction,Store):
                            here.load(instruction.value,row)
                            stores.append((row,part,self.k.wide(instruction.value, row),here,instruction))
                        else: here.emit(instruction, row)
        for row,part,value,here,instruction in sorted(stores,key=lambda s:s[:2]):
            k=self.k
            place = here.address((_walk(instruction.access), ()), here.group.place(instruction, row), instruction)
            how = f"{k.lanes*instruction.dtype.size}, !nontemporal !{{i32 1}}" if here.passes(instruction) else instruction.dtype.size
            k.text.line(f"store <{k.lanes} x {MEMORY[instruction.dtype]}> {value}, ptr {place}, align {how}")
        return []


@dataclass(slots=True)
class _Vectors:
    """A vector of columns of all rows of a group. What is loaded is so where it is used first."""

    group: _Group
    column: str
    loads: dict[int, Load] = field(default_factory=dict[int, Load])
    loaded: dict[tuple[_Way, int], str] = field(default_factory=dict[tuple[_Way, int], str])

    def ask(self) -> None:
        """Ask for what a later group reads and writes, and no group before it."""
        group, newest = self.group, dict[_Walk, Load | Store]()
        for i in (i for i in group.moved if i.access.rows and not self.passes(i)):
            newest[_walk(i.access)] = max(newest.get(_walk(i.access), i), i, key=lambda i: i.access.offset)
        for i in newest.values():
            block, beside = group.block, group.block.steps(i.access)[1]
            step = block.pixels * max(beside, LANES)
            ahead, locality = max(1, AHEAD * block.lines // (step * i.dtype.size)) * step, SECOND_LEVEL
            if group.sums_strips and beside > count(group.k.kernel.columns):
                ahead, locality = AHEAD_IN_LINES // i.dtype.size, FIRST_LEVEL
            with group.k.of(i):
                for row in range(block.rows):
                    place = self.address((_walk(i.access), ()), group.place(i, row) + ahead, i)
                    kind = f"i32 {int(isinstance(i, Store))}, i32 {locality}"
                    group.k.text.line(f"call void @llvm.prefetch.p0(ptr {place}, {kind}, i32 1)")

    def passes(self, moved: Load | Store) -> bool:
        """Whether it stores past the caches."""
        places = (moved.access.offset, *(term.stride for term in moved.access.rows))
        is_aligned = all(place % LANES == 0 for place in places)
        return isinstance(moved, Store) and moved.access.buffer in self.group.k.passing and is_aligned

    def address(self, way: _Way, place: int, moved: Load | Store) -> str:
        text, type_ = self.group.k.text, MEMORY[moved.dtype]
        here = text.pointer(self.group.starts[way], self.column, type_)
        return text.pointer(here, str(place - self.group.lowest[way]), type_)

    def load(self, value: int, row: int) -> None:
        load = self.loads.get(value)
        if load is None:
            return
        k, key = self.group.k, (self.group.way(load, row), self.group.place(load, row))
        with k.of(load):
            if key not in self.loaded:
                type_ = f"<{k.lanes} x {MEMORY[load.dtype]}>"
                place = self.address(*key, load)
                self.loaded[key] = k.text.let(f"load {type_}, ptr {place}, align {load.dtype.size}")
            k.put(value, self.loaded[key], REGISTER[load.dtype], True, row)

    def emit(self, instruction: Instruction, row: int) -> None:
        k = self.group.k
        match instruction:
            case Load(result=result):
                self.loads[result] = instruction
            case Store(dtype=dtype):
                self.load(instruction.value, row)
                value = k.wide(instruction.value, row)
                place = self.address((_walk(instruction.access), ()), self.group.place(instruction, row), instruction)
                how = f"{k.lanes*dtype.size}, !nontemporal !{{i32 1}}" if self.passes(instruction) else dtype.size
                k.text.line(f"store <{k.lanes} x {MEMORY[dtype]}> {value}, ptr {place}, align {how}")
                k.watches.vector(instruction, value, None, more=row < self.group.block.rows - 1)
            case Compute(operands=operands):
                for operand in operands:
                    self.load(operand, row)
                k.vector(instruction, self.group.first, self.column, None, row)
            case _:
                k.vector(instruction, self.group.first, self.column, None, row)

    def add(self, reduce: Reduce, sums: str) -> None:
        """Add the products of all rows to the sum of each column."""
        k, type_ = self.group.k, REGISTER[reduce.dtype]
        assert reduce.factor is not None
        place = k.text.pointer(sums, self.column, type_)
        total = k.text.let(f"load <{k.lanes} x {type_}>, ptr {place}, align {reduce.dtype.size*k.lanes}")
        for row in range(self.group.block.rows):
            for value in (reduce.operand, reduce.factor):
                self.load(value, row)
            with k.of(reduce):
                total = k.combined(reduce, total, k.wide(reduce.operand, row), k.lanes, k.wide(reduce.factor, row))
        _store(k, reduce, total, place)
