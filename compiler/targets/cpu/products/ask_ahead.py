"""Asks for operands and results that come from far away, so that they arrive while a tile is multiplied."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from compiler.loops.ir import TileContract
from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.rewriting import loops_over, packs_all_panels, statements_of, with_multiply
from compiler.targets.cpu.tiles import Tiling
from compiler.tuning import Tuning


def ask_for_next_panel(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    blocks, contract = loops_over(product, ir.Axis.SUM), product.contract
    if not blocks or not packs_all_panels(product):
        return product
    line = given.machine.line(contract.dtype)
    deep, (_, block, _) = blocks[0].step, loops_over(product, ir.Axis.TILE)
    several = any(isinstance(s, ir.When) for s in statements_of(product.body))
    asks = [ir.Ask(ir.Asked.SUMS_OR_RESULTS if several else ir.Asked.RESULTS, deep)]
    asks += [ir.Ask(ir.Asked.PANEL, deep, number=ceil(deep / block.step))]
    asks += [ir.Ask(ir.Asked.ROWS_OF_FIRST_PANEL, deep, number=deep // line)] if contract.k[0].lhs_stride == 1 else []
    return with_multiply(product, lambda of: (replace(of, asks=tuple(asks)),))


def ask_for_next_rows(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    if loops_over(product, ir.Axis.SUM) or not streams(product.contract, product.cut, given.tuning):
        return product
    depth, line = product.contract.lhs_m_stride, given.machine.line(product.contract.dtype)
    steps = max(1, depth // given.tuning.unrolled_steps)
    each = ceil(product.cut.shape.rows * depth / line / steps)
    asks = (ir.Ask(ir.Asked.RESULTS, depth), ir.Ask(ir.Asked.ROWS, lines=each))
    return with_multiply(product, lambda of: (replace(of, asks=asks),))


def ask_for_results(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    if loops_over(product, ir.Axis.SUM):
        return product
    return with_multiply(product, lambda of: (of,) if of.asks else (ir.AskForResults(), of))


def ask_by_lines(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    size = given.machine.line_bytes
    return with_multiply(product, lambda of: (replace(of, line_bytes=size) if of.asks else of,))


def streams(contract: TileContract, cut: Tiling, tuning: Tuning) -> bool:
    """Whether rows come from far away, each tile's behind those of the tile before it, so that it can ask for them."""
    (axis, *others) = contract.k
    is_dense = not others and axis.lhs_stride == 1 and axis.extent == contract.lhs_m_stride
    is_long = contract.lhs_m_stride >= tuning.tile_ahead_sum
    return cut.block > 0 and is_dense and is_long and contract.triangle is None
