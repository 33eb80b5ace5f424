"""The frame of a product's statements: indices that loops have taken, and the operands and sums of a tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from math import prod

from compiler.loops.ir import TileContract
from compiler.nest.ir import Index, Operand, Value
from compiler.schedule.addresses import count
from compiler.support.record import mutable_record, record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.long_sums import LongSum, Operands
from compiler.targets.cpu.multiply import RegisterTile, SummedAxis
from compiler.targets.cpu.packing import packed_axes, panel_elements
from compiler.targets.cpu.products import ir


@record
class Span:
    """How much of an axis the loops around have taken: from `first` to before `stop`, as many as `count`.

    The loop that took it began at `origin`; one that counts from zero took `within` behind it, and no `first`.
    """

    first: Index = 0
    stop: Index | None = None
    count: Index | None = None
    origin: Index = 0
    within: Index | None = None


@record
class Tile:
    """The first unit of a tile that no tile before had, and the first that it has; its column; its outer offsets."""

    start: Index
    unit: Index
    column: Index
    lhs: Index
    rhs: Index
    base: Index


@record
class OperandPlace:
    """Where a tile finds an operand: as an offset, as an address."""

    index: Index
    pointer: Value


@mutable_record
class LongBlock:
    """A block of a sum over several axes: these, and where it and the following one start.

    The steps of a tile are those of the place where it reads the left operand.
    """

    sum: LongSum
    axes: list[SummedAxis]
    here: Operands
    following: Operands
    steps: dict[ir.Place, list[SummedAxis]] = field(default_factory=dict[ir.Place, list[SummedAxis]])


@mutable_record
class Known:
    """The values of statements before, as long as the loop around goes on."""

    spans: dict[ir.Axis, Span]
    tile: Tile | None = None
    left: OperandPlace | None = None
    right: OperandPlace | None = None  # as it lies
    panel: Value | None = None  # the packed one
    is_new: Value | None = None  # the panel
    copied_rows: Value | None = None
    pitch: int = 0  # elements from one of them to the next
    rows: tuple[Index, Index] | None = None  # see `rows_of_tile`
    number: Index = 0  # of the tile in its block
    column: Index = 0  # of the panel
    long: LongBlock | None = None  # of a sum over several axes
    rows_end: int | None = None  # rows of an outer index, where a constant says it
    first_number: Index = 0  # of the tiles of an outer index
    number_in_item: Index = 0  # of the tile and panel
    share: tuple[Index, Index] = (0, 0)  # the row and the stretch of it that a tile asks for
    stretches: int = 1  # of a row
    kept: Value | None = None  # the sums of the tile
    length: Index | None = None  # of the block of the sum
    is_last: Value | None = None
    is_first_panel: Value | None = None
    register_tile: RegisterTile | None = None
    sums: Sequence[Operand] = ()


@mutable_record
class Frame:
    """A product in the making."""

    k: KernelNest
    product: ir.ProductLoops
    known: Known = field(default_factory=lambda: Known({axis: Span() for axis in ir.Axis}))
    units: Index = 0
    tiles: Index = 0
    panels: Value | None = None  # all that are packed, or the thread's own
    column_pitch: int = 0  # elements from a copied panel to the next
    strips: dict[int, ir.Strips] = field(default_factory=dict[int, ir.Strips])
    packed: Operand | None = None  # the panel that the item before has packed, where a thread has one of its own

    @property
    def contract(self) -> TileContract:
        return self.product.contract

    @property
    def width(self) -> int:
        return self.product.cut.shape.width

    @property
    def tile(self) -> Tile:
        assert self.known.tile is not None
        return self.known.tile

    def first(self, axis: ir.Axis) -> Index:
        return self.known.spans[axis].first

    @property
    def slot(self) -> int:
        """Elements of the sums of a tile."""
        return self.product.register_tile.rows * self.product.register_tile.width

    def left_index(self, unit: Index) -> Index:
        """Where the rows of a tile start in the left operand."""
        nest, contract, (axis, *_) = self.k.nest, self.contract, self.contract.k
        rows = nest.add(nest.mul(unit, self.product.cut.row_steps.stride), self.tile.lhs)
        offset = nest.add(rows, nest.mul(self.first(ir.Axis.SUM), axis.lhs_stride))
        return nest.add(offset, contract.lhs_offset)

    def panel_pointer(self) -> Value:
        """Where the block of the sum starts in the packed panel."""
        nest = self.k.nest
        assert self.panels is not None
        panel = nest.mul(self.first(ir.Axis.PANEL), panel_elements(self.contract, self.width))
        offset = nest.add(panel, nest.mul(self.first(ir.Axis.SUM), self.width))
        return nest.pointer(self.panels, offset, self.contract.dtype)

    def index(self, axis: ir.Axis) -> Index:
        """The stretch of an axis that a loop has taken."""
        span = self.known.spans[axis]
        return span.first if span.within is None else self.k.nest.add(span.origin, span.within)

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

    def left(self, place: ir.Place) -> Value:
        """Where the rows of the tile start."""
        if place is ir.Place.COPY:
            assert self.known.copied_rows is not None
            return self.known.copied_rows
        if place is ir.Place.STRIPS:
            return self.strip(ir.LEFT, ir.Axis.TILE)
        return self.rows_at(self.tile.unit) if self.known.left is None else self.known.left.pointer

    def strip(self, side: int, axis: ir.Axis) -> Value:
        """Where the strip of a tile is copied."""
        strip = self.known.spans[axis].within
        assert strip is not None
        start = self.k.nest.mul(strip, self.strips[side].pitch)
        return self.k.nest.pointer(self.k.bases[side], start, self.contract.dtype)

    def source(self, side: int, index: Index, strip: Index) -> Value:
        """Where the strip of a summed element starts in the operand itself."""
        nest, contract, (axis,) = self.k.nest, self.contract, self.contract.k
        is_left = side == ir.LEFT
        stride, offset = (axis.lhs_stride, contract.lhs_offset) if is_left else (axis.rhs_stride, contract.rhs_offset)
        place = nest.add(nest.mul(index, stride), nest.mul(strip, self.strips[side].width))
        base = self.k.bases[contract.lhs if is_left else contract.rhs]
        return nest.pointer(base, nest.add(place, offset), contract.dtype)

    def right(self, place: ir.Place) -> Value:
        """Where the columns of the tile start."""
        if place is ir.Place.ITSELF:
            assert self.known.right is not None
            return self.known.right.pointer
        if self.known.panel is not None:
            return self.known.panel
        return self.strip(ir.RIGHT, ir.Axis.PANEL) if place is ir.Place.STRIPS else self.panel_pointer()

    def summed(self, left: ir.Place, right: ir.Place) -> list[SummedAxis]:
        """The summed axes with their strides in the operands as a tile reads them."""
        if self.known.long is not None:
            return self.known.long.steps[left]
        if left is ir.Place.STRIPS and right is ir.Place.STRIPS:
            assert self.known.length is not None
            return [SummedAxis(self.known.length, self.strips[ir.LEFT].room, self.strips[ir.RIGHT].room)]
        axes = self.contract.k if right is ir.Place.ITSELF else packed_axes(self.contract, self.width)
        found = [SummedAxis(self.k.extent(axis.extent), axis.lhs_stride, axis.rhs_stride) for axis in axes]
        if left is ir.Place.COPY:
            found[0] = replace(found[0], lhs_stride=1)
        return found if self.known.length is None else [replace(found[0], extent=self.known.length), *found[1:]]

    def rows_at(self, unit: Index) -> Value:
        """Where rows start in the left operand."""
        return self.k.nest.pointer(self.k.bases[self.contract.lhs], self.left_index(unit), self.contract.dtype)

    def new_panel(self) -> tuple[Value, Value, Value]:
        """Whether the panel is another one than that of the item before; where it lies, and where it is packed."""
        assert self.known.right is not None
        assert self.panels is not None
        assert self.packed is not None
        right = self.known.right
        self.known.is_new = self.k.nest.compare("ne", right.index, self.packed)
        self.known.panel, self.packed = self.panels, right.index
        return self.known.is_new, right.pointer, self.panels

    def extent_of(self, axis: ir.Axis) -> int:
        """How many there are of an axis, for every batch."""
        steps = self.product.cut.row_steps
        outer = prod(count(outer.extent) for outer in steps.outer)
        if axis is ir.Axis.OUTER:
            return outer
        assert isinstance(steps.extent, int)
        return -(-steps.extent // steps.step) * (outer if axis is ir.Axis.STRIP else 1)

    def rounds(self, loop: ir.Loop) -> int:
        return -(-self.extent_of(loop.axis) // loop.step)
