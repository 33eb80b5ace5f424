"""The prefetches of a tile while it is multiplied, as addresses."""

from __future__ import annotations

from dataclasses import replace

from compiler.nest.ir import Value
from compiler.targets.cpu.multiply import Ahead
from compiler.targets.cpu.packing import panel_elements
from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.finishing import stage_ahead
from compiler.targets.cpu.products.frame import Frame


def asked(frame: Frame, ask: ir.Ask, line_bytes: int) -> list[Ahead]:
    nest, contract, cut = frame.k.nest, frame.contract, frame.product.cut
    line, tile = line_bytes // contract.dtype.size, frame.tile
    match ask.what:
        case ir.Asked.RESULTS:
            row = frame.rows_of_tile()[1]
            return stage_ahead(frame.k, contract, cut, row, tile.column, tile.base, ask.depth, line_bytes)
        case ir.Asked.ROWS:
            assert frame.known.left is not None
            following = nest.add(frame.known.left.index, cut.shape.rows * contract.lhs_m_stride)
            pointer = nest.pointer(frame.k.bases[contract.lhs], following, contract.dtype)
            return [Ahead(pointer, tuple(range(0, ask.lines * line, line)), ask.lines * line)]
        case ir.Asked.SUMS:
            return [_spread(ask, nest.pointer(frame.kept, frame.slot, contract.dtype), line)]
        case ir.Asked.LEFT_OF_NEXT_BLOCK:
            return [_next_block(frame, ask, ir.LEFT, ir.Axis.TILE, line)]
        case ir.Asked.RIGHT_OF_NEXT_BLOCK:
            return [_next_block(frame, ask, ir.RIGHT, ir.Axis.PANEL, line)]
        case ir.Asked.SUMS_OR_RESULTS:
            return _sums_or_results(frame, ask.depth, line_bytes)
        case ir.Asked.PANEL:
            return [_panel(frame, ask, line)]
        case ir.Asked.ROWS_OF_FIRST_PANEL:
            places = tuple(index * contract.lhs_m_stride for index in range(cut.shape.rows))
            following = frame.rows_at(nest.add(tile.unit, cut.shape.rows))
            return [Ahead(following, places, line, ask.number, ask.depth, condition=frame.known.is_first_panel)]


def _sums_or_results(frame: Frame, depth: int, line_bytes: int) -> list[Ahead]:
    """The sums of the next tile, and in the last block the results of its elementwise stage."""
    nest, contract, cut, is_last = frame.k.nest, frame.contract, frame.product.cut, frame.known.is_last
    assert is_last is not None
    unit, column, base = frame.tile.unit, frame.tile.column, frame.tile.base
    results = stage_ahead(frame.k, contract, cut, unit, column, base, depth, line_bytes)
    following = nest.pointer(frame.kept, frame.slot, contract.dtype)
    places = tuple(range(0, frame.width, line_bytes // contract.dtype.size))
    found = [Ahead(following, places, frame.width, cut.shape.rows, depth)]
    for result in results:
        pointer = nest.select(is_last, result.pointer, following)
        found.append(replace(result, pointer=pointer, step=nest.select(is_last, result.step, 0)))
    return found


def _panel(frame: Frame, ask: ir.Ask, line: int) -> Ahead:
    """A tile's share of the next panel."""
    nest, contract, start = frame.k.nest, frame.contract, frame.first(ir.Axis.SUM)
    assert frame.panels is not None
    panel = nest.add(frame.first(ir.Axis.PANEL), 1)
    start = nest.add(start, nest.minimum(nest.mul(frame.known.number, ask.number), ask.depth - ask.number))
    place = nest.add(nest.mul(panel, panel_elements(contract, frame.width)), nest.mul(start, frame.width))
    pointer = nest.pointer(frame.panels, place, contract.dtype)
    return Ahead(pointer, tuple(range(0, frame.width, line)), frame.width, ask.number, ask.depth)


def _next_block(frame: Frame, ask: ir.Ask, side: int, axis: ir.Axis, line: int) -> Ahead:
    """A share of elements that lie one behind the other, or a stretch of a row that the next block copies."""
    if frame.known.long is not None:
        following, share = frame.known.long.following, frame.k.nest.mul(frame.known.number_in_item, ask.number * line)
        start = following.left if side == ir.LEFT else following.right
        return _spread(ask, frame.k.nest.pointer(start, share, frame.contract.dtype), line)
    nest, strips, (row, stretch) = frame.k.nest, frame.strips[side], frame.known.share
    start = frame.source(side, row, frame.known.spans[axis].origin)
    length = -(-strips.most * strips.width // frame.known.stretches)
    return _spread(ask, nest.pointer(start, nest.mul(stretch, length), frame.contract.dtype), line)


def _spread(ask: ir.Ask, pointer: Value, line: int) -> Ahead:
    """Lines one behind the other."""
    if ask.lines:
        return Ahead(pointer, tuple(range(0, ask.lines * line, line)), ask.lines * line)
    return Ahead(pointer, (0,), line, ask.number, ask.depth)
