"""Packs the panels of the right operand, so that register tiles read them in one stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.loops.ir import TileContract
from compiler.targets.cpu.packing import Packing, is_packed
from compiler.targets.cpu.products.ir import (
    Axis,
    Circumstances,
    Copying,
    Entry,
    Join,
    Let,
    Multiply,
    PackAllPanels,
    PackPanel,
    Place,
    ProductLoops,
    Statement,
)
from compiler.targets.cpu.products.rewriting import has_loop, rewritten, statements_of, with_multiply
from compiler.targets.cpu.tiles import Tiling, depth_of, lanes_apart, nominal_product, rows_of_tiles
from compiler.targets.cpu.transpose import pieces_of
from compiler.types import size_at


def pack_all_panels(product: ProductLoops, given: Circumstances) -> ProductLoops:
    as_it_lies = any(isinstance(s, Multiply) and s.right is Place.ITSELF for s in statements_of(product.body))
    if not any(isinstance(s, Join) for s in statements_of(product.body)) or not as_it_lies:
        return product
    packed = with_multiply(product, lambda of: (replace(of, right=Place.SHARED, streams=True),))
    return replace(packed, body=(PackAllPanels(packing_for(product.contract, given)), *packed.body))


def pack(product: ProductLoops, given: Circumstances) -> ProductLoops:
    place = packing_of(product.contract, product.cut, given.batch, product.lasts)
    if place is Place.ITSELF or has_loop(product, Axis.SUM):
        return product
    packing = packing_for(product.contract, given)
    bytes_ = depth_of(product.contract) * product.cut.shape.width * product.contract.dtype.size

    def change(multiply: Multiply) -> Sequence[Statement]:
        packed = replace(multiply, right=place, streams=bytes_ > given.tuning.near_panel_bytes)
        return PackPanel(packing) if place is Place.OWN else Let.PANEL, packed

    *entries, loops = with_multiply(product, change).body
    return replace(product, body=(*entries, Entry.OWN_PANEL if place is Place.OWN else PackAllPanels(packing), loops))


def packing_for(contract: TileContract, given: Circumstances) -> Packing:
    is_transposed = contract.rhs_n_stride != 1
    return Packing(0, pieces_of(given.machine)) if is_transposed else Packing(given.tuning.steps_ahead, 0)


def packing_of(contract: TileContract, cut: Tiling, batch: int, lasts: bool) -> Place:
    """Where to pack the panels; the right operand `lasts` where it is the same from call to call."""
    if is_packed(contract, cut.shape):
        return Place.ITSELF
    is_static = all(isinstance(axis.extent, int) for axis in contract.k)
    if lasts and is_static and not any(axis.rhs_stride for axis in contract.outer):
        return Place.SHARED
    rows = size_at(cut.row_steps.extent, batch) * cut.row_steps.unit
    if cut.panels_outside:
        rows *= nominal_product(cut.row_steps.outer, batch)
    if contract.rhs_n_stride != 1 or rows > cut.shape.rows:
        return Place.OWN
    return Place.ITSELF  # a single tile of rows reads each panel once


def pack_while_multiplying(product: ProductLoops, given: Circumstances) -> ProductLoops:
    contract = product.contract
    is_short = contract.rhs_n_stride == 1 and rows_of_tiles(product.cut, given.batch) <= given.tuning.copying_tiles
    if not is_short or contract.triangle is not None:
        return product

    def change(statement: Statement) -> tuple[Statement, ...]:
        if isinstance(statement, Multiply) and statement.right is Place.OWN:
            return (replace(statement, copying=Copying.WHEN_NEW),)
        return (Let.NEW_PANEL if isinstance(statement, PackPanel) else statement,)

    return replace(product, body=rewritten(product.body, change))


def take_by_register(product: ProductLoops, given: Circumstances) -> ProductLoops:
    if has_loop(product, Axis.SUM):
        return product
    lanes = lanes_apart(product.cut.shape, product.contract.dtype, given.machine)
    return with_multiply(product, lambda of: (replace(of, lanes=lanes),))
