"""Rows that are computed side by side: what several of them read, such as pixels under a sliding window, is read once.

An item is a group of neighbouring rows. Of each vector of columns, the elements that the group reads stay in registers, and
so does what is the same for all rows, such as the weights of a depthwise convolution.
"""

from __future__ import annotations

from compiler.loops.ir import Load, Store, Term
from compiler.schedule.access import count
from compiler.targets.cpu.kernel_text import Items, KernelCode, KernelText
from compiler.targets.cpu.text import LANES, MEMORY, REGISTER
from compiler.targets.cpu.walks import step_of

AHEAD = 3  # groups before its use a row's newest element is asked for


def emit_together(k: KernelText, rows: int) -> KernelCode:
    """The code of a kernel of whose rows so many make an item: see `rows_together`."""
    kernel, text = k.kernel, k.text
    (stage,) = kernel.stages
    newest: dict[tuple[int, tuple[Term, ...]], Load | Store] = {}
    for moved in (i for i in stage.body if isinstance(i, Load | Store) and i.access.rows):
        key = (moved.access.buffer, moved.access.rows)
        newest[key] = max(newest.get(key, moved), moved, key=lambda i: i.access.offset)
    k.open()

    def group(item: str, carried: list[str]) -> list[str]:
        first = text.mul(item, rows)
        starts: dict[tuple[int, tuple[Term, ...]], str] = {}
        for moved in (i for i in stage.body if isinstance(i, Load | Store)):
            access = moved.access
            if (access.buffer, access.rows) not in starts:
                with k.of(moved):
                    start = text.pointer(k.bases[access.buffer], k.number(access.rows, first), MEMORY[moved.dtype])
                    starts[access.buffer, access.rows] = start

        def vectors(column: str, carried: list[str]) -> list[str]:
            loaded: dict[tuple[int, tuple[Term, ...], int], str] = {}

            def place(moved: Load | Store, row: int) -> str:
                access, type_ = moved.access, MEMORY[moved.dtype]
                here = text.pointer(starts[access.buffer, access.rows], column, type_)
                return text.pointer(here, str(access.offset + row * step_of(access)), type_)

            def load(given: Load, row: int) -> None:
                access, type_ = given.access, REGISTER[given.dtype]
                key = (access.buffer, access.rows, access.offset + row * step_of(access))
                if key not in loaded:
                    pointer = place(given, row)
                    loaded[key] = text.let(f"load <{LANES} x {type_}>, ptr {pointer}, align {given.dtype.size}")
                k.put(given.result, loaded[key], type_, True, row)

            def store(taken: Store, row: int) -> None:
                value, type_ = k.wide(taken.value, row), REGISTER[taken.dtype]
                pointer = place(taken, row)
                text.line(f"store <{LANES} x {type_}> {value}, ptr {pointer}, align {taken.dtype.size}")
                k.watches.vector(taken, value, None)

            for moved in newest.values():
                with k.of(moved):
                    for row in range(rows):
                        pointer = place(moved, row + AHEAD * rows)
                        kind = int(isinstance(moved, Store))
                        text.line(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 {kind}, i32 2, i32 1)")
            for instruction in stage.body:
                for row in range(rows):
                    with k.of(instruction):
                        match instruction:
                            case Load():
                                load(instruction, row)
                            case Store():
                                store(instruction, row)
                            case _:
                                k.vector(instruction, first, column, None, row)
            return []

        text.loop("0", str(count(kernel.columns)), LANES, [], vectors)
        return []

    text.loop("%begin", "%end", 1, [], group)
    return k.close(Items(kernel.rows, rows))
