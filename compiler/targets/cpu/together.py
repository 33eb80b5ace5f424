"""Rows that are computed side by side: what several of them read, such as pixels under a sliding window, is read once.

An item is a group of neighbouring rows. Of each vector of columns, the elements that the group reads stay in registers,
and so does what is the same for all rows, such as the weights of a depthwise convolution.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from compiler.loops.ir import Access, Instruction, Load, Store, Term
from compiler.schedule.access import count
from compiler.targets.cpu.kernel_text import Items, KernelCode, KernelText
from compiler.targets.cpu.text import LANES, MEMORY, REGISTER
from compiler.targets.cpu.walks import step_of

AHEAD = 3  # groups before its use a row's newest element is asked for

_Walk: TypeAlias = tuple[int, tuple[Term, ...]]  # a buffer, and how rows go through it


def emit_together(k: KernelText, rows: int) -> KernelCode:
    """The code of a kernel of whose rows so many make an item: see `rows_together`."""
    text = k.text
    (stage,) = k.kernel.stages
    moved = [i for i in stage.body if isinstance(i, Load | Store)]
    k.open()

    def group(item: str, carried: list[str]) -> list[str]:
        first = text.mul(item, rows)
        starts: dict[_Walk, str] = {}
        for instruction in moved:
            access, type_ = instruction.access, MEMORY[instruction.dtype]
            with k.of(instruction):
                if _walk(access) not in starts:
                    place = k.number(access.rows, first)
                    starts[_walk(access)] = text.pointer(k.bases[access.buffer], place, type_)

        def vectors(column: str, carried: list[str]) -> list[str]:
            here = _Vectors(k, rows, first, column, starts)
            here.ask(moved)
            for instruction in stage.body:
                for row in range(rows):
                    with k.of(instruction):
                        here.emit(instruction, row)
            return []

        text.loop("0", str(count(k.kernel.columns)), LANES, [], vectors)
        return []

    text.loop("%begin", "%end", 1, [], group)
    return k.close(Items(k.kernel.rows, rows))


def _walk(access: Access) -> _Walk:
    return access.buffer, access.rows


@dataclass(slots=True)
class _Vectors:
    """A vector of columns of all rows of a group; `starts` is where each walk is at the `first` row."""

    k: KernelText
    rows: int
    first: str
    column: str
    starts: dict[_Walk, str]
    loaded: dict[tuple[_Walk, int], str] = field(default_factory=dict[tuple[_Walk, int], str])

    def ask(self, moved: list[Load | Store]) -> None:
        """Ask for what a later group reads and writes, and no group before it."""
        newest: dict[_Walk, Load | Store] = {}
        for i in (i for i in moved if i.access.rows):
            newest[_walk(i.access)] = max(newest.get(_walk(i.access), i), i, key=lambda i: i.access.offset)
        for instruction in newest.values():
            with self.k.of(instruction):
                for row in range(AHEAD * self.rows, (AHEAD + 1) * self.rows):
                    kind = f"i32 {int(isinstance(instruction, Store))}, i32 2"
                    line = f"call void @llvm.prefetch.p0(ptr {self.place(instruction, row)}, {kind}, i32 1)"
                    self.k.text.line(line)

    def place(self, moved: Load | Store, row: int) -> str:
        text, access, type_ = self.k.text, moved.access, MEMORY[moved.dtype]
        here = text.pointer(self.starts[_walk(access)], self.column, type_)
        return text.pointer(here, str(access.offset + row * step_of(access)), type_)

    def emit(self, instruction: Instruction, row: int) -> None:
        match instruction:
            case Load(access=access, dtype=dtype):
                key = (_walk(access), access.offset + row * step_of(access))
                if key not in self.loaded:
                    place = self.place(instruction, row)
                    type_ = f"<{LANES} x {MEMORY[dtype]}>"
                    self.loaded[key] = self.k.text.let(f"load {type_}, ptr {place}, align {dtype.size}")
                self.k.put(instruction.result, self.loaded[key], REGISTER[dtype], True, row)
            case Store(dtype=dtype):
                value, place = self.k.wide(instruction.value, row), self.place(instruction, row)
                self.k.text.line(f"store <{LANES} x {MEMORY[dtype]}> {value}, ptr {place}, align {dtype.size}")
                self.k.watches.vector(instruction, value, None)
            case _:
                self.k.vector(instruction, self.first, self.column, None, row)
