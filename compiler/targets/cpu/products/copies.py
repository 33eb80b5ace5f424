"""Statements of a product that fill scratch: sums that begin, panels, rows and strips that are copied."""

from __future__ import annotations

from compiler.nest.ir import Index, Value, vector
from compiler.support.numerics import LANES
from compiler.targets.cpu.packing import pack
from compiler.targets.cpu.products import ir
from compiler.targets.cpu.products.frame import Frame
from compiler.targets.cpu.transpose import move_transposed


def fill(frame: Frame, statement: ir.Filling) -> None:
    match statement:
        case ir.Clear(elements=elements):
            _clear(frame, elements)
        case ir.CopyColumns():
            _copy_columns(frame, statement)
        case ir.PackPanel():
            k, (is_new, source, target) = frame.k, frame.new_panel()
            with k.of(frame.contract), k.nest.when(is_new):
                pack(k, frame.contract, frame.width, statement.packing, frame.tile.column, source, target)
        case ir.CopyRows(pitch=pitch):
            _copy_rows(frame, pitch)
        case ir.CopyStrips():
            _copy_strips(frame, statement)
        case ir.TransposeSums(pieces=pieces):
            _transpose_sums(frame, pieces)


def _clear(frame: Frame, elements: int | None) -> None:
    nest, spans, contract = frame.k.nest, frame.known.spans, frame.contract
    sums: Index | None = elements
    if sums is None:
        tiles, panels = spans[ir.Axis.TILE].count, spans[ir.Axis.PANEL].count
        assert tiles is not None
        assert panels is not None
        sums = nest.mul(nest.mul(tiles, panels), frame.slot)
    with frame.k.of(contract):
        nest.clear(frame.k.bases[contract.tile], sums, vector(contract.dtype, LANES))


def _copy_columns(frame: Frame, copy: ir.CopyColumns) -> None:
    k, nest, dtype, panels = frame.k, frame.k.nest, frame.contract.dtype, frame.product.panels
    frame.column_pitch = copy.pitch
    long = frame.known.long
    assert long is not None

    def of_panel(panel: Index) -> None:
        first = nest.pointer(given, nest.mul(panel, copy.width), dtype)
        goal = nest.pointer(there, nest.mul(panel, copy.pitch), dtype)
        for part in range(0, copy.width, LANES):
            place, to = nest.pointer(first, part, dtype), nest.pointer(goal, part, dtype)
            nest.store(nest.load(place, vector(dtype, LANES), dtype.size), to, copy.align)

    with long.sum.each(long.axes, long.here.right, lambda axis: axis.rhs_stride) as (given, number):
        there = nest.pointer(k.bases[ir.RIGHT], nest.mul(number, copy.width), dtype)
        if copy.is_unrolled:
            for panel in range(panels):
                of_panel(panel)
        else:
            with nest.each(0, panels) as panel:
                of_panel(panel)


def _copy_strips(frame: Frame, copy: ir.CopyStrips) -> None:
    """Copy row by row as they lie there, each strip to its own stretch."""
    nest, dtype, strips, known = frame.k.nest, frame.contract.dtype, copy.strips, frame.known
    frame.strips[copy.to] = strips
    type_, align = vector(dtype, strips.lanes), min(ir.ALIGNMENT, strips.lanes * dtype.size)
    span = known.spans[ir.Axis.TILE if copy.to == ir.LEFT else ir.Axis.PANEL]
    assert span.count is not None
    assert known.length is not None
    count, start = span.count, frame.first(ir.Axis.SUM)

    def moved(given: Value, there: Value) -> None:
        for part in range(0, strips.width, strips.lanes):
            name = nest.load(nest.pointer(given, part, dtype), type_, dtype.size)
            nest.store(name, nest.pointer(there, part, dtype), align)

    with frame.k.of(frame.contract), nest.each(0, known.length) as index:
        source = frame.source(copy.to, nest.add(start, index), span.first)
        goal = nest.pointer(frame.k.bases[copy.to], nest.mul(index, strips.room), dtype)
        together = nest.binary("and", count, -copy.together)
        for begin, end, several in ((0, together, copy.together), (together, count, 1)):
            with nest.each(begin, end, several) as strip:
                given = nest.pointer(source, nest.mul(strip, strips.width), dtype)
                there = nest.pointer(goal, nest.mul(strip, strips.pitch), dtype)
                for number in range(several):
                    here = nest.pointer(given, number * strips.width, dtype)
                    moved(here, nest.pointer(there, number * strips.pitch, dtype))


def _copy_rows(frame: Frame, pitch: int) -> None:
    k, nest, known, contract, rows = frame.k, frame.k.nest, frame.known, frame.contract, frame.product.cut.shape.rows
    assert known.is_first_panel is not None
    assert known.length is not None
    type_ = contract.dtype
    source = frame.rows_at(frame.tile.unit)
    target = nest.pointer(k.bases[ir.LEFT], nest.mul(known.number, rows * pitch), type_)
    with k.of(contract), nest.when(known.is_first_panel), nest.each(0, known.length, LANES) as index:
        for row in range(rows):
            given = nest.pointer(source, nest.add(index, row * contract.lhs_m_stride), type_)
            name = nest.load(given, vector(type_, LANES), type_.size)
            nest.store(name, nest.pointer(target, nest.add(index, row * pitch), type_), 64)
    known.copied_rows, known.pitch = target, pitch


def _transpose_sums(frame: Frame, pieces: int) -> None:
    """The rows of the strip one behind the other, with all columns."""
    k, nest = frame.k, frame.k.nest
    full, rest = divmod(frame.contract.n, LANES)
    with k.of(frame.contract):
        if full:
            with nest.each(0, full) as group:
                _transpose_group(frame, pieces, group, LANES)
        if rest:
            _transpose_group(frame, pieces, full, rest)
    frame.known.kept = k.bases[ir.TRANSPOSED]


def _transpose_group(frame: Frame, pieces: int, group: Index, columns: int) -> None:
    """LANES columns, of which so many are there; in place of others stands the last one again."""
    nest, dtype, shape = frame.k.nest, frame.contract.dtype, frame.product.register_tile
    given = nest.pointer(frame.kept, nest.mul(group, LANES * shape.width), dtype)
    there = nest.pointer(frame.k.bases[ir.TRANSPOSED], nest.mul(group, LANES), dtype)
    for part in range(shape.vectors):
        lanes = [min(lane, columns - 1) for lane in range(LANES)]
        places = [nest.pointer(given, lane * shape.width + part * LANES, dtype) for lane in lanes]
        rows = [nest.pointer(there, (part * LANES + lane) * frame.width, dtype) for lane in range(LANES)]
        move_transposed(nest, pieces, dtype, places, rows)
