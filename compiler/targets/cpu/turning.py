"""Blocks of LANES x LANES elements, turned on their way from one place in memory to another, or in registers."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.machine import Machine
from compiler.targets.cpu.text import LANES, REGISTER, Text, vector
from compiler.types import DType

PART = 16  # bytes of a register within which two-operand shuffles interleave, whatever its length
MOST_PARTS = 2  # that a load of each fills faster than shuffles over whole registers


def move_turned(text: Text, machine: Machine, dtype: DType, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Element j of the row at each pointer `rows[i]` becomes element i at the pointer `columns[j]`, which is aligned.

    Where registers are short, the block goes in pieces that leave none of them over: a block takes 32 registers of 256
    bits.
    """
    type_ = REGISTER[dtype]
    if machine.vector_bytes > MOST_PARTS * PART:
        whole = vector(type_)
        loaded = [text.let(f"load {whole}, ptr {place}, align {dtype.size}") for place in rows]
        for name, place in zip(turned(text, loaded, type_), columns, strict=True):
            text.line(f"store {whole} {name}, ptr {place}, align 64")
        return
    lanes = machine.lanes(dtype)
    for column in range(0, LANES, PART // dtype.size):
        for row in range(0, LANES, lanes):
            piece = _piece(text, machine, dtype, rows[row : row + lanes], column)
            for place, name in enumerate(piece, column):
                there = text.pointer(columns[place], str(row), type_)
                text.line(f"store {vector(type_, lanes)} {name}, ptr {there}, align {machine.vector_bytes}")


def _piece(text: Text, machine: Machine, dtype: DType, rows: Sequence[str], column: int) -> list[str]:
    """As many columns as a part of a register holds elements, from `column` on, of rows that fill a register."""
    type_, most = REGISTER[dtype], PART // dtype.size
    parts = machine.vector_bytes // PART
    part, lanes = vector(type_, most), most * parts
    now: list[str] = []
    for number in range(most):
        places = [text.pointer(row, str(column), type_) for row in rows[number::most]]
        loaded = [text.let(f"load {part}, ptr {place}, align {dtype.size}") for place in places]
        if parts > 1:
            listed = ", ".join(f"i32 {k}" for k in range(lanes))
            loaded = [text.let(f"shufflevector {part} {loaded[0]}, {part} {loaded[1]}, <{lanes} x i32> <{listed}>")]
        now += loaded
    for _ in range(most.bit_length() - 1):
        pairs = list(zip(now[: most // 2], now[most // 2 :], strict=True))
        now = [_interleaved(text, vector(type_, lanes), pair, most, parts, half) for pair in pairs for half in (0, 1)]
    return now


def _interleaved(text: Text, whole: str, pair: tuple[str, str], most: int, parts: int, half: int) -> str:
    """The lower or upper halves of the parts of two registers, element by element in turns."""
    firsts = [part * most + half * most // 2 + k for part in range(parts) for k in range(most // 2)]
    listed = ", ".join(f"i32 {first}, i32 {first + most * parts}" for first in firsts)
    return text.let(f"shufflevector {whole} {pair[0]}, {whole} {pair[1]}, <{most * parts} x i32> <{listed}>")


def turned(text: Text, rows: Sequence[str], type_: str) -> list[str]:
    """The transpose of LANES vectors of LANES elements, in log2(LANES) rounds of two-operand shuffles."""
    vector = f"<{LANES} x {type_}>"
    now = list(rows)
    distance = 1
    while distance < LANES:
        following = list(now)
        for low in range(LANES):
            if low & distance:
                continue
            high = low | distance
            first = [lane if not lane & distance else LANES + (lane ^ distance) for lane in range(LANES)]
            second = [lane | distance if not lane & distance else LANES + lane for lane in range(LANES)]
            for place, picks in ((low, first), (high, second)):
                listed = ", ".join(f"i32 {p}" for p in picks)
                following[place] = text.let(
                    f"shufflevector {vector} {now[low]}, {vector} {now[high]}, <{LANES} x i32> <{listed}>"
                )
        now = following
        distance *= 2
    return now
