"""Cuts a product into register tiles, and says in which order they follow: each is an item."""

from __future__ import annotations

from dataclasses import replace

from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.rewriting import has_loop, loops_to_tile, nested
from compiler.targets.cpu.tiles import tiling


def tile(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    cut = tiling(product.contract, given.machine, given.batch)
    loops, body = loops_to_tile(product)
    kept = [loop for loop in loops if loop.axis is not ir.Axis.PANEL or cut.panels > 1]
    return replace(product, tiling=cut, body=(nested(kept, body),))


def put_panels_outside(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    loops, body = loops_to_tile(product)
    if [loop.axis for loop in loops] != [ir.Axis.OUTER, ir.Axis.TILE, ir.Axis.PANEL]:
        return product
    outer, tiles, panels = loops
    order = (panels, outer, tiles) if product.cut.panels_outside else (outer, panels, tiles)
    return replace(product, body=(nested(order, body),))


def block_rows(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    loops, body = loops_to_tile(product)
    if not product.cut.block or [loop.axis for loop in loops] != [ir.Axis.OUTER, ir.Axis.PANEL, ir.Axis.TILE]:
        return product
    outer, panels, tiles = loops
    return replace(product, body=(nested([outer, replace(tiles, step=product.cut.block), panels, tiles], body),))


def make_items(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    if has_loop(product, ir.Axis.SUM):
        return product
    loops, body = loops_to_tile(product)
    items = nested([replace(loop, kind=ir.Kind.ITEMS) for loop in loops], (ir.Let.TILE, ir.Let.OPERANDS, *body))
    return replace(product, body=(ir.Entry.EXTENTS, items))
