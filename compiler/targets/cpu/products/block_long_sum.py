"""Products with a long sum over the batch: blocks of the sum stay in cache, and all tiles take their share of each.

An item is a split of the sum and some tiles of rows, with all columns. The sums of its tiles lie in scratch between the
blocks, so both operands come from far away once, not once for each tile. Each element is one chain over its split.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, prod

from compiler.loops.ir import TileContract
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.long_sums import Block, block_of
from compiler.targets.cpu.packing import is_packed
from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.rewriting import nested
from compiler.targets.cpu.tiles import Tiling
from compiler.types import BatchExtent


def sums_in_blocks(contract: TileContract) -> bool:
    """Whether the sum goes over the batch and further axes, with all rows and columns static."""
    is_static = isinstance(contract.m, int) and all(isinstance(axis.extent, int) for axis in contract.outer)
    is_long = isinstance(contract.k[0].extent, BatchExtent) and len(contract.k) > 1
    return is_static and contract.rhs_n_stride == 1 and (is_long or contract.splits > 1)


def block_long_sum(product: ir.ProductLoops, given: ir.Circumstances) -> ir.ProductLoops:
    contract, cut, tuning = product.contract, product.cut, given.tuning
    if product.along_rows is not None or not sums_in_blocks(contract):
        return product
    group = _group_of(contract, cut, int(given.machine.l2_bytes * tuning.long_sum_share), tuning.long_sum_items)
    block, tiles = block_of(contract, tuning.long_sum), group.outer * group.tiles
    slot = cut.shape.rows * cut.shape.width
    is_shared = all(axis.rhs_stride == 0 for axis in contract.outer)
    copies = is_shared and tiles >= tuning.long_sum_tiles and not is_packed(contract, cut.shape)
    pitch = block.elements * cut.shape.width + LANES  # no power of two: panels do not compete for lines

    def each_tile(*body: ir.Statement) -> ir.Loop:
        of_tile = ir.Loop(ir.Axis.TILE, ir.Kind.FROM_ZERO, (ir.Let.GROUPED_TILE, *body))
        return ir.Loop(ir.Axis.OUTER, ir.Kind.FROM_ZERO, (ir.Let.FIRST_NUMBER, of_tile))

    multiply = ir.Multiply(
        right=ir.Place.STRIPS if copies else ir.Place.ITSELF,
        sums=ir.Sums.KEPT,
        streams=copies,
        asks=asks_for_next_block(contract, block, slot, tiles * cut.panels, given),
    )
    panel = (ir.Let.PANEL,) if copies else ()
    multiplied = each_tile(ir.Let.BLOCK_OPERANDS, *panel, ir.KeepSums(tiles), multiply, ir.Put())
    columns = (ir.CopyColumns(pitch, cut.shape.width, ir.ALIGNMENT),) if copies else ()
    steps = ir.LetSteps(ir.Place.ITSELF, vectors=cut.shape.width if copies else 0)
    inside = (*columns, steps, ir.Loop(ir.Axis.PANEL, ir.Kind.PLAIN, (multiplied,)))
    over_sum = ir.Loop(ir.Axis.SUM, ir.Kind.OF_SPLIT, inside, block.elements, block)
    finished: tuple[ir.Statement, ...] = (ir.Let.COLUMN, each_tile(ir.Let.BASE, ir.FindSums(tiles), ir.Finish()))
    finished = (ir.Loop(ir.Axis.PANEL, ir.Kind.PLAIN, finished),) if cut.panels > 1 else finished
    shares = ((ir.Axis.SPLIT, 1), (ir.Axis.OUTER, group.outer), (ir.Axis.TILE, group.tiles))
    items = [ir.Loop(axis, ir.Kind.ITEMS, (), step) for axis, step in shares]
    room = tiles * cut.panels * slot
    scratch = (
        (contract.tile, room * contract.dtype.size),
        (ir.RIGHT, pitch * cut.panels * contract.dtype.size * copies),
    )
    loops = nested(items, (ir.Clear(room), over_sum, *finished))
    return replace(product, body=(ir.Entry.EXTENTS, loops), scratch=scratch)


def asks_for_next_block(
    contract: TileContract, block: Block, slot: int, turns: int, given: ir.Circumstances
) -> tuple[ir.Ask, ...]:
    """The next tile's `slot` sums, and a tile's share, of `turns`, of what the next block takes of both operands."""
    line, steps = given.machine.line(contract.dtype), max(1, block.elements // given.tuning.unrolled_steps)
    axis = contract.k[0] if block.second is None else contract.k[1]
    found = [ir.Ask(ir.Asked.SUMS, lines=ceil(slot // line / steps))]
    operands = ((ir.Asked.LEFT_OF_NEXT_BLOCK, axis.lhs_stride), (ir.Asked.RIGHT_OF_NEXT_BLOCK, axis.rhs_stride))
    for what, stride in operands:
        lines = ceil((block.second or block.first) * abs(stride) / line / turns)
        found += [ir.Ask(what, lines=ceil(lines / steps), number=lines)] if lines else []
    return tuple(found)


@record
class _Group:
    """How the tiles of rows are shared out: `outer` indices of the outer axes, and `tiles` of each, make an item."""

    outer: int
    tiles: int


def _group_of(contract: TileContract, cut: Tiling, room: int, items: int) -> _Group:
    """As many as have room for their accumulators, and leave `items` for several threads."""
    assert isinstance(cut.row_steps.extent, int)
    tiles = ceil(cut.row_steps.extent / cut.row_steps.step)
    indices = prod(count(axis.extent) for axis in cut.row_steps.outer)
    most = max(1, room // (cut.shape.rows * cut.shape.width * cut.panels * contract.dtype.size))
    wanted = ceil(items / contract.splits)
    outer_groups = ceil(indices / max(1, most // tiles))
    outer_groups = max(outer_groups, min(wanted, indices))
    outer = ceil(indices / outer_groups)
    tile_groups = max(ceil(tiles / most), min(ceil(wanted / ceil(indices / outer)), tiles))
    return _Group(outer, ceil(tiles / tile_groups))
