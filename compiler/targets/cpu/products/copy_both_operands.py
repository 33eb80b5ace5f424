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
from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.rewriting import has_loop, nested
from compiler.targets.cpu.tiles import TileShape, Tiling, most_rows, row_steps
from compiler.tuning import Tuning
from compiler.types import size_at


def sums_side_by_side(contract: TileContract, cut: Tiling, tuning: Tuning) -> bool:
    """Whether the operands are too large for the second-level cache, and dense in rows and columns."""
    is_plain = len(contract.k) == 1 and not contract.outer and contract.triangle is None and cut.shape.rows <= LANES
    is_dense = contract.lhs_m_stride == contract.rhs_n_stride == 1
    return is_plain and is_dense and cut.block > 0 and cut.panels >= tuning.block_panels


def copy_both_operands(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    contract, tuning = product.contract, given.tuning
    if has_loop(product, ir.Axis.SUM) or product.lasts or not sums_side_by_side(contract, product.cut, tuning):
        return product
    # a tile takes its panel from the second-level cache, whatever its rows: the fewest tiles are the fastest
    shape = replace(product.cut.shape, rows=min(LANES, most_rows(contract, product.cut.shape.vectors, given.machine)))
    cut = replace(product.cut, shape=shape, row_steps=row_steps(contract, shape))
    deep, size, line = tuning.copied_sum, contract.dtype.size, given.machine.line(contract.dtype)
    side = _side(shape, int(tuning.copied_share * given.machine.l2_bytes) // size, deep)
    tiles = _evenly(ceil(size_at(contract.m, given.batch) / shape.rows), side // shape.rows)
    panels = _evenly(cut.panels, side // shape.width)
    left, right = ir.Strips.of(shape.rows, tiles, deep), ir.Strips.of(shape.width, panels, deep)
    blocks = (ir.Loop(ir.Axis.TILE, ir.Kind.EVENLY, (), tiles), ir.Loop(ir.Axis.PANEL, ir.Kind.EVENLY, (), panels))
    over_tiles = ir.Loop(ir.Axis.TILE, ir.Kind.FROM_ZERO, _tile(left, right, line, tuning))
    inside = ir.Loop(ir.Axis.PANEL, ir.Kind.FROM_ZERO, (ir.Let.COLUMN, over_tiles))
    copies = [ir.CopyStrips(to, of, tuning.copied_together) for to, of in ((ir.LEFT, left), (ir.RIGHT, right))]
    over_sum = ir.Loop(ir.Axis.SUM, ir.Kind.PLAIN, (ir.Let.BLOCK, *copies, inside), deep)
    scratch = ((contract.tile, shape.rows * shape.width * size * (tiles * panels + 1)),)
    scratch += ((ir.LEFT, left.pitch * tiles * size), (ir.RIGHT, right.pitch * panels * size))
    body = (ir.Entry.EXTENTS, nested(blocks, (ir.Clear(), over_sum)))
    return replace(product, tiling=cut, body=body, scratch=scratch)


def _tile(left: ir.Strips, right: ir.Strips, line: int, tuning: Tuning) -> tuple[ir.Let | ir.KeepSums | ir.When, ...]:
    """The statements for a tile in each block of the sum."""
    deep, stretches = left.deep, max(1, left.most * right.most // left.deep)  # of a row
    multiply = ir.Multiply(ir.Place.STRIPS, ir.Place.STRIPS, ir.Sums.KEPT, streams=True)
    asks = (
        _spread(ir.Asked.SUMS, left.width * right.width, deep, line, tuning),
        _spread(ir.Asked.LEFT_OF_NEXT_BLOCK, ceil(left.most * left.width / stretches), deep, line, tuning),
        _spread(ir.Asked.RIGHT_OF_NEXT_BLOCK, ceil(right.most * right.width / stretches), deep, line, tuning),
    )
    last = (replace(multiply, asks=(ir.Ask(ir.Asked.RESULTS, deep),)), ir.Put(), ir.Finish())
    others = (ir.LetShare(stretches), replace(multiply, asks=asks), ir.Put())
    blocks = ir.When(is_last=False, body=others), ir.When(is_last=True, body=last)
    return ir.Let.NUMBER, ir.Let.HANGING_TILE, ir.KeepSums(None), *blocks


def _spread(what: ir.Asked, elements: int, deep: int, line: int, tuning: Tuning) -> ir.Ask:
    """The lines of so many elements, evenly over the steps of a tile."""
    lines = ceil(elements / line) + 1  # the first may begin before
    steps = max(1, deep // tuning.unrolled_steps)  # in which a tile asks ahead
    return ir.Ask(what, deep, number=lines) if lines <= steps else ir.Ask(what, lines=ceil(lines / steps))


def _side(shape: TileShape, elements: int, deep: int) -> int:
    """Rows, and as many columns, whose sums and operands, `deep` of the sum, have so many elements."""
    copied = deep * (1 + ir.Strips.of(shape.rows, 1, deep).room / shape.rows)
    return int((sqrt(copied * copied + 4 * elements) - copied) / 2)


def _evenly(number: int, most: int) -> int:
    """How many of them a group has where groups are equal."""
    return ceil(number / ceil(number / max(1, most)))
