"""Writes the loops of a product as a nest of single instructions: a walk over its statements that decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import assert_never

from compiler.loops.ir import TileContract
from compiler.nest.ir import ADDRESS, BEGIN, END, Index, Nest, Operand, SharedPointer, Value, vector
from compiler.record import record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.multiply import Ahead, RegisterTile, SummedAxis, multiplied, multiplied_copying
from compiler.targets.cpu.packing import own_panel, pack, pack_all, packed_axes, panel_elements
from compiler.targets.cpu.products.finishing import (
    ask_for_results,
    finish,
    finish_in_registers,
    put_away,
    repeating,
    stage_ahead,
)
from compiler.targets.cpu.products.ir import (
    LEFT,
    ZEROS,
    Ask,
    Asked,
    AskForResults,
    Axis,
    Copying,
    CopyRows,
    Entry,
    Finish,
    Join,
    KeepSums,
    Kind,
    Let,
    Loop,
    Multiply,
    PackPanel,
    Place,
    ProductLoops,
    Put,
    Statement,
    Sums,
    UsePanels,
    When,
)
from compiler.targets.cpu.products.rewriting import item_loops
from compiler.targets.cpu.rectangles import Rectangle, over_equal, over_rectangles
from compiler.targets.cpu.text import LANES
from compiler.targets.cpu.tiles import ceiling, divided, items_of, outer_offsets
from compiler.targets.cpu.triangle import multiplied_within


def build(k: KernelNest, product: ProductLoops) -> Nest:
    """The nest of a product after its last pass."""
    return _Walk(k, product).nest()


@record
class Span:
    """How much of an axis the loops around have taken: from `first` to before `stop`, as many as `count`.

    The loop that took it began at `origin`.
    """

    first: Index = 0
    stop: Index | None = None
    count: Index | None = None
    origin: Index = 0


@record
class _Tile:
    """The first unit of a tile that no tile before had, and the first that it has; its column; its outer offsets."""

    start: Index
    unit: Index
    column: Index
    lhs: Index
    rhs: Index
    base: Index


@record
class _Operand:
    """Where a tile finds an operand: as an offset, as an address."""

    index: Index
    pointer: Value


@dataclass(slots=True)
class _Known:
    """What statements before have computed, as long as the loop around goes on."""

    spans: dict[Axis, Span]
    tile: _Tile | None = None
    left: _Operand | None = None
    right: _Operand | None = None  # as it lies
    panel: Value | None = None  # the packed one
    is_new: Value | None = None  # the panel
    copied_rows: Value | None = None
    pitch: int = 0  # elements from one of them to the next
    rows: tuple[Index, Index] | None = None  # see `rows_of_tile`
    number: Index = 0  # of the tile in its block
    kept: Value | None = None  # the sums of the tile
    length: Index | None = None  # of the block of the sum
    is_last: Value | None = None
    is_first_panel: Value | None = None
    register_tile: RegisterTile | None = None
    sums: Sequence[Operand] = ()


@dataclass(slots=True)
class _Walk:
    k: KernelNest
    product: ProductLoops
    known: _Known = field(default_factory=lambda: _Known({axis: Span() for axis in Axis}))
    units: Index = 0
    tiles: Index = 0
    panels: Value | None = None  # all that are packed, or the thread's own
    packed: Operand | None = None  # the panel that the item before has packed, where a thread has one of its own

    @property
    def contract(self) -> TileContract:
        return self.product.contract

    @property
    def width(self) -> int:
        return self.product.cut.shape.width

    @property
    def tile(self) -> _Tile:
        assert self.known.tile is not None
        return self.known.tile

    def first(self, axis: Axis) -> Index:
        return self.known.spans[axis].first

    def nest(self) -> Nest:
        """The whole nest, with the one that packs all panels before it where there is one."""
        k, product, contract = self.k, self.product, self.contract
        for position, size in product.scratch:
            k.reserve(position, size)
        k.open()
        self.statements(product.body)
        loop = product.body[-1]
        assert isinstance(loop, Loop)
        code = k.close(items_of(product.cut, loop.step if loop.axis is Axis.TILE else 1))
        if UsePanels(Place.SHARED) not in product.body:
            return code
        panels = product.cut.panels
        size = panels * panel_elements(contract, self.width) * contract.dtype.size
        before = pack_all(k, contract, product.cut.shape, panels)
        return replace(code, before=before, shared_bytes=size, lasts=product.lasts)

    # statements

    def statements(self, body: Sequence[Statement]) -> None:
        for statement in body:
            self.statement(statement)

    def within(self, spans: Mapping[Axis, Span], body: Sequence[Statement]) -> None:
        """Do the body with what the loops around have taken; what it computes is not known behind it."""
        around = self.known
        self.known = replace(around, spans={**around.spans, **spans})
        self.statements(body)
        self.known = around

    def statement(self, statement: Statement) -> None:
        match statement:
            case Loop():
                self.loop(statement)
            case Join():
                raise AssertionError("items are joined where their loops begin")
            case When(is_last=is_last, body=body):
                assert self.known.is_last is not None
                condition = self.known.is_last if is_last else self.k.nest.negated(self.known.is_last)
                self.k.nest.when(condition, lambda: self.within({}, body))
            case Entry():
                self.entry(statement)
            case UsePanels(place=place):
                self.use_panels(place)
            case Let():
                self.let(statement)
            case KeepSums(pitch=pitch):
                self.keep_sums(pitch)
            case PackPanel():
                self.pack_panel()
            case CopyRows(pitch=pitch):
                self.copy_rows(pitch)
            case AskForResults():
                row, column, base = self.rows_of_tile()[1], self.tile.column, self.tile.base
                ask_for_results(self.k, self.contract, self.product.cut, row, column, base)
            case Multiply():
                self.multiply(statement)
            case Put():
                assert self.known.register_tile is not None
                with self.k.of(self.contract):
                    put_away(self.k, self.known.register_tile, self.kept, self.known.sums)
            case Finish():
                self.finish(statement)
            case _:
                assert_never(statement)

    def entry(self, entry: Entry) -> None:
        k, contract, cut = self.k, self.contract, self.product.cut
        match entry:
            case Entry.EXTENTS:
                for axis in (*contract.k, *contract.outer):
                    k.extent(axis.extent)
                self.units = k.extent(cut.row_steps.extent)
                self.tiles = ceiling(k.nest, self.units, cut.row_steps.step)
                self.known.spans[Axis.SUM] = Span(0, k.extent(contract.k[0].extent))
            case Entry.REPEATED:
                for load in repeating(k.stages, cut):
                    k.repeated(load, 0, cut.shape.vectors)
            case Entry.ZEROS:
                k.nest.clear(k.bases[ZEROS], cut.shape.rows * self.width, vector(contract.dtype, LANES))

    def use_panels(self, place: Place) -> None:
        if place is Place.SHARED:
            self.panels = self.k.argument(SharedPointer(), ADDRESS)
        else:
            self.panels, self.packed = own_panel(self.k, self.contract, self.width), -1

    # loops

    def loop(self, loop: Loop) -> None:
        if loop.kind is Kind.ITEMS:
            self.items(loop)
            return
        nest, axis, span = self.k.nest, loop.axis, self.known.spans[loop.axis]
        assert span.stop is not None
        if loop.kind is Kind.EVENLY:
            over_equal(
                nest,
                span.first,
                span.stop,
                loop.step,
                lambda first, count: self.within({axis: Span(first, None, count)}, loop.body),
            )
        else:

            def body(index: Value, carried: list[Value]) -> Sequence[Operand]:
                self.within({axis: Span(index, None, loop.step, span.first)}, loop.body)
                return []

            nest.loop(span.first, span.stop, loop.step, [], body)

    def joined(self, share: Rectangle, tiles: int, body: Sequence[Statement]) -> None:
        """The items of a thread together, of which each has so many tiles."""
        nest = self.k.nest
        start = nest.mul(share.top, tiles)
        stop = nest.minimum(nest.mul(share.bottom, tiles), self.tiles)
        self.within({Axis.TILE: Span(start, stop), Axis.PANEL: Span(share.left, share.right)}, body)

    def items(self, loop: Loop) -> None:
        nest, (loops, body) = self.k.nest, item_loops(loop)
        if isinstance(join := body[0], Join):
            over_rectangles(nest, self.product.cut.panels, lambda of: self.joined(of, loop.step, join.body))
            return

        def item(number: Value, carried: list[Value]) -> Sequence[Operand]:
            self.packed = carried[0] if carried else None
            self.within(self.decoded(loops, number), body)
            return [] if self.packed is None else [self.packed]

        nest.loop(BEGIN, END, 1, [] if self.packed is None else [self.packed], item)

    def decoded(self, loops: Sequence[Loop], item: Index) -> dict[Axis, Span]:
        """What an item is: the digits of its number, of which the last one is that of the tile."""
        nest, tiles, start = self.k.nest, self.tiles, 0
        spans: dict[Axis, Span] = {}
        for place, loop in enumerate(loops[:-1], 1):
            if loop.axis is Axis.TILE:
                group, item = divided(nest, item, loop.step * self.product.cut.panels)
                start = nest.mul(group, loop.step)
                tiles = nest.minimum(nest.sub(tiles, start), loop.step)
            else:
                digit, item = divided(nest, item, self.items_inside(loops[place:], tiles))
                spans[loop.axis] = Span(digit)
        return {**spans, Axis.TILE: Span(nest.add(start, item))}

    def items_inside(self, loops: Sequence[Loop], tiles: Index) -> Index:
        nest, total = self.k.nest, tiles
        for loop in reversed(loops[:-1]):
            if loop.axis is Axis.PANEL:
                total = nest.mul(total, self.product.cut.panels)
            elif loop.axis is Axis.OUTER:
                for axis in self.product.cut.row_steps.outer:
                    total = nest.mul(total, self.k.extent(axis.extent))
        return total

    # what is computed where it stands

    def let(self, what: Let) -> None:
        nest, known, cut, contract = self.k.nest, self.known, self.product.cut, self.contract
        match what:
            case Let.TILE:
                steps = cut.row_steps
                start = nest.mul(self.first(Axis.TILE), steps.step)
                last = nest.maximum(nest.sub(self.units, steps.step), 0)
                unit = nest.minimum(start, last)  # the last tile is moved back over rows that are done already
                column = nest.mul(self.first(Axis.PANEL), self.width)
                known.tile = _Tile(start, unit, column, *outer_offsets(self.k, steps.outer, self.first(Axis.OUTER)))
            case Let.OPERANDS:
                left = self.left_index(self.tile.unit)
                column = nest.mul(self.tile.column, contract.rhs_n_stride)
                right = nest.add(nest.add(column, self.tile.rhs), contract.rhs_offset)
                known.right = _Operand(right, nest.pointer(self.k.bases[contract.rhs], right, contract.dtype))
                known.left = _Operand(left, nest.pointer(self.k.bases[contract.lhs], left, contract.dtype))
            case Let.PANEL:
                known.panel = self.panel_pointer()
            case Let.NEW_PANEL:
                assert known.right is not None
                assert self.packed is not None
                known.is_new, known.panel = nest.compare("ne", known.right.index, self.packed), self.panels
                self.packed = known.right.index
            case Let.FIRST_PANEL:
                panels = known.spans[Axis.PANEL]
                known.is_first_panel = nest.compare("eq", panels.first, panels.origin)
            case Let.TILES_END:
                block = known.spans[Axis.TILE]
                assert block.count is not None
                known.spans[Axis.TILE] = replace(block, stop=nest.add(block.first, block.count))
            case Let.BLOCK:
                depth, block = self.k.extent(contract.k[0].extent), known.spans[Axis.SUM]
                assert isinstance(block.count, int)
                known.length = nest.minimum(nest.sub(depth, block.first), block.count)
                known.is_last = nest.compare("ge", nest.add(block.first, block.count), depth)

    def left_index(self, unit: Index) -> Index:
        """Where the rows of a tile start in the left operand."""
        nest, contract, (axis, *_) = self.k.nest, self.contract, self.contract.k
        rows = nest.add(nest.mul(unit, self.product.cut.row_steps.stride), self.tile.lhs)
        offset = nest.add(rows, nest.mul(self.first(Axis.SUM), axis.lhs_stride))
        return nest.add(offset, contract.lhs_offset)

    def panel_pointer(self) -> Value:
        """Where the block of the sum starts in the packed panel."""
        nest = self.k.nest
        assert self.panels is not None
        panel = nest.mul(self.first(Axis.PANEL), panel_elements(self.contract, self.width))
        offset = nest.add(panel, nest.mul(self.first(Axis.SUM), self.width))
        return nest.pointer(self.panels, offset, self.contract.dtype)

    @property
    def kept(self) -> Value:
        """Where the sums of the tile lie in scratch."""
        return self.k.bases[self.contract.tile] if self.known.kept is None else self.known.kept

    def rows_of_tile(self) -> tuple[Index, Index]:
        """The first row that no tile before had, and the first that it has."""
        if self.known.rows is None:
            nest, unit = self.k.nest, self.product.cut.row_steps.unit
            self.known.rows = nest.mul(self.tile.start, unit), nest.mul(self.tile.unit, unit)
        return self.known.rows

    def keep_sums(self, pitch: int) -> None:
        nest, known, contract = self.k.nest, self.known, self.contract
        tiles = known.spans[Axis.TILE]
        known.number = nest.sub(tiles.first, tiles.origin)
        place: Index = 0
        if pitch:
            number = nest.add(nest.mul(self.first(Axis.PANEL), pitch), known.number)
            place = nest.mul(number, self.slot)
        known.kept = nest.pointer(self.k.bases[contract.tile], place, contract.dtype)

    @property
    def slot(self) -> int:
        """Elements of the sums of a tile."""
        return self.product.cut.shape.rows * self.width

    # a tile

    def pack_panel(self) -> None:
        self.let(Let.NEW_PANEL)
        k, right, target, is_new = self.k, self.known.right, self.known.panel, self.known.is_new
        assert right is not None
        assert target is not None
        assert is_new is not None
        with k.of(self.contract):
            k.nest.when(is_new, partial(pack, k, self.contract, self.width, self.tile.column, right.pointer, target))

    def multiply(self, what: Multiply) -> None:
        nest, known, contract, cut = self.k.nest, self.known, self.contract, self.product.cut
        self.rows_of_tile()
        left = self.left(what.left)
        with self.k.of(contract):
            asks = [found for ask in what.asks for found in self.asked(ask)]
        tile = RegisterTile(cut.shape, contract.dtype, self.places(what.left), what.streams, what.lanes)
        known.register_tile = tile
        with self.k.of(contract):
            right = self.right(what.right)
            summed = self.summed(what.left, what.right)
            begun = self.begun(what.sums, tile)
            if contract.triangle is not None:
                unit, column = self.tile.unit, self.tile.column
                known.sums = multiplied_within(self.k, contract.triangle, tile, summed[0], left, right, unit, column)
            elif what.copying is Copying.WHEN_NEW:
                assert known.is_new is not None
                given = self.summed(what.left, Place.ITSELF)
                axes = [replace(a, copy_stride=b.rhs_stride) for a, b in zip(given, summed, strict=True)]
                source = self.right(Place.ITSELF)
                known.sums = multiplied_copying(
                    nest, tile, axes, summed, left, source, right, known.is_new, begun, asks
                )
            else:
                known.sums = multiplied(nest, tile, summed, left, right, begun, ahead=asks)

    def left(self, place: Place) -> Value:
        """Where the rows of the tile start."""
        if place is Place.COPY:
            assert self.known.copied_rows is not None
            return self.known.copied_rows
        return self.rows_at(self.tile.unit) if self.known.left is None else self.known.left.pointer

    def places(self, left: Place) -> tuple[int, ...]:
        """Where each row of a tile lies, from the first."""
        rows = self.product.cut.shape.rows
        if left is Place.COPY:
            return tuple(row * self.known.pitch for row in range(rows))
        return self.product.cut.row_steps.places(self.contract, rows)

    def right(self, place: Place) -> Value:
        """Where the columns of the tile start."""
        if place is not Place.ITSELF:
            return self.panel_pointer() if self.known.panel is None else self.known.panel
        assert self.known.right is not None
        return self.known.right.pointer

    def summed(self, left: Place, right: Place) -> list[SummedAxis]:
        """The summed axes with their strides in what a tile reads."""
        axes = self.contract.k if right is Place.ITSELF else packed_axes(self.contract, self.width)
        found = [SummedAxis(self.k.extent(axis.extent), axis.lhs_stride, axis.rhs_stride) for axis in axes]
        if left is Place.COPY:
            found[0] = replace(found[0], lhs_stride=1)
        return found if self.known.length is None else [replace(found[0], extent=self.known.length), *found[1:]]

    def begun(self, sums: Sums, tile: RegisterTile) -> Sequence[Operand]:
        """The sums of a tile before this block of the sum."""
        nest = self.k.nest
        if sums is Sums.ZERO:
            return [tile.zero] * tile.slots
        is_start = nest.compare("eq", self.first(Axis.SUM), 0)
        base = nest.select(is_start, self.k.bases[ZEROS], self.kept)
        places = [nest.pointer(base, index * LANES, tile.dtype) for index in range(tile.slots)]
        return [nest.load(place, tile.vector, 64) for place in places]

    def rows_at(self, unit: Index) -> Value:
        """Where rows start in the left operand."""
        return self.k.nest.pointer(self.k.bases[self.contract.lhs], self.left_index(unit), self.contract.dtype)

    def copy_rows(self, pitch: int) -> None:
        k, nest, known, contract, rows = self.k, self.k.nest, self.known, self.contract, self.product.cut.shape.rows
        assert known.is_first_panel is not None
        assert known.length is not None
        type_, length = contract.dtype, known.length
        source = self.rows_at(self.tile.unit)
        target = nest.pointer(k.bases[LEFT], nest.mul(known.number, rows * pitch), type_)

        def body(index: Value, carried: list[Value]) -> Sequence[Operand]:
            for row in range(rows):
                given = nest.pointer(source, nest.add(index, row * contract.lhs_m_stride), type_)
                name = nest.load(given, vector(type_, LANES), type_.size)
                nest.store(name, nest.pointer(target, nest.add(index, row * pitch), type_), 64)
            return []

        def copy() -> None:
            nest.loop(0, length, LANES, [], body)

        with k.of(contract):
            nest.when(known.is_first_panel, copy)
        known.copied_rows, known.pitch = target, pitch

    # what a tile asks for

    def asked(self, ask: Ask) -> list[Ahead]:
        nest, contract, cut = self.k.nest, self.contract, self.product.cut
        line, tile = self.k.machine.line(contract.dtype), self.tile
        match ask.what:
            case Asked.RESULTS:
                row = self.rows_of_tile()[1]
                return stage_ahead(self.k, contract, cut, row, tile.column, tile.base, ask.depth)
            case Asked.ROWS:
                assert self.known.left is not None
                following = nest.add(self.known.left.index, cut.shape.rows * contract.lhs_m_stride)
                pointer = nest.pointer(self.k.bases[contract.lhs], following, contract.dtype)
                return [Ahead(pointer, tuple(range(0, ask.lines * line, line)), ask.lines * line)]
            case Asked.SUMS_OR_RESULTS:
                return self.sums_or_results_ahead(ask.depth)
            case Asked.PANEL:
                return [self.panel_ahead(ask)]
            case Asked.ROWS_OF_FIRST_PANEL:
                places = tuple(index * contract.lhs_m_stride for index in range(cut.shape.rows))
                following = self.rows_at(nest.add(tile.unit, cut.shape.rows))
                return [Ahead(following, places, line, ask.number, ask.depth, condition=self.known.is_first_panel)]

    def sums_or_results_ahead(self, depth: int) -> list[Ahead]:
        """The sums of the next tile, and in the last block what its elementwise stage will write."""
        nest, contract, cut, is_last = self.k.nest, self.contract, self.product.cut, self.known.is_last
        assert is_last is not None
        results = stage_ahead(self.k, contract, cut, self.tile.unit, self.tile.column, self.tile.base, depth)
        following = nest.pointer(self.kept, self.slot, contract.dtype)
        places = tuple(range(0, self.width, self.k.machine.line(contract.dtype)))
        found = [Ahead(following, places, self.width, cut.shape.rows, depth)]
        for result in results:
            pointer = nest.select(is_last, result.pointer, following)
            found.append(replace(result, pointer=pointer, step=nest.select(is_last, result.step, 0)))
        return found

    def panel_ahead(self, ask: Ask) -> Ahead:
        """A tile's share of the next panel."""
        nest, contract, start = self.k.nest, self.contract, self.first(Axis.SUM)
        assert self.panels is not None
        panel = nest.add(self.first(Axis.PANEL), 1)
        start = nest.add(start, nest.minimum(nest.mul(self.known.number, ask.number), ask.depth - ask.number))
        place = nest.add(nest.mul(panel, panel_elements(contract, self.width)), nest.mul(start, self.width))
        pointer = nest.pointer(self.panels, place, contract.dtype)
        places = tuple(range(0, self.width, self.k.machine.line(contract.dtype)))
        return Ahead(pointer, places, self.width, ask.number, ask.depth)

    # the result

    def finish(self, what: Finish) -> None:
        k, contract, cut, tile = self.k, self.contract, self.product.cut, self.tile
        start, first = self.rows_of_tile()
        if what.in_registers:
            finish_in_registers(k, contract, cut, first, tile.column, tile.base, self.known.sums)
        else:
            rows = k.nest.mul(self.units, cut.row_steps.unit)
            finish(k, contract, cut, start, first, rows, tile.column, tile.base, self.kept)
