"""The register tile of a triangular product: elements beyond the triangle are neither added nor multiplied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.loops.ir import Triangle
from compiler.nest.ir import Index, Operand, Value, Zeros
from compiler.support.numerics import LANES
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.multiply import Factors, RegisterTile, SummedAxis, multiplied
from compiler.targets.cpu.tiles import TileShape
from compiler.types import DType


def multiplied_within(
    k: KernelNest,
    triangle: Triangle,
    tile: RegisterTile,
    axis: SummedAxis,
    lhs: Value,
    rhs: Value,
    row: Index,
    column: Index,
) -> Sequence[Operand]:
    """The accumulators of the tile whose first element is (`row`, `column`); its rows all exist."""
    zeros, last = [tile.zero] * tile.slots, tile.shape.rows - 1
    nest, factors = k.nest, Factors(k.nest, tile, axis, lhs, rhs)
    match triangle:
        case Triangle.SUM_TO_ROW:
            sums = multiplied(nest, tile, [replace(axis, extent=row)], lhs, rhs, zeros)
            return _corner(factors, row, sums, triangle)
        case Triangle.SUM_FROM_ROW:
            sums = _corner(factors, row, zeros, triangle)
            behind = nest.add(row, last + 1)
            left = replace(axis, extent=nest.sub(axis.extent, behind))
            return multiplied(nest, tile, [left], *factors.moved(behind), sums)
        case Triangle.COLUMNS_TO_ROW:
            beyond = nest.compare("gt", column, nest.add(row, last))
            crossing = nest.compare("gt", nest.add(column, tile.shape.width - 1), row)
        case Triangle.COLUMNS_FROM_ROW:
            beyond = nest.compare("lt", nest.add(column, tile.shape.width - 1), row)
            crossing = nest.compare("lt", column, nest.add(row, last))
    depth = nest.select(beyond, 0, axis.extent)
    sums = multiplied(nest, tile, [replace(axis, extent=depth)], lhs, rhs, zeros)
    rounds = nest.converted(crossing, DType.I64)  # a loop of one round or none, so that accumulators join

    def cleared(index: Value, carried: list[Value]) -> Sequence[Operand]:
        return [_counting(k, triangle, tile, row, column, slot, value) for slot, value in enumerate(carried)]

    return nest.loop(0, rounds, 1, sums, cleared)


def _corner(whole: Factors, first: Index, sums: Sequence[Operand], triangle: Triangle) -> Sequence[Operand]:
    """With the terms of as many indices as the tile has rows, of which the `first` is that of the first row."""
    tile = whole.tile
    left, right = whole.moved(first)
    found, rows, vectors = list(sums), tile.shape.rows, tile.shape.vectors
    for turn in range(rows):
        begin, end = (turn, rows) if triangle is Triangle.SUM_TO_ROW else (0, turn + 1)
        shape, places, asks = TileShape(end - begin, vectors), tile.places[begin:end], tile.ahead_left and begin == 0
        part = replace(tile, shape=shape, places=places, ahead_left=asks)
        slots = slice(begin * vectors, end * vectors)
        found[slots] = replace(whole, tile=part, left=left, right=right).rank_one(turn, found[slots])
    return found


def _counting(
    k: KernelNest, triangle: Triangle, tile: RegisterTile, row: Index, column: Index, slot: int, value: Operand
) -> Index:
    """An accumulator with 0 in the lanes that lie beyond."""
    nest, zeros = k.nest, Zeros(tile.vector)
    here = nest.add(column, slot % tile.shape.vectors * LANES)
    place = nest.add(row, slot // tile.shape.vectors)
    if triangle is Triangle.COLUMNS_TO_ROW:
        chosen = (k.mask_below(here, nest.add(place, 1)), value, zeros)
    else:
        chosen = (k.mask_below(here, place), zeros, value)
    mask, inside, outside = chosen
    return nest.select(mask, inside, outside)
