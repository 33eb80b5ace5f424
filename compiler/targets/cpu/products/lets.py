"""Statements of a product that compute where they stand: where a tile lies, and its operands, sums and panel."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from compiler.nest.ir import Index, Value
from compiler.targets.cpu.long_sums import walked
from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.frame import Frame, OperandPlace, Tile
from compiler.targets.cpu.products.rewriting import loops_over
from compiler.targets.cpu.tiles import divided, outer_offsets


def let(frame: Frame, statement: ir.Letting) -> None:
    match statement:
        case ir.Let():
            _let(frame, statement)
        case ir.KeepSums(pitch=pitch):
            _keep_sums(frame, pitch)
        case ir.FindSums(pitch=pitch):
            _find_sums(frame, pitch)
        case ir.LetShare(stretches=stretches):
            _let_share(frame, stretches)
        case ir.LetSteps():
            _let_steps(frame, statement)
        case _:
            assert_never(statement)


def _let(frame: Frame, what: ir.Let) -> None:
    nest, known, cut, contract = frame.k.nest, frame.known, frame.product.cut, frame.contract
    match what:
        case ir.Let.TILE:
            steps = cut.row_steps
            start = nest.mul(frame.first(ir.Axis.TILE), steps.step)
            last = nest.maximum(nest.sub(frame.units, steps.step), 0)
            unit = nest.minimum(start, last)  # the last tile is moved back over rows that are done already
            column = nest.mul(frame.first(ir.Axis.PANEL), frame.width)
            known.tile = Tile(start, unit, column, *outer_offsets(frame.k, steps.outer, frame.first(ir.Axis.OUTER)))
        case ir.Let.HANGING_TILE:
            row = nest.mul(frame.index(ir.Axis.TILE), cut.row_steps.step)
            known.tile = Tile(row, row, known.column, 0, 0, 0)
        case ir.Let.COLUMN:
            known.column = nest.mul(frame.index(ir.Axis.PANEL), frame.width)
        case ir.Let.NUMBER:
            tile, panel = known.spans[ir.Axis.TILE], known.spans[ir.Axis.PANEL]
            if panel.within is None or tile.within is None:
                known.number = nest.sub(tile.first, tile.origin)
            else:
                assert tile.count is not None
                known.number = nest.add(nest.mul(panel.within, tile.count), tile.within)
        case ir.Let.OPERANDS:
            left = frame.left_index(frame.tile.unit)
            column = nest.mul(frame.tile.column, contract.rhs_n_stride)
            right = nest.add(nest.add(column, frame.tile.rhs), contract.rhs_offset)
            known.right = OperandPlace(right, nest.pointer(frame.k.bases[contract.rhs], right, contract.dtype))
            known.left = OperandPlace(left, nest.pointer(frame.k.bases[contract.lhs], left, contract.dtype))
        case ir.Let.PANEL:
            known.panel = frame.panel_pointer() if known.long is None else _copied_panel(frame)
        case ir.Let.NEW_PANEL:
            frame.new_panel()
        case ir.Let.FIRST_PANEL | ir.Let.TILES_END | ir.Let.BLOCK:
            _let_in_block(frame, what)
        case _:
            _let_in_long_sum(frame, what)


def _let_in_block(frame: Frame, what: ir.Let) -> None:
    nest, known, contract = frame.k.nest, frame.known, frame.contract
    match what:
        case ir.Let.FIRST_PANEL:
            panels = known.spans[ir.Axis.PANEL]
            known.is_first_panel = nest.compare("eq", panels.first, panels.origin)
        case ir.Let.TILES_END:
            block = known.spans[ir.Axis.TILE]
            assert block.count is not None
            known.spans[ir.Axis.TILE] = replace(block, stop=nest.add(block.first, block.count))
        case ir.Let.BLOCK:
            depth, block = frame.k.extent(contract.k[0].extent), known.spans[ir.Axis.SUM]
            assert isinstance(block.count, int)
            known.length = nest.minimum(nest.sub(depth, block.first), block.count)
            known.is_last = nest.compare("ge", nest.add(block.first, block.count), depth)
        case _:
            raise AssertionError(what)


def _let_in_long_sum(frame: Frame, what: ir.Let) -> None:
    nest, known, steps = frame.k.nest, frame.known, frame.product.cut.row_steps
    tiles, outer, long = known.spans[ir.Axis.TILE], known.spans[ir.Axis.OUTER], known.long
    match what:
        case ir.Let.FIRST_NUMBER:
            assert outer.within is not None
            known.first_number = nest.mul(outer.within, loops_over(frame.product, ir.Axis.TILE)[0].step)
        case ir.Let.GROUPED_TILE:
            index, tile = frame.index(ir.Axis.OUTER), frame.index(ir.Axis.TILE)
            assert tiles.within is not None
            known.number = nest.add(known.first_number, tiles.within)
            found = _tile_of(frame, index, tile)
            known.tile = replace(found, lhs=nest.add(nest.mul(found.unit, steps.stride), found.lhs))
            row = nest.mul(found.unit, steps.unit)
            known.rows = nest.mul(found.start, steps.unit), row
        case ir.Let.STRIP:
            found = _tile_of(frame, *divided(nest, frame.index(ir.Axis.STRIP), frame.extent_of(ir.Axis.TILE)))
            known.tile = replace(found, lhs=nest.add(found.lhs, found.unit))
        case ir.Let.STRIP_SUMS:
            strip = known.spans[ir.Axis.STRIP].within
            assert strip is not None
            sums = nest.mul(strip, frame.product.panels * frame.slot)
            known.kept = nest.pointer(frame.k.bases[frame.contract.tile], sums, frame.contract.dtype)
        case ir.Let.PANEL_SUMS:
            panel, strip = frame.first(ir.Axis.PANEL), known.spans[ir.Axis.STRIP].within
            assert strip is not None
            known.kept = nest.pointer(frame.kept, nest.mul(panel, frame.slot), frame.contract.dtype)
            known.number_in_item = nest.add(nest.add(nest.mul(strip, frame.product.panels - 1), panel), -1)
        case ir.Let.BASE:
            splits = nest.mul(frame.first(ir.Axis.SPLIT), frame.contract.split_step)
            known.tile = replace(frame.tile, base=nest.add(frame.tile.base, splits))
        case ir.Let.BLOCK_OPERANDS:
            assert long is not None
            left = nest.pointer(long.here.left, frame.tile.lhs, frame.contract.dtype)
            known.left = OperandPlace(frame.tile.lhs, left)
            column = nest.add(nest.mul(frame.first(ir.Axis.PANEL), frame.width), frame.tile.rhs)
            known.right = OperandPlace(column, nest.pointer(long.here.right, column, frame.contract.dtype))
        case _:
            raise AssertionError(what)


def _tile_of(frame: Frame, outer: Index, tile: Index) -> Tile:
    """The tile of that number of an outer index."""
    nest, steps = frame.k.nest, frame.product.cut.row_steps
    assert isinstance(steps.extent, int)
    frame.known.rows_end = steps.extent * steps.unit
    lhs, rhs, base = outer_offsets(frame.k, steps.outer, outer)
    start = nest.mul(tile, steps.step)
    unit = nest.minimum(start, max(0, steps.extent - steps.step))
    return Tile(start, unit, frame.known.column, lhs, rhs, base)


def _let_steps(frame: Frame, what: ir.LetSteps) -> None:
    long = frame.known.long
    assert long is not None
    axes = long.axes
    if frame.product.along_rows is not None:  # which broadcasts the right operand
        axes = [replace(a, lhs_stride=a.rhs_stride, rhs_stride=a.lhs_stride) for a in axes]
    long.steps[what.left] = walked(frame.k.nest, axes, what.broadcast, what.vectors, what.copied)


def _copied_panel(frame: Frame) -> Value:
    start = frame.k.nest.mul(frame.first(ir.Axis.PANEL), frame.column_pitch)
    return frame.k.nest.pointer(frame.k.bases[ir.RIGHT], start, frame.contract.dtype)


def _find_sums(frame: Frame, pitch: int) -> None:
    nest, contract = frame.k.nest, frame.contract
    panel = nest.mul(frame.first(ir.Axis.PANEL), pitch * frame.slot)
    place = nest.add(panel, nest.mul(frame.known.number, frame.slot))
    frame.known.kept = nest.pointer(frame.k.bases[contract.tile], place, contract.dtype)


def _keep_sums(frame: Frame, pitch: int | None) -> None:
    nest, known, contract = frame.k.nest, frame.known, frame.contract
    number: Index = known.number
    if pitch is not None:
        number = nest.add(nest.mul(frame.first(ir.Axis.PANEL), pitch), number) if pitch else 0
    known.number_in_item = number
    known.kept = nest.pointer(frame.k.bases[contract.tile], nest.mul(number, frame.slot), contract.dtype)


def _let_share(frame: Frame, stretches: int) -> None:
    nest, spans, block = frame.k.nest, frame.known.spans, frame.known.spans[ir.Axis.SUM]
    tiles, panels = spans[ir.Axis.TILE].count, spans[ir.Axis.PANEL].count
    assert isinstance(block.count, int)
    assert tiles is not None
    assert panels is not None
    share = nest.binary("div", nest.mul(frame.known.number, block.count * stretches), nest.mul(tiles, panels))
    row, stretch = divided(nest, share, stretches)
    frame.known.share = nest.add(nest.add(block.first, block.count), row), stretch
    frame.known.stretches = stretches
