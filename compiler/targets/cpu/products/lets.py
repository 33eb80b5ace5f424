"""Statements of a product that compute where they stand: where a tile lies, and its operands, sums and panel."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from compiler.nest.ir import Index, Value
from compiler.targets.cpu.long_sums import walked
from compiler.targets.cpu.products.frame import Frame, OperandPlace, Tile
from compiler.targets.cpu.products.ir import RIGHT, Axis, FindSums, KeepSums, Let, LetShare, LetSteps, Letting
from compiler.targets.cpu.products.rewriting import loops_over
from compiler.targets.cpu.tiles import divided, outer_offsets


def let(frame: Frame, statement: Letting) -> None:
    match statement:
        case Let():
            _let(frame, statement)
        case KeepSums(pitch=pitch):
            _keep_sums(frame, pitch)
        case FindSums(pitch=pitch):
            _find_sums(frame, pitch)
        case LetShare(stretches=stretches):
            _let_share(frame, stretches)
        case LetSteps():
            _let_steps(frame, statement)
        case _:
            assert_never(statement)


def _let(frame: Frame, what: Let) -> None:
    nest, known, cut, contract = frame.k.nest, frame.known, frame.product.cut, frame.contract
    match what:
        case Let.TILE:
            steps = cut.row_steps
            start = nest.mul(frame.first(Axis.TILE), steps.step)
            last = nest.maximum(nest.sub(frame.units, steps.step), 0)
            unit = nest.minimum(start, last)  # the last tile is moved back over rows that are done already
            column = nest.mul(frame.first(Axis.PANEL), frame.width)
            known.tile = Tile(start, unit, column, *outer_offsets(frame.k, steps.outer, frame.first(Axis.OUTER)))
        case Let.HANGING_TILE:
            row = nest.mul(frame.index(Axis.TILE), cut.row_steps.step)
            known.tile = Tile(row, row, known.column, 0, 0, 0)
        case Let.COLUMN:
            known.column = nest.mul(frame.index(Axis.PANEL), frame.width)
        case Let.NUMBER:
            tile, panel = known.spans[Axis.TILE], known.spans[Axis.PANEL]
            if panel.within is None or tile.within is None:
                known.number = nest.sub(tile.first, tile.origin)
            else:
                assert tile.count is not None
                known.number = nest.add(nest.mul(panel.within, tile.count), tile.within)
        case Let.OPERANDS:
            left = frame.left_index(frame.tile.unit)
            column = nest.mul(frame.tile.column, contract.rhs_n_stride)
            right = nest.add(nest.add(column, frame.tile.rhs), contract.rhs_offset)
            known.right = OperandPlace(right, nest.pointer(frame.k.bases[contract.rhs], right, contract.dtype))
            known.left = OperandPlace(left, nest.pointer(frame.k.bases[contract.lhs], left, contract.dtype))
        case Let.PANEL:
            known.panel = frame.panel_pointer() if known.long is None else _copied_panel(frame)
        case Let.NEW_PANEL:
            frame.new_panel()
        case Let.FIRST_PANEL | Let.TILES_END | Let.BLOCK:
            _let_in_block(frame, what)
        case _:
            _let_in_long_sum(frame, what)


def _let_in_block(frame: Frame, what: Let) -> None:
    nest, known, contract = frame.k.nest, frame.known, frame.contract
    match what:
        case Let.FIRST_PANEL:
            panels = known.spans[Axis.PANEL]
            known.is_first_panel = nest.compare("eq", panels.first, panels.origin)
        case Let.TILES_END:
            block = known.spans[Axis.TILE]
            assert block.count is not None
            known.spans[Axis.TILE] = replace(block, stop=nest.add(block.first, block.count))
        case Let.BLOCK:
            depth, block = frame.k.extent(contract.k[0].extent), known.spans[Axis.SUM]
            assert isinstance(block.count, int)
            known.length = nest.minimum(nest.sub(depth, block.first), block.count)
            known.is_last = nest.compare("ge", nest.add(block.first, block.count), depth)
        case _:
            raise AssertionError(what)


def _let_in_long_sum(frame: Frame, what: Let) -> None:
    nest, known, steps = frame.k.nest, frame.known, frame.product.cut.row_steps
    tiles, outer, long = known.spans[Axis.TILE], known.spans[Axis.OUTER], known.long
    match what:
        case Let.FIRST_NUMBER:
            assert outer.within is not None
            known.first_number = nest.mul(outer.within, loops_over(frame.product, Axis.TILE)[0].step)
        case Let.GROUPED_TILE:
            index, tile = frame.index(Axis.OUTER), frame.index(Axis.TILE)
            assert tiles.within is not None
            known.number = nest.add(known.first_number, tiles.within)
            found = _tile_of(frame, index, tile)
            known.tile = replace(found, lhs=nest.add(nest.mul(found.unit, steps.stride), found.lhs))
            row = nest.mul(found.unit, steps.unit)
            known.rows = nest.mul(found.start, steps.unit), row
        case Let.STRIP:
            found = _tile_of(frame, *divided(nest, frame.index(Axis.STRIP), frame.extent_of(Axis.TILE)))
            known.tile = replace(found, lhs=nest.add(found.lhs, found.unit))
        case Let.STRIP_SUMS:
            strip = known.spans[Axis.STRIP].within
            assert strip is not None
            sums = nest.mul(strip, frame.product.panels * frame.slot)
            known.kept = nest.pointer(frame.k.bases[frame.contract.tile], sums, frame.contract.dtype)
        case Let.PANEL_SUMS:
            panel, strip = frame.first(Axis.PANEL), known.spans[Axis.STRIP].within
            assert strip is not None
            known.kept = nest.pointer(frame.kept, nest.mul(panel, frame.slot), frame.contract.dtype)
            known.number_in_item = nest.add(nest.add(nest.mul(strip, frame.product.panels - 1), panel), -1)
        case Let.BASE:
            splits = nest.mul(frame.first(Axis.SPLIT), frame.contract.split_step)
            known.tile = replace(frame.tile, base=nest.add(frame.tile.base, splits))
        case Let.BLOCK_OPERANDS:
            assert long is not None
            left = nest.pointer(long.here.left, frame.tile.lhs, frame.contract.dtype)
            known.left = OperandPlace(frame.tile.lhs, left)
            column = nest.add(nest.mul(frame.first(Axis.PANEL), frame.width), frame.tile.rhs)
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


def _let_steps(frame: Frame, what: LetSteps) -> None:
    long = frame.known.long
    assert long is not None
    axes = long.axes
    if frame.product.along_rows is not None:  # which broadcasts the right operand
        axes = [replace(a, lhs_stride=a.rhs_stride, rhs_stride=a.lhs_stride) for a in axes]
    long.steps[what.left] = walked(frame.k.nest, axes, what.broadcast, what.vectors, what.copied)


def _copied_panel(frame: Frame) -> Value:
    start = frame.k.nest.mul(frame.first(Axis.PANEL), frame.column_pitch)
    return frame.k.nest.pointer(frame.k.bases[RIGHT], start, frame.contract.dtype)


def _find_sums(frame: Frame, pitch: int) -> None:
    nest, contract = frame.k.nest, frame.contract
    panel = nest.mul(frame.first(Axis.PANEL), pitch * frame.slot)
    place = nest.add(panel, nest.mul(frame.known.number, frame.slot))
    frame.known.kept = nest.pointer(frame.k.bases[contract.tile], place, contract.dtype)


def _keep_sums(frame: Frame, pitch: int | None) -> None:
    nest, known, contract = frame.k.nest, frame.known, frame.contract
    number: Index = known.number
    if pitch is not None:
        number = nest.add(nest.mul(frame.first(Axis.PANEL), pitch), number) if pitch else 0
    known.number_in_item = number
    known.kept = nest.pointer(frame.k.bases[contract.tile], nest.mul(number, frame.slot), contract.dtype)


def _let_share(frame: Frame, stretches: int) -> None:
    nest, spans, block = frame.k.nest, frame.known.spans, frame.known.spans[Axis.SUM]
    tiles, panels = spans[Axis.TILE].count, spans[Axis.PANEL].count
    assert isinstance(block.count, int)
    assert tiles is not None
    assert panels is not None
    share = nest.binary("div", nest.mul(frame.known.number, block.count * stretches), nest.mul(tiles, panels))
    row, stretch = divided(nest, share, stretches)
    frame.known.share = nest.add(nest.add(block.first, block.count), row), stretch
    frame.known.stretches = stretches
