"""The register tile of a triangular product: elements beyond the triangle are neither added nor multiplied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.loops.ir import Triangle
from compiler.targets.cpu.kernel_text import KernelText
from compiler.targets.cpu.multiply import RegisterTile, SummedAxis, multiplied, rank_one
from compiler.targets.cpu.text import LANES, REGISTER, Text
from compiler.targets.cpu.tiles import TileShape


def multiplied_within(
    k: KernelText, triangle: Triangle, tile: RegisterTile, axis: SummedAxis, lhs: str, rhs: str, row: str, column: str
) -> list[str]:
    """The accumulators of the tile whose first element is (`row`, `column`); its rows all exist."""
    zeros, last = [tile.zero] * tile.slots, tile.shape.rows - 1
    text = k.text
    match triangle:
        case Triangle.SUM_TO_ROW:
            sums = multiplied(text, tile, [replace(axis, extent=row)], lhs, rhs, zeros)
            return _corner(text, tile, axis, *_moved(text, tile, axis, lhs, rhs, row), sums, triangle)
        case Triangle.SUM_FROM_ROW:
            sums = _corner(text, tile, axis, *_moved(text, tile, axis, lhs, rhs, row), zeros, triangle)
            behind = text.add(row, last + 1)
            left = replace(axis, extent=text.let(f"sub i64 {axis.extent}, {behind}"))
            return multiplied(text, tile, [left], *_moved(text, tile, axis, lhs, rhs, behind), sums)
        case Triangle.COLUMNS_TO_ROW:
            beyond = text.let(f"icmp sgt i64 {column}, {text.add(row, last)}")
            crossing = text.let(f"icmp sgt i64 {text.add(column, tile.shape.width - 1)}, {row}")
        case Triangle.COLUMNS_FROM_ROW:
            beyond = text.let(f"icmp slt i64 {text.add(column, tile.shape.width - 1)}, {row}")
            crossing = text.let(f"icmp slt i64 {column}, {text.add(row, last)}")
    depth = text.let(f"select i1 {beyond}, i64 0, i64 {axis.extent}")
    sums = multiplied(text, tile, [replace(axis, extent=depth)], lhs, rhs, zeros)
    rounds = text.let(f"zext i1 {crossing} to i64")  # a loop of one round or none, so that accumulators join

    def cleared(index: str, carried: list[str]) -> list[str]:
        return [_counting(k, triangle, tile, row, column, slot, value) for slot, value in enumerate(carried)]

    return text.loop("0", rounds, 1, [(tile.vector, value) for value in sums], cleared)


def _moved(text: Text, tile: RegisterTile, axis: SummedAxis, lhs: str, rhs: str, index: str) -> tuple[str, str]:
    """Both operands at an index of the sum."""
    type_ = REGISTER[tile.dtype]
    left, right = text.mul(index, axis.lhs_stride), text.mul(index, axis.rhs_stride)
    return text.pointer(lhs, left, type_), text.pointer(rhs, right, type_)


def _corner(
    text: Text, tile: RegisterTile, axis: SummedAxis, lhs: str, rhs: str, sums: Sequence[str], triangle: Triangle
) -> list[str]:
    """With the terms of as many indices as the tile has rows, of which the first is that of the first row."""
    found, rows, vectors = list(sums), tile.shape.rows, tile.shape.vectors
    for turn in range(rows):
        begin, end = (turn, rows) if triangle is Triangle.SUM_TO_ROW else (0, turn + 1)
        part = replace(tile, shape=TileShape(end - begin, vectors), places=tile.places[begin:end])
        slots = slice(begin * vectors, end * vectors)
        found[slots] = rank_one(text, part, axis, lhs, rhs, turn, found[slots])
    return found


def _counting(
    k: KernelText, triangle: Triangle, tile: RegisterTile, row: str, column: str, slot: int, value: str
) -> str:
    """An accumulator with 0 in the lanes that lie beyond."""
    text, vector = k.text, tile.vector
    here = text.add(column, slot % tile.shape.vectors * LANES)
    place = text.add(row, slot // tile.shape.vectors)
    if triangle is Triangle.COLUMNS_TO_ROW:
        chosen = (k.mask_below(here, text.add(place, 1)), value, "zeroinitializer")
    else:
        chosen = (k.mask_below(here, place), "zeroinitializer", value)
    mask, inside, outside = chosen
    return text.let(f"select <{LANES} x i1> {mask}, {vector} {inside}, {vector} {outside}")
