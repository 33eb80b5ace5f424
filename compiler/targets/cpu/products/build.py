"""Writes the loops of a product as a nest of single instructions: a walk over its statements that decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import assert_never

from compiler.nest.arguments import SharedPointer
from compiler.nest.ir import ADDRESS, BEGIN, END, Constant, Index, Items, Nest, Operand, Value, vector
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.long_sums import Block, LongSum
from compiler.targets.cpu.multiply import RegisterTile, multiplied, multiplied_copying
from compiler.targets.cpu.packing import own_panel, pack_all, panel_elements
from compiler.targets.cpu.products import finishing, ir
from compiler.targets.cpu.products.asks import asked
from compiler.targets.cpu.products.copies import fill
from compiler.targets.cpu.products.frame import Frame, LongBlock, Span
from compiler.targets.cpu.products.lets import let
from compiler.targets.cpu.products.rewriting import item_loops
from compiler.targets.cpu.rectangles import Rectangle, over_equal, over_rectangles
from compiler.targets.cpu.tiles import ceiling, divided, items_of
from compiler.targets.cpu.triangle import multiplied_within
from compiler.types import DType


def build(k: KernelNest, product: ir.ProductLoops) -> Nest:
    """The nest of a product after its last pass."""
    return _Walk(k, product).nest()


@mutable_record
class _Walk(Frame):
    def nest(self) -> Nest:
        """The whole nest, with the one that packs all panels before it where there is one."""
        k, product, contract = self.k, self.product, self.contract
        for position, size in product.scratch:
            k.reserve(position, size)
        k.open()
        self.statements(product.body)
        code = k.close(self.all_items())
        packings = [s.packing for s in product.body if isinstance(s, ir.PackAllPanels)]
        if not packings:
            return code
        panels = product.cut.panels
        size = panels * panel_elements(contract, self.width) * contract.dtype.size
        before = pack_all(k, contract, product.cut.shape, packings[0], panels)
        return replace(code, before=before, shared_bytes=size, lasts=product.lasts)

    def all_items(self) -> Items:
        first = self.product.body[-1]
        assert isinstance(first, ir.Loop)
        if first.axis is ir.Axis.SPLIT:
            loops, _ = item_loops(first)
            return Items(self.contract.splits, 1, prod(self.rounds(loop) for loop in loops[1:]))
        return items_of(self.product.cut, first.step if first.axis is ir.Axis.TILE else 1)

    # statements

    def statements(self, body: Sequence[ir.Statement]) -> None:
        for statement in body:
            self.statement(statement)

    def within(self, spans: Mapping[ir.Axis, Span], body: Sequence[ir.Statement]) -> None:
        """Do the body with what the loops around have taken; what it computes is not known behind it."""
        around = self.known
        self.known = replace(around, spans={**around.spans, **spans})
        self.statements(body)
        self.known = around

    def statement(self, statement: ir.Statement) -> None:
        match statement:
            case ir.Loop():
                self.loop(statement)
            case ir.Join():
                raise AssertionError("items are joined where their loops begin")
            case ir.When(is_last=is_last, body=body):
                assert self.known.is_last is not None
                condition = self.known.is_last if is_last else self.k.nest.negated(self.known.is_last)
                with self.k.nest.when(condition):
                    self.within({}, body)
            case ir.Entry():
                self.entry(statement)
            case ir.PackAllPanels():
                self.panels = self.k.argument(SharedPointer(), ADDRESS)
            case ir.Let() | ir.KeepSums() | ir.FindSums() | ir.LetShare() | ir.LetSteps():
                let(self, statement)
            case ir.Clear() | ir.PackPanel() | ir.CopyRows() | ir.CopyStrips() | ir.CopyColumns() | ir.TransposeSums():
                fill(self, statement)
            case ir.AskForResults():
                row, column, base = self.rows_of_tile()[1], self.tile.column, self.tile.base
                finishing.ask_for_results(self.k, self.contract, self.product.cut, row, column, base)
            case ir.Multiply():
                self.multiply(statement)
            case ir.Put():
                assert self.known.register_tile is not None
                with self.k.of(self.contract):
                    finishing.put_away(self.k, self.known.register_tile, self.kept, self.known.sums)
            case ir.Finish():
                self.finish(statement)
            case _:
                assert_never(statement)

    def entry(self, entry: ir.Entry) -> None:
        k, contract, cut = self.k, self.contract, self.product.cut
        match entry:
            case ir.Entry.EXTENTS:
                for axis in (*contract.k, *contract.outer):
                    k.extent(axis.extent)
                self.units = k.extent(cut.row_steps.extent)
                self.tiles = ceiling(k.nest, self.units, cut.row_steps.step)
                self.known.spans[ir.Axis.SUM] = Span(0, k.extent(contract.k[0].extent))
                self.known.spans[ir.Axis.PANEL] = Span(0, self.product.panels)
            case ir.Entry.REPEATED:
                for load in finishing.repeating(k.stages, cut):
                    k.repeated(load, 0, cut.shape.vectors)
            case ir.Entry.OWN_PANEL:
                self.panels, self.packed = own_panel(k, contract, self.width), -1
            case ir.Entry.ZEROS:
                k.nest.clear(k.bases[ir.ZEROS], cut.shape.rows * self.width, vector(contract.dtype, LANES))

    # loops

    def loop(self, loop: ir.Loop) -> None:
        nest, axis, span = self.k.nest, loop.axis, self.known.spans[loop.axis]
        if loop.kind is ir.Kind.ITEMS:
            self.items(loop)
        elif loop.block is not None:
            self.long_sum(loop.block, loop.body)
        elif loop.kind is ir.Kind.FROM_ZERO:
            assert span.count is not None
            with nest.each(0, span.count, loop.step) as index:
                self.within({axis: Span(0, None, span.count, span.first, index)}, loop.body)
        elif loop.kind is ir.Kind.EVENLY:
            assert span.stop is not None
            with over_equal(nest, span.first, span.stop, loop.step) as (first, count):
                self.within({axis: Span(first, None, count)}, loop.body)
        else:
            assert span.stop is not None
            first = nest.add(span.first, loop.step) if loop.kind is ir.Kind.BUT_FIRST else span.first
            with nest.each(first, span.stop, loop.step) as index:
                left = nest.sub(span.stop, index) if loop.kind is ir.Kind.AT_MOST else None
                count = loop.step if left is None else nest.minimum(left, loop.step)
                self.within({axis: Span(index, None, count, span.first)}, loop.body)

    def long_sum(self, block: Block, body: Sequence[ir.Statement]) -> None:
        """The blocks of a sum over several axes, within a split."""
        long = LongSum(self.k, self.contract, block)
        with self.k.of(self.contract), long.of_split(self.first(ir.Axis.SPLIT)) as block_and_next:
            around = self.known
            self.known = replace(around, long=LongBlock(long, *block_and_next))
            self.statements(body)
            self.known = around

    def joined(self, share: Rectangle, tiles: int, body: Sequence[ir.Statement]) -> None:
        """The items of a thread together, of which each has so many tiles."""
        nest = self.k.nest
        start = nest.mul(share.top, tiles)
        stop = nest.minimum(nest.mul(share.bottom, tiles), self.tiles)
        self.within({ir.Axis.TILE: Span(start, stop), ir.Axis.PANEL: Span(share.left, share.right)}, body)

    def split_by_split(self, loops: Sequence[ir.Loop], body: Sequence[ir.Statement]) -> None:
        """The items of a thread together, those of each split for themselves."""
        nest, each = self.k.nest, self.rounds(loops[-1])
        with nest.each(divided(nest, BEGIN, each)[0], ceiling(nest, END, each)) as split:
            before = nest.mul(split, each)
            start = nest.maximum(nest.sub(BEGIN, before), 0)
            stop = nest.minimum(nest.sub(END, before), each)
            self.within({ir.Axis.SPLIT: Span(split), loops[-1].axis: Span(start, stop)}, body)

    def items(self, loop: ir.Loop) -> None:
        nest, (loops, body) = self.k.nest, item_loops(loop)
        if isinstance(join := body[0], ir.Join):
            if loop.axis is ir.Axis.SPLIT:
                self.split_by_split(loops, join.body)
                return
            with over_rectangles(nest, self.product.cut.panels) as share:
                self.joined(share, loop.step, join.body)
            return

        def item(number: Value, carried: list[Value]) -> Sequence[Operand]:
            self.packed = carried[0] if carried else None
            self.within(self.decoded(loops, number), body)
            return [] if self.packed is None else [self.packed]

        nest.loop(BEGIN, END, 1, [] if self.packed is None else [self.packed], item)

    def decoded(self, loops: Sequence[ir.Loop], item: Index) -> dict[ir.Axis, Span]:
        """An item as the digits of its number, of which the last one is that of the tile."""
        nest, tiles, start = self.k.nest, self.tiles, 0
        spans: dict[ir.Axis, Span] = {}
        for place, loop in enumerate(loops[:-1], 1):
            if loop.axis is ir.Axis.SPLIT:
                return self.shares(loops, item)
            if loop.axis is ir.Axis.TILE:
                group, item = divided(nest, item, loop.step * self.product.cut.panels)
                start = nest.mul(group, loop.step)
                tiles = nest.minimum(nest.sub(tiles, start), loop.step)
            else:
                digit, item = divided(nest, item, self.items_inside(loops[place:], tiles))
                spans[loop.axis] = Span(digit)
        return {**spans, ir.Axis.TILE: Span(nest.add(start, item))}

    def shares(self, loops: Sequence[ir.Loop], item: Index) -> dict[ir.Axis, Span]:
        """A split, and shares of axes that have as many indices for every batch."""
        nest, counts, digits = self.k.nest, [self.rounds(loop) for loop in loops], list[Index]()
        for place in range(1, len(loops)):
            digit, item = divided(nest, item, prod(counts[place:]))
            digits.append(digit)
        digits.append(item)
        firsts = [nest.mul(digit, loop.step) for digit, loop in zip(digits, loops, strict=True)]
        spans = {ir.Axis.SPLIT: Span(firsts[0])}
        for loop, first in zip(loops[1:], firsts[1:], strict=True):
            left = nest.sub(self.extent_of(loop.axis), first)
            spans[loop.axis] = Span(first, None, nest.minimum(left, loop.step))
        return spans

    def items_inside(self, loops: Sequence[ir.Loop], tiles: Index) -> Index:
        nest, total = self.k.nest, tiles
        for loop in reversed(loops[:-1]):
            if loop.axis is ir.Axis.PANEL:
                total = nest.mul(total, self.product.cut.panels)
            elif loop.axis is ir.Axis.OUTER:
                for axis in self.product.cut.row_steps.outer:
                    total = nest.mul(total, self.k.extent(axis.extent))
        return total

    # a tile

    def multiply(self, what: ir.Multiply) -> None:
        nest, known, contract, shape = self.k.nest, self.known, self.contract, self.product.register_tile
        self.rows_of_tile()
        left = self.left(what.left) if what.left is ir.Place.ITSELF else None
        with self.k.of(contract):
            asks = [found for ask in what.asks for found in asked(self, ask, what.line_bytes)]
        places = ir.places_of_rows(self.product, what.left, known.pitch)
        decided = (what.lanes, what.unrolled, what.steps_ahead, what.ahead_rows, what.ahead_left, what.is_fenced)
        apart = self.columns_apart() if what.right is ir.Place.ITSELF and contract.rhs_n_stride != 1 else ()
        tile = RegisterTile(shape, contract.dtype, places, *decided, apart, contract.rounding)
        known.register_tile = tile
        with self.k.of(contract):
            left = left or self.left(what.left)
            right = self.right(what.right)
            if self.product.along_rows is not None:
                left, right = right, left
            summed = self.summed(what.left, what.right)
            begun = self.begun(what.sums, tile)
            if contract.triangle is not None:
                unit, column = self.tile.unit, self.tile.column
                known.sums = multiplied_within(self.k, contract.triangle, tile, summed[0], left, right, unit, column)
            elif what.copying is ir.Copying.WHEN_NEW:
                assert known.is_new is not None
                given = self.summed(what.left, ir.Place.ITSELF)
                axes = [replace(a, copy_stride=b.rhs_stride) for a, b in zip(given, summed, strict=True)]
                source = self.right(ir.Place.ITSELF)
                known.sums = multiplied_copying(
                    nest, tile, axes, summed, left, source, right, known.is_new, begun, asks
                )
            else:
                copy = None
                if what.copying is ir.Copying.STRIP:
                    copy = known.copied_rows = self.k.bases[ir.LEFT]
                known.sums = multiplied(nest, tile, summed, left, right, begun, copy, asks)
            if contract.rounding is not None:
                known.sums = [nest.positive_zero(total) for total in known.sums]

    def columns_apart(self) -> tuple[Operand, ...]:
        """The places of the columns of each vector in the right operand; beyond the last one stands that one."""
        k, contract, column = self.k, self.contract, self.tile.column
        found = list[Operand]()
        for part in range(self.product.register_tile.vectors):
            lanes = tuple(range(part * LANES, (part + 1) * LANES))
            type_ = vector(DType.I64, LANES)
            left = k.nest.splat(k.nest.sub(contract.n - 1, column), LANES)
            within = k.nest.binary("min", Constant(type_, lanes), left, type_)
            found.append(k.nest.binary("mul", within, k.indices(contract.rhs_n_stride), type_))
        return tuple(found)

    def begun(self, sums: ir.Sums, tile: RegisterTile) -> Sequence[Operand]:
        """The sums of a tile before this block of the sum."""
        nest = self.k.nest
        if sums is ir.Sums.ZERO:
            return [tile.zero] * tile.slots
        base = self.kept
        if sums is ir.Sums.KEPT_LATER:
            base = nest.select(nest.compare("eq", self.first(ir.Axis.SUM), 0), self.k.bases[ir.ZEROS], base)
        places = [nest.pointer(base, index * LANES, tile.dtype) for index in range(tile.slots)]
        return [nest.load(place, tile.vector, 64) for place in places]

    # the result

    def finish(self, what: ir.Finish) -> None:
        k, contract, cut, tile = self.k, self.contract, self.product.cut, self.tile
        start, first = self.rows_of_tile()
        if what.in_registers:
            finishing.finish_in_registers(k, contract, cut, start, first, tile.column, tile.base, self.known.sums)
        else:
            end = self.known.rows_end
            rows = k.nest.mul(self.units, cut.row_steps.unit) if end is None else end
            finishing.finish(k, contract, cut, start, first, rows, tile.column, tile.base, self.kept, what.is_unrolled)
