"""The register tile of a contraction: a block of rows and vectors of columns, summed over all of k."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from compiler.record import record
from compiler.targets.cpu.packing import AHEAD
from compiler.targets.cpu.text import LANES, REGISTER, Text, literal
from compiler.targets.cpu.tiles import TileShape
from compiler.types import DType

DEEPEST_UNROLL = 4
FRACTION = 20  # bits of a row number behind the point
FEW_ROWS = 4  # up to here the right operand streams through once, and is asked for AHEAD as copied and large ones are


@record
class SummedAxis:
    """One summed axis at run time: its extent, and its step in both operands and in a copy of the right one."""

    extent: str
    lhs_stride: int
    rhs_stride: int
    copy_stride: int = 0


@record
class Ahead:
    """What a tile asks for while it is multiplied: `places` of rows, each `step` behind the one before it.

    A row is asked for in each unrolled step; or `rows` of them, evenly while `depth` is summed, because a burst would
    hold up the operands. Where there is a condition, only if it holds.
    """

    pointer: str
    places: tuple[int, ...]
    step: int | str
    rows: int = 0
    depth: int = 0
    writes: bool = False
    condition: str = ""


@record
class RegisterTile:
    """What the inner loops need to know: `places` are those of the rows in the left operand, from the first."""

    shape: TileShape
    dtype: DType
    places: tuple[int, ...]
    is_packed: bool  # a large panel, whose lines are asked for before their use
    lanes: int = LANES  # of the right operand that are taken at once, for all rows

    @property
    def vector(self) -> str:
        return f"<{LANES} x {REGISTER[self.dtype]}>"

    @property
    def zero(self) -> str:
        return f"splat ({REGISTER[self.dtype]} {literal(0.0, self.dtype)})"

    @property
    def slots(self) -> int:
        return self.shape.rows * self.shape.vectors


def multiplied(
    text: Text,
    tile: RegisterTile,
    axes: Sequence[SummedAxis],
    lhs: str,
    rhs: str,
    accumulators: Sequence[str],
    copy: str = "",
    ahead: Sequence[Ahead] = (),
) -> list[str]:
    """The accumulators, row by row, after summing over `axes`, outermost first.

    What is read of the right operand is written to `copy` as well, where one is given. Only a single axis asks `ahead`.
    """
    type_ = REGISTER[tile.dtype]
    carries = [(tile.vector, a) for a in accumulators]
    axis = axes[0]
    if len(axes) > 1:

        def outer_body(index: str, carried: list[str]) -> list[str]:
            inner_lhs = text.pointer(lhs, text.mul(index, axis.lhs_stride), type_)
            inner_rhs = text.pointer(rhs, text.mul(index, axis.rhs_stride), type_)
            inner_copy = text.pointer(copy, text.mul(index, axis.copy_stride), type_) if copy else ""
            return multiplied(text, tile, axes[1:], inner_lhs, inner_rhs, carried, inner_copy)

        return text.loop("0", axis.extent, 1, carries, outer_body)

    # pointers are carried: multiples of the index would cost additions, or LLVM much time to find that out
    walked = [(lhs, axis.lhs_stride), (rhs, axis.rhs_stride), *([(copy, axis.copy_stride)] if copy else [])]
    carries += [("ptr", pointer) for pointer, _ in walked]
    carries += [("ptr", asked.pointer) for asked in ahead if not asked.rows]

    def step(index: str, carried: list[str], times: int) -> list[str]:
        sums = carried[: tile.slots]
        pointers = carried[tile.slots : tile.slots + len(walked)]
        lines = iter(carried[tile.slots + len(walked) :])
        following: list[str] = []
        for asked in ahead:
            line = row_of(asked, index) if asked.rows else next(lines)
            if times > 1 and asked.condition:
                text.when(asked.condition, partial(_ask, text, asked, line, type_))
            elif times > 1:
                _ask(text, asked, line, type_)
            if not asked.rows:
                following.append(text.pointer(line, str(asked.step), type_))
        for turn in range(times):
            text.fence()
            sums = rank_one(text, tile, axis, pointers[0], pointers[1], turn, sums, *pointers[2:])
        moved = (text.pointer(p, str(times * by), type_) for p, (_, by) in zip(pointers, walked, strict=True))
        return [*sums, *moved, *following]

    def row_of(asked: Ahead, index: str) -> str:
        each = (asked.rows << FRACTION) // asked.depth
        row = text.let(f"lshr i64 {text.mul(index, each)}, {FRACTION}")
        return text.pointer(asked.pointer, text.mul(row, str(asked.step)), type_)

    unroll = 1 if _meets_again(tile, axis) else _unroll(axis.extent, tile)
    if unroll == 1:
        return text.loop("0", axis.extent, 1, carries, lambda i, c: step(i, c, 1))[: tile.slots]
    if axis.extent.startswith("%"):
        stop = text.let(f"and i64 {axis.extent}, {-unroll}")
    else:
        stop = str(int(axis.extent) // unroll * unroll)
    values = text.loop("0", stop, unroll, carries, lambda i, c: step(i, c, unroll))
    if stop != axis.extent:
        rest = [(t, v) for (t, _), v in zip(carries, values, strict=True)]
        values = text.loop(stop, axis.extent, 1, rest, lambda i, c: step(i, c, 1))
    return values[: tile.slots]


def _ask(text: Text, ahead: Ahead, row: str, type_: str) -> None:
    kind = "i32 1, i32 3" if ahead.writes else "i32 0, i32 2"
    for place in ahead.places:
        line = text.pointer(row, str(place), type_)
        text.line(f"call void @llvm.prefetch.p0(ptr {line}, {kind}, i32 1)")


def _meets_again(tile: RegisterTile, axis: SummedAxis) -> bool:
    """Whether steps of k read the same elements of the left operand: side by side, LLVM would keep them and spill."""
    places = set(tile.places)
    return any(place + turn * axis.lhs_stride in places for place in places for turn in range(1, DEEPEST_UNROLL))


def _unroll(extent: str, tile: RegisterTile) -> int:
    """Steps of k that are written one after the other; short sums are divided evenly where they can be."""
    usual = DEEPEST_UNROLL if tile.slots > 4 else 8
    if extent.startswith("%"):
        return usual
    number = int(extent)
    if number > 64 or number % usual == 0:
        return usual if number >= usual else 1
    return max(step for step in range(1, 9) if number % step == 0)


def rank_one(
    text: Text,
    tile: RegisterTile,
    axis: SummedAxis,
    left: str,
    right: str,
    turn: int,
    accumulators: Sequence[str],
    copy: str = "",
) -> list[str]:
    """One k: the vectors of the right operand, and one broadcast of the left for each row."""
    type_, size, vector, shape = REGISTER[tile.dtype], tile.dtype.size, tile.vector, tile.shape
    columns: list[str] = []
    following = list(accumulators)
    is_alone = text.is_fenced and shape.rows == 1  # each vector is used up before the next one takes registers
    scalar = _left_of(text, tile, axis, left, turn, tile.places[0]) if is_alone else ""
    for part in range(shape.vectors):
        if is_alone:
            text.fence()
        place = text.pointer(right, str(turn * axis.rhs_stride + part * LANES), type_)
        if tile.lanes == LANES:
            columns.append(text.let(f"load {vector}, ptr {place}, align {size}"))
        if tile.is_packed or shape.rows <= FEW_ROWS or copy:
            later = text.pointer(right, str((turn + AHEAD) * axis.rhs_stride + part * LANES), type_)
            text.line(f"call void @llvm.prefetch.p0(ptr {later}, i32 0, i32 3, i32 1)")
        if copy:
            there = text.pointer(copy, str(turn * axis.copy_stride + part * LANES), type_)
            text.line(f"store {vector} {columns[-1]}, ptr {there}, align 64")
        if is_alone:
            following[part] = _fused(text, tile, scalar, columns[-1], following[part])
    if is_alone:
        return following
    if tile.lanes < LANES:
        return _by_register(text, tile, axis, left, right, turn, accumulators)
    if tile.places == tuple(range(shape.rows)) and axis.lhs_stride > 2 * LANES:
        for column in (0, shape.rows - 1):
            later = text.pointer(left, str(column + (turn + AHEAD) * axis.lhs_stride), type_)
            text.line(f"call void @llvm.prefetch.p0(ptr {later}, i32 0, i32 3, i32 1)")
    for row, offset in enumerate(tile.places):
        scalar = _left_of(text, tile, axis, left, turn, offset)
        for part in range(shape.vectors):
            slot = row * shape.vectors + part
            following[slot] = _fused(text, tile, scalar, columns[part], following[slot])
    return following


def _by_register(
    text: Text, tile: RegisterTile, axis: SummedAxis, left: str, right: str, turn: int, accumulators: Sequence[str]
) -> list[str]:
    """One k, whose right operand comes register by register, each for all rows."""
    type_, lanes, vectors = REGISTER[tile.dtype], tile.lanes, tile.shape.vectors
    scalars = [_left_of(text, tile, axis, left, turn, offset) for offset in tile.places]
    following = list(accumulators)
    for part in range(vectors):
        slots = range(part, tile.slots, vectors)
        pieces: list[list[str]] = [[] for _ in slots]
        for first in range(0, LANES, lanes):
            place = text.pointer(right, str(turn * axis.rhs_stride + part * LANES + first), type_)
            column = text.let(f"load <{lanes} x {type_}>, ptr {place}, align {tile.dtype.size}")
            for slot, scalar, of_row in zip(slots, scalars, pieces, strict=True):
                sums = text.lanes_of(following[slot], type_, first, lanes)
                of_row.append(_fused(text, tile, scalar, column, sums))
        for slot, of_row in zip(slots, pieces, strict=True):
            following[slot] = text.joined(of_row, type_, lanes)
    return following


def _left_of(text: Text, tile: RegisterTile, axis: SummedAxis, left: str, turn: int, offset: int) -> str:
    """An element of the left operand in every lane."""
    type_ = REGISTER[tile.dtype]
    place = text.pointer(left, str(offset + turn * axis.lhs_stride), type_)
    return text.splat(text.let(f"load {type_}, ptr {place}, align {tile.dtype.size}"), type_, tile.lanes)


def _fused(text: Text, tile: RegisterTile, scalar: str, column: str, sums: str) -> str:
    """The sums with one product added."""
    vector = f"<{tile.lanes} x {REGISTER[tile.dtype]}>"
    suffix = f"v{tile.lanes}{'f32' if REGISTER[tile.dtype] == 'float' else 'f64'}"
    operands = ", ".join(f"{vector} {name}" for name in (scalar, column, sums))
    return text.let(f"call {vector} @llvm.fma.{suffix}({operands})")
