"""Packs the panels of the right operand, so that register tiles read them in one stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.loops.ir import TileContract
from compiler.targets.cpu.packing import Packing, is_packed
from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.rewriting import has_loop, rewritten, statements_of, with_multiply
from compiler.targets.cpu.tiles import Tiling, depth_of, lanes_apart, nominal_product, pieces_of, rows_of_tiles
from compiler.types import size_at


def pack_all_panels(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    as_it_lies = any(isinstance(s, ir.Multiply) and s.right is ir.Place.ITSELF for s in statements_of(product.body))
    if not any(isinstance(s, ir.Join) for s in statements_of(product.body)) or not as_it_lies:
        return product
    packed = with_multiply(product, lambda of: (replace(of, right=ir.Place.SHARED, streams=True),))
    return replace(packed, body=(ir.PackAllPanels(packing_for(product.contract, given)), *packed.body))


def pack(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    place = packing_of(product.contract, product.cut, given.batch, product.lasts and given.machine.keeps_copies)
    if place is ir.Place.ITSELF or has_loop(product, ir.Axis.SUM):
        return product
    packing = packing_for(product.contract, given)
    bytes_ = depth_of(product.contract) * product.cut.shape.width * product.contract.dtype.size

    def change(multiply: ir.Multiply) -> Sequence[ir.Statement]:
        packed = replace(multiply, right=place, streams=bytes_ > given.tuning.near_panel_bytes)
        return ir.PackPanel(packing) if place is ir.Place.OWN else ir.Let.PANEL, packed

    *entries, loops = with_multiply(product, change).body
    first = ir.Entry.OWN_PANEL if place is ir.Place.OWN else ir.PackAllPanels(packing)
    return replace(product, body=(*entries, first, loops))


def packing_for(contract: TileContract, given: ir.Circumstances) -> Packing:
    is_transposed = contract.rhs_n_stride != 1
    return Packing(0, pieces_of(given.machine)) if is_transposed else Packing(given.tuning.steps_ahead, 0)


def packing_of(contract: TileContract, cut: Tiling, batch: int, lasts: bool) -> ir.Place:
    """Where to pack the panels; a copy that `lasts` serves all calls, where the right operand is the same in them."""
    if is_packed(contract, cut.shape):
        return ir.Place.ITSELF
    is_static = all(isinstance(axis.extent, int) for axis in contract.k)
    if lasts and is_static and not any(axis.rhs_stride for axis in contract.outer):
        return ir.Place.SHARED
    rows = size_at(cut.row_steps.extent, batch) * cut.row_steps.unit
    if cut.panels_outside:
        rows *= nominal_product(cut.row_steps.outer, batch)
    if contract.rhs_n_stride != 1 or rows > cut.shape.rows:
        return ir.Place.OWN
    return ir.Place.ITSELF  # a single tile of rows reads each panel once


def pack_while_multiplying(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    contract = product.contract
    is_short = contract.rhs_n_stride == 1 and rows_of_tiles(product.cut, given.batch) <= given.tuning.copying_tiles
    if not is_short or contract.triangle is not None:
        return product

    def change(statement: ir.Statement) -> tuple[ir.Statement, ...]:
        if isinstance(statement, ir.Multiply) and statement.right is ir.Place.OWN:
            return (replace(statement, copying=ir.Copying.WHEN_NEW),)
        return (ir.Let.NEW_PANEL if isinstance(statement, ir.PackPanel) else statement,)

    return replace(product, body=rewritten(product.body, change))


def take_by_register(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    if has_loop(product, ir.Axis.SUM):
        return product
    lanes = lanes_apart(product.cut.shape, product.contract.dtype, given.machine)
    return with_multiply(product, lambda of: (replace(of, lanes=lanes),))
