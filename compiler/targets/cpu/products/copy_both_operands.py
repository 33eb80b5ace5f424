"""Large products whose operands both lie row by row along the sum, as in gradients of weights: blocks are copied.

A thread takes rectangles of tiles and panels through blocks of the sum, and copies what each takes of both operands in
strips. The sums lie in scratch between the blocks, so each element is one chain. A tile asks for its share of what the
next block copies.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, sqrt

from compiler.loops.ir import TileContract
from compiler.support.numerics import LANES
from compiler.targets.cpu.products.ir import (
    LEFT,
    RIGHT,
    Ask,
    Asked,
    Axis,
    Circumstances,
    Clear,
    CopyStrips,
    Entry,
    Finish,
    KeepSums,
    Kind,
    Let,
    LetShare,
    Loop,
    Multiply,
    Place,
    ProductLoops,
    Put,
    Strips,
    Sums,
    When,
)
from compiler.targets.cpu.products.rewriting import has_loop, nested
from compiler.targets.cpu.tiles import TileShape, Tiling, most_rows, row_steps
from compiler.tuning import Tuning
from compiler.types import size_at


def sums_side_by_side(contract: TileContract, cut: Tiling, tuning: Tuning) -> bool:
    """Whether the operands are too large for the second-level cache, and dense in rows and columns."""
    is_plain = len(contract.k) == 1 and not contract.outer and contract.triangle is None and cut.shape.rows <= LANES
    is_dense = contract.lhs_m_stride == contract.rhs_n_stride == 1
    return is_plain and is_dense and cut.block > 0 and cut.panels >= tuning.block_panels


def copy_both_operands(product: ProductLoops, given: Circumstances) -> ProductLoops:
    contract, tuning = product.contract, given.tuning
    if has_loop(product, Axis.SUM) or product.lasts or not sums_side_by_side(contract, product.cut, tuning):
        return product
    # a tile takes its panel from the second-level cache, whatever its rows: the fewest tiles are the fastest
    shape = replace(product.cut.shape, rows=min(LANES, most_rows(contract, product.cut.shape.vectors, given.machine)))
    cut = replace(product.cut, shape=shape, row_steps=row_steps(contract, shape))
    deep, size, line = tuning.copied_sum, contract.dtype.size, given.machine.line(contract.dtype)
    side = _side(shape, int(tuning.copied_share * given.machine.l2_bytes) // size, deep)
    tiles = _evenly(ceil(size_at(contract.m, given.batch) / shape.rows), side // shape.rows)
    panels = _evenly(cut.panels, side // shape.width)
    left, right = Strips.of(shape.rows, tiles, deep), Strips.of(shape.width, panels, deep)
    blocks = (Loop(Axis.TILE, Kind.EVENLY, (), tiles), Loop(Axis.PANEL, Kind.EVENLY, (), panels))
    inside = Loop(
        Axis.PANEL, Kind.FROM_ZERO, (Let.COLUMN, Loop(Axis.TILE, Kind.FROM_ZERO, _tile(left, right, line, tuning)))
    )
    copies = (CopyStrips(LEFT, left, tuning.copied_together), CopyStrips(RIGHT, right, tuning.copied_together))
    over_sum = Loop(Axis.SUM, Kind.PLAIN, (Let.BLOCK, *copies, inside), deep)
    scratch = ((contract.tile, shape.rows * shape.width * size * (tiles * panels + 1)),)
    scratch += ((LEFT, left.pitch * tiles * size), (RIGHT, right.pitch * panels * size))
    body = (Entry.EXTENTS, nested(blocks, (Clear(), over_sum)))
    return replace(product, tiling=cut, body=body, scratch=scratch)


def _tile(left: Strips, right: Strips, line: int, tuning: Tuning) -> tuple[Let | KeepSums | When, ...]:
    """What is done with a tile in each block of the sum."""
    deep, stretches = left.deep, max(1, left.most * right.most // left.deep)  # of a row
    multiply = Multiply(Place.STRIPS, Place.STRIPS, Sums.KEPT, streams=True)
    asks = (
        _spread(Asked.SUMS, left.width * right.width, deep, line, tuning),
        _spread(Asked.LEFT_OF_NEXT_BLOCK, ceil(left.most * left.width / stretches), deep, line, tuning),
        _spread(Asked.RIGHT_OF_NEXT_BLOCK, ceil(right.most * right.width / stretches), deep, line, tuning),
    )
    last = (replace(multiply, asks=(Ask(Asked.RESULTS, deep),)), Put(), Finish())
    others = (LetShare(stretches), replace(multiply, asks=asks), Put())
    return Let.NUMBER, Let.HANGING_TILE, KeepSums(None), When(is_last=False, body=others), When(is_last=True, body=last)


def _spread(what: Asked, elements: int, deep: int, line: int, tuning: Tuning) -> Ask:
    """The lines of so many elements, evenly over the steps of a tile."""
    lines = ceil(elements / line) + 1  # the first may begin before
    steps = max(1, deep // tuning.unrolled_steps)  # in which a tile asks ahead
    return Ask(what, deep, number=lines) if lines <= steps else Ask(what, lines=ceil(lines / steps))


def _side(shape: TileShape, elements: int, deep: int) -> int:
    """Rows, and as many columns, whose sums and operands, `deep` of the sum, have so many elements."""
    copied = deep * (1 + Strips.of(shape.rows, 1, deep).room / shape.rows)
    return int((sqrt(copied * copied + 4 * elements) - copied) / 2)


def _evenly(number: int, most: int) -> int:
    """How many of them a group has where groups are equal."""
    return ceil(number / ceil(number / max(1, most)))
