"""Large products: the sum and the rows are taken in blocks, so that operands read repeatedly stay in cache.

A thread joins its items to rectangles. For a block of rows and a block of the sum, it goes through all of its panels;
the sums of the tiles lie in scratch between the blocks of the sum, so each element is still one chain.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from compiler.loops.ir import TileContract
from compiler.machine import Machine
from compiler.support.numerics import LANES
from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.rewriting import has_loop, loops_over, nested, packs_all_panels, rewritten
from compiler.targets.cpu.tiles import Tiling, rows_of_item
from compiler.tuning import Tuning
from compiler.types import size_at


def blocks_rows_and_sum(contract: TileContract, cut: Tiling, tuning: Tuning) -> bool:
    """Whether the operands are too large for the second-level cache, and the columns enough to share."""
    is_plain = len(contract.k) == 1 and not contract.outer and contract.triangle is None
    return (
        is_plain
        and isinstance(contract.k[0].extent, int)
        and cut.block > 0
        and cut.panels >= tuning.block_panels
        and 1 in (contract.k[0].lhs_stride, contract.lhs_m_stride)
    )


def block_rows_and_sum(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    contract, cut, machine = product.contract, product.cut, given.machine
    if has_loop(product, ir.Axis.SUM) or not blocks_rows_and_sum(contract, cut, given.tuning):
        return product
    depth, size, slot = _depth(contract), contract.dtype.size, cut.shape.rows * cut.shape.width
    fits = depth * cut.shape.width * size <= int(machine.l2_bytes * given.tuning.whole_panel_share)
    blocks = 1 if fits else -(-depth // _deepest(contract, cut, machine))
    deep = -(-depth // (blocks * LANES)) * LANES
    tiles = _rows_of_block(contract, cut, machine, given.batch, deep)
    several = deep < depth
    finish: tuple[ir.Statement, ...] = (ir.Finish(in_registers=True),)
    if several:
        finish = (ir.When(is_last=True, body=finish), ir.When(is_last=False, body=(ir.Put(),)))
    multiply = ir.Multiply(sums=ir.Sums.KEPT_LATER if several else ir.Sums.ZERO)
    block = (ir.Let.BLOCK,) if several else ()
    body = (ir.Let.TILE, ir.Let.NUMBER, ir.KeepSums(tiles if several else 0), *block, multiply, *finish)
    panels = ir.Loop(ir.Axis.PANEL, ir.Kind.PLAIN, (ir.Let.FIRST_PANEL, ir.Loop(ir.Axis.TILE, ir.Kind.PLAIN, body)))
    over_sum = ir.Loop(ir.Axis.SUM, ir.Kind.PLAIN, (panels,), deep)
    rows = ir.Loop(ir.Axis.TILE, ir.Kind.EVENLY, (ir.Let.TILES_END, over_sum), tiles)
    scratch = ((contract.tile, slot * size * (tiles * cut.panels if several else 1)), (ir.ZEROS, slot * size * several))
    entries = (ir.Entry.EXTENTS, *((ir.Entry.ZEROS,) if several else ()))
    return replace(product, body=(*entries, rows), scratch=scratch)


def _depth(contract: TileContract) -> int:
    depth = contract.k[0].extent
    assert isinstance(depth, int)
    return depth


def _deepest(contract: TileContract, cut: Tiling, machine: Machine) -> int:
    """Summed elements of a block: a panel that stays in the first-level cache, where that is large enough."""
    near = machine.l1_bytes // (cut.shape.width * contract.dtype.size)
    return near if near >= machine.tuning.near_block_sum else machine.tuning.block_sum


def _rows_of_block(contract: TileContract, cut: Tiling, machine: Machine, batch: int, deep: int) -> int:
    """Tiles of rows whose part of the left operand fits in the second-level cache beside a panel."""
    size = contract.dtype.size
    room = int(machine.l2_bytes * machine.tuning.rows_share) - deep * cut.shape.width * size
    fits = max(4, room // (deep * size * cut.shape.rows))
    tiles = -(-size_at(contract.m, batch) // cut.shape.rows)
    blocks = -(-tiles // fits)
    if blocks > 1:
        blocks += blocks % 2  # two threads so have equally many
    return -(-tiles // blocks)  # blocks of equal size


def join_items(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    *entries, block = product.body
    if not isinstance(block, ir.Loop) or block.kind is not ir.Kind.EVENLY:
        return product
    tiles = -(-size_at(product.contract.m, given.batch) // product.cut.shape.rows)
    each = rows_of_item(tiles, product.cut.panels, given.tuning)
    items = [ir.Loop(ir.Axis.TILE, ir.Kind.ITEMS, (), each), ir.Loop(ir.Axis.PANEL, ir.Kind.ITEMS, ())]
    return replace(product, body=(*entries, nested(items, (ir.Join((block,)),))))


def copy_rows(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    contract, rows = product.contract, product.cut.shape.rows
    blocks = loops_over(product, ir.Axis.SUM)
    if not blocks or not packs_all_panels(product):
        return product
    deep, (_, block, _) = blocks[0].step, loops_over(product, ir.Axis.TILE)
    is_wide = product.cut.panels >= given.tuning.copied_rows_panels
    pays = deep < _depth(contract) and is_wide and contract.k[0].lhs_stride == 1
    if not pays or not fall_together(contract, rows, given.machine):
        return replace(product, scratch=(*product.scratch, (ir.LEFT, 0)))
    pitch = deep + LANES

    def change(statement: ir.Statement) -> tuple[ir.Statement, ...]:
        if isinstance(statement, ir.Multiply):
            return ir.CopyRows(pitch), replace(statement, left=ir.Place.COPY)
        return (statement,)

    room = (ir.LEFT, rows * pitch * block.step * contract.dtype.size)
    return replace(product, body=rewritten(product.body, change), scratch=(*product.scratch, room))


def fall_together(contract: TileContract, rows: int, machine: Machine) -> bool:
    """Whether the rows of a tile compete for the same few lines of the first-level cache."""
    sets = max(1, machine.l1_bytes // (machine.line_bytes * machine.l1_ways))
    lines = {row * contract.lhs_m_stride * contract.dtype.size // machine.line_bytes for row in range(rows)}
    return max(Counter(line % sets for line in lines).values()) >= machine.l1_ways
