"""The register tile of a contraction: a block of rows and vectors of columns, summed over all of k."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from compiler.nest.builder import Builder
from compiler.nest.ir import Constant, Index, Operand, Type, Value, vector
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.tiles import TileShape
from compiler.types import DType, Rounding

FRACTION = 20  # bits of a row number behind the point


@record
class SummedAxis:
    """One summed axis at run time: its extent, and its step in both operands and in a copy of the right one."""

    extent: Index
    lhs_stride: int
    rhs_stride: int
    copy_stride: int = 0


@record
class Ahead:
    """Prefetches of a tile while it is multiplied: `places` of rows, each `step` behind the one before it.

    A row is asked for in each unrolled step; or `rows` of them, evenly while `depth` is summed, because a burst would
    hold up the operands. Where there is a condition, only if it holds.
    """

    pointer: Value
    places: tuple[int, ...]
    step: Index
    rows: int = 0
    depth: int = 0
    writes: bool = False
    condition: Value | None = None


@record
class RegisterTile:
    """A register tile for its inner loops: `places` are those of the rows in the left operand, from the first.

    `lanes` of the right operand are taken at once, for all rows. See `products.ir.Multiply` for the others. Where its
    columns are no neighbours, `apart` has the places of those of each vector, from the first column of the tile. Both
    operands are rounded where there is a `rounding`.
    """

    shape: TileShape
    dtype: DType
    places: tuple[int, ...]
    lanes: int
    unrolled: int
    steps_ahead: int
    ahead_rows: int
    ahead_left: bool
    is_fenced: bool
    apart: tuple[Operand, ...] = ()
    rounding: Rounding | None = None

    @property
    def vector(self) -> Type:
        return vector(self.dtype, LANES)

    @property
    def zero(self) -> Operand:
        return Constant(self.vector, 0.0)

    @property
    def slots(self) -> int:
        return self.shape.rows * self.shape.vectors


def multiplied(
    nest: Builder,
    tile: RegisterTile,
    axes: Sequence[SummedAxis],
    lhs: Value,
    rhs: Value,
    accumulators: Sequence[Operand],
    copy: Value | None = None,
    ahead: Sequence[Ahead] = (),
) -> Sequence[Operand]:
    """The accumulators, row by row, after summing over `axes`, outermost first.

    Elements of the right operand are written to `copy` as well, where one is given. Only a single axis asks `ahead`.
    """
    axis = axes[0]
    walked = [(lhs, axis.lhs_stride), (rhs, axis.rhs_stride), *([(copy, axis.copy_stride)] if copy else [])]
    if len(axes) == 1:
        return _summed_along(nest, tile, axis, walked, accumulators, ahead)

    def outer_body(index: Value, carried: list[Value]) -> Sequence[Operand]:
        inner = [nest.pointer(pointer, nest.mul(index, stride), tile.dtype) for pointer, stride in walked]
        return multiplied(nest, tile, axes[1:], inner[0], inner[1], carried, inner[2] if copy else None)

    return nest.loop(0, axis.extent, 1, list(accumulators), outer_body)


def _summed_along(
    nest: Builder,
    tile: RegisterTile,
    axis: SummedAxis,
    walked: Sequence[tuple[Value, int]],
    accumulators: Sequence[Operand],
    ahead: Sequence[Ahead],
) -> Sequence[Operand]:
    """The accumulators after one axis, along which the pointers `walked` move by a stride each."""
    # pointers are carried: multiples of the index would cost additions, or LLVM much time to find that out
    carries = [*accumulators, *(pointer for pointer, _ in walked)]
    carries += [asked.pointer for asked in ahead if not asked.rows]

    def step(index: Index, carried: list[Value], times: int) -> Sequence[Operand]:
        sums = carried[: tile.slots]
        pointers = carried[tile.slots : tile.slots + len(walked)]
        following = _ask_ahead(nest, tile, ahead, index, carried[tile.slots + len(walked) :], asks=times > 1)
        factors = Factors(nest, tile, axis, pointers[0], pointers[1])
        for turn in range(times):
            if tile.is_fenced:
                nest.fence()
            sums = factors.rank_one(turn, sums, *pointers[2:])
        moved = (nest.pointer(p, times * by, tile.dtype) for p, (_, by) in zip(pointers, walked, strict=True))
        return [*sums, *moved, *following]

    unroll = tile.unrolled
    if unroll == 1:
        return nest.loop(0, axis.extent, 1, carries, lambda i, c: step(i, c, 1))[: tile.slots]
    if isinstance(axis.extent, Value):
        stop = nest.binary("and", axis.extent, -unroll)
    else:
        stop = axis.extent // unroll * unroll
    values = nest.loop(0, stop, unroll, carries, lambda i, c: step(i, c, unroll))
    if stop != axis.extent:
        values = nest.loop(stop, axis.extent, 1, values, lambda i, c: step(i, c, 1))
    return values[: tile.slots]


def _ask_ahead(
    nest: Builder, tile: RegisterTile, ahead: Sequence[Ahead], index: Index, lines: Sequence[Value], asks: bool
) -> list[Operand]:
    """The lines that the next step asks for, after this one has asked for its own."""
    given, following = iter(lines), list[Operand]()
    for asked in ahead:
        line = _row_of(nest, asked, index, tile.dtype) if asked.rows else next(given)
        if asks:
            with nest.when(asked.condition) if asked.condition else nullcontext():
                _ask(nest, asked, line, tile.dtype)
        if not asked.rows:
            following.append(nest.pointer(line, asked.step, tile.dtype))
    return following


def _row_of(nest: Builder, asked: Ahead, index: Index, dtype: DType) -> Value:
    """The row to ask for in a step, where some are asked for evenly while the depth is summed."""
    each = (asked.rows << FRACTION) // asked.depth
    row = nest.binary("shift", nest.mul(index, each), FRACTION)
    return nest.pointer(asked.pointer, nest.mul(row, asked.step), dtype)


def multiplied_copying(
    nest: Builder,
    tile: RegisterTile,
    given: Sequence[SummedAxis],
    packed: Sequence[SummedAxis],
    lhs: Value,
    panel: Value,
    target: Value,
    is_first: Value,
    accumulators: Sequence[Operand],
    ahead: Sequence[Ahead] = (),
) -> Sequence[Operand]:
    """The accumulators of a tile. The first one that reads a panel copies it to `target`, where the others read it."""
    copying = replace(tile, lanes=LANES, ahead_rows=tile.shape.rows)
    rounds = nest.converted(is_first, DType.I64)  # loops of one round or none, so that accumulators join

    def first(index: Value, carried: list[Value]) -> Sequence[Operand]:
        return multiplied(nest, copying, given, lhs, panel, carried, target)

    def later(index: Value, carried: list[Value]) -> Sequence[Operand]:
        return multiplied(nest, tile, packed, lhs, target, carried, ahead=ahead)

    values = nest.loop(0, rounds, 1, accumulators, first)
    return nest.loop(rounds, 1, 1, values, later)


def _ask(nest: Builder, ahead: Ahead, row: Value, type_: DType) -> None:
    for place in ahead.places:
        line = nest.pointer(row, place, type_)
        nest.prefetch(line, ahead.writes, 3 if ahead.writes else 2)


@record(eq=False)
class Factors:
    """Both operands of a register tile, from where they stand on along a summed axis."""

    nest: Builder
    tile: RegisterTile
    axis: SummedAxis
    left: Value
    right: Value

    def moved(self, index: Index) -> tuple[Value, Value]:
        """Both operands at an index of the sum."""
        nest, type_ = self.nest, self.tile.dtype
        left, right = nest.mul(index, self.axis.lhs_stride), nest.mul(index, self.axis.rhs_stride)
        return nest.pointer(self.left, left, type_), nest.pointer(self.right, right, type_)

    def rank_one(self, turn: int, accumulators: Sequence[Operand], copy: Value | None = None) -> Sequence[Operand]:
        """One k: the vectors of the right operand, and one broadcast of the left for each row."""
        nest, tile, axis = self.nest, self.tile, self.axis
        type_, size, whole, shape = tile.dtype, tile.dtype.size, tile.vector, tile.shape
        columns: list[Operand] = []
        following = list(accumulators)
        is_alone = tile.is_fenced and shape.rows == 1  # each vector is used up before the next one takes registers
        single = self._left_of(turn, tile.places[0]) if is_alone else None
        for part in range(shape.vectors):
            if is_alone:
                nest.fence()
            place = nest.pointer(self.right, turn * axis.rhs_stride + (0 if tile.apart else part * LANES), type_)
            if tile.apart:
                every = Constant(vector(DType.BOOL, LANES), True)
                columns.append(self._rounded(nest.gather(place, tile.apart[part], type_, every)))
            elif tile.lanes == LANES:
                columns.append(self._rounded(nest.load(place, whole, size)))
            if shape.rows <= tile.ahead_rows:
                later = nest.pointer(self.right, (turn + tile.steps_ahead) * axis.rhs_stride + part * LANES, type_)
                nest.prefetch(later)
            if copy:
                there = nest.pointer(copy, turn * axis.copy_stride + part * LANES, type_)
                nest.store(columns[-1], there, 64)
            if single is not None:
                following[part] = nest.fma(single, columns[-1], following[part])
        if is_alone:
            return following
        if tile.lanes < LANES:
            return self._by_register(turn, accumulators)
        if tile.ahead_left:
            for column in (0, shape.rows - 1):
                later = nest.pointer(self.left, column + (turn + tile.steps_ahead) * axis.lhs_stride, type_)
                nest.prefetch(later)
        for row, offset in enumerate(tile.places):
            scalar = self._left_of(turn, offset)
            for part in range(shape.vectors):
                slot = row * shape.vectors + part
                following[slot] = nest.fma(scalar, columns[part], following[slot])
        return following

    def _by_register(self, turn: int, accumulators: Sequence[Operand]) -> Sequence[Operand]:
        """One k, whose right operand comes register by register, each for all rows."""
        nest, tile = self.nest, self.tile
        type_, lanes, vectors = tile.dtype, tile.lanes, tile.shape.vectors
        scalars = [self._left_of(turn, offset) for offset in tile.places]
        following = list(accumulators)
        for part in range(vectors):
            slots = range(part, tile.slots, vectors)
            pieces: list[list[Operand]] = [[] for _ in slots]
            for first in range(0, LANES, lanes):
                place = nest.pointer(self.right, turn * self.axis.rhs_stride + part * LANES + first, type_)
                column = self._rounded(nest.load(place, vector(type_, lanes), type_.size))
                for slot, scalar, of_row in zip(slots, scalars, pieces, strict=True):
                    sums = nest.lanes_of(following[slot], first, lanes)
                    of_row.append(nest.fma(scalar, column, sums))
            for slot, of_row in zip(slots, pieces, strict=True):
                following[slot] = nest.joined(of_row)
        return following

    def _left_of(self, turn: int, offset: int) -> Value:
        """An element of the left operand in every lane."""
        nest, type_ = self.nest, self.tile.dtype
        place = nest.pointer(self.left, offset + turn * self.axis.lhs_stride, type_)
        return nest.splat(self._rounded(nest.load(place, vector(type_, 1), type_.size)), self.tile.lanes)

    def _rounded(self, value: Value) -> Value:
        return value if self.tile.rounding is None else self.nest.round_factor(value, self.tile.rounding)
