"""Large products whose operands both lie row by row along the sum, as in gradients of weights: blocks are copied.

An item is a panel of columns of some tiles of rows. A thread takes its items together, in blocks of rows and columns:
it goes through blocks of the sum, copies what they take of both operands, and multiplies tile by tile. The sums lie in
scratch between the blocks, so each element is one chain. A tile asks for its share of what the next block copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt

from compiler.loops.ir import TileContract
from compiler.nest.ir import Index, Items, Nest, Operand, Value, vector
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.multiply import Ahead, RegisterTile, SummedAxis, multiplied
from compiler.targets.cpu.products.finishing import finish, put_away, stage_ahead
from compiler.targets.cpu.rectangles import Rectangle, over_equal, over_rectangles, rows_of_item
from compiler.targets.cpu.tiles import TileShape, Tiling, ceiling, divided, most_rows, nominal
from compiler.tuning import Tuning
from compiler.types import DType

ALIGNMENT = 64  # bytes of which stretches of scratch begin at a multiple


def sums_side_by_side(contract: TileContract, cut: Tiling, tuning: Tuning) -> bool:
    """Whether the operands are too large for the second-level cache, and dense in rows and columns."""
    is_plain = len(contract.k) == 1 and not contract.outer and contract.triangle is None and cut.shape.rows <= LANES
    is_dense = contract.lhs_m_stride == contract.rhs_n_stride == 1
    return is_plain and is_dense and cut.block > 0 and cut.panels >= tuning.block_panels


def emit_both_copied(k: KernelNest, contract: TileContract, cut: Tiling, batch: int) -> Nest:
    """The code of a contraction kernel for which `sums_side_by_side` holds."""
    (axis,), tuning = contract.k, k.tuning
    # a tile takes its panel from the second-level cache, whatever its rows: the fewest tiles are the fastest
    shape = replace(cut.shape, rows=min(LANES, most_rows(contract, cut.shape.vectors, k.machine)))
    cut = replace(cut, shape=shape)
    side = _side(shape, int(tuning.copied_share * k.machine.l2_bytes) // contract.dtype.size, tuning.copied_sum)
    tiles = ceil(nominal(contract.m, batch) / shape.rows)
    most = _evenly(tiles, side // shape.rows)
    left = _Operand(-1, contract.lhs, contract.lhs_offset, axis.lhs_stride, shape.rows, most, tuning.copied_sum)
    most = _evenly(cut.panels, side // shape.width)
    right = _Operand(-2, contract.rhs, contract.rhs_offset, axis.rhs_stride, shape.width, most, tuning.copied_sum)
    return _BothCopied(k, contract, cut, left, right, rows_of_item(tiles, cut.panels, tuning)).emit()


def _side(shape: TileShape, elements: int, deep: int) -> int:
    """Rows, and as many columns, whose sums and operands, `deep` of the sum, have so many elements."""
    copied = deep * (1 + _room(shape.rows) / shape.rows)
    return int((sqrt(copied * copied + 4 * elements) - copied) / 2)


def _evenly(number: int, most: int) -> int:
    """How many of them a group has where groups are equal."""
    return ceil(number / ceil(number / max(1, most)))


def _lanes(width: int) -> int:
    """Elements of a strip that are moved at once."""
    return min(LANES, 1 << (width - 1).bit_length())


def _room(width: int) -> int:
    """Elements from the copied strip of a k to that of the next."""
    return ceil(width / _lanes(width)) * _lanes(width)


@record
class _Operand:
    """How an operand is copied: in strips of `width` elements of each k, `most` of them at once.

    The strips of the block lie in scratch at `copy`, those of one k behind those of the k before.
    """

    copy: int
    buffer: int
    offset: int
    stride: int
    width: int
    most: int
    deep: int  # summed elements of a block

    @property
    def pitch(self) -> int:
        """Elements from a copied strip to the next one; no power of two, so that they do not compete for lines."""
        return self.deep * _room(self.width) + LANES


@record
class _Rectangle:
    """The first tile of rows and the first panel, and how many there are of both."""

    tile: Index
    tiles: Index
    panel: Index
    panels: Index


@dataclass(slots=True)
class _BothCopied:
    k: KernelNest
    contract: TileContract
    cut: Tiling
    left: _Operand
    right: _Operand
    unit: int  # tiles of rows of an item

    @property
    def slot(self) -> int:
        """Elements of the sums of a tile."""
        return self.cut.shape.rows * self.cut.shape.width

    @property
    def deep(self) -> int:
        """Summed elements of a block."""
        return self.left.deep

    @property
    def type(self) -> DType:
        return self.contract.dtype

    def emit(self) -> Nest:
        k, contract, nest, panels = self.k, self.contract, self.k.nest, self.cut.panels
        size = contract.dtype.size
        k.reserve(contract.tile, self.slot * size * (self.left.most * self.right.most + 1))
        for operand in (self.left, self.right):
            k.reserve(operand.copy, operand.pitch * operand.most * size)
        k.open()
        depth, units = k.extent(contract.k[0].extent), k.extent(contract.m)  # loaded here, where every use is reached
        all_tiles = ceiling(nest, units, self.cut.shape.rows)

        def over_share(share: Rectangle) -> None:
            start = nest.mul(share.top, self.unit)
            stop = nest.minimum(nest.mul(share.bottom, self.unit), all_tiles)

            def over_rows(first: Index, tiles: Index) -> None:
                over_equal(
                    nest,
                    share.left,
                    share.right,
                    self.right.most,
                    lambda panel, count: self.rectangle(_Rectangle(first, tiles, panel, count), depth, units),
                )

            over_equal(nest, start, stop, self.left.most, over_rows)

        over_rectangles(nest, panels, over_share)
        return k.close(Items(contract.m, self.unit * self.cut.shape.rows, panels))

    def rectangle(self, here: _Rectangle, depth: Index, units: Index) -> None:
        """Some tiles of rows times some panels, over the whole sum."""
        nest, contract, shape = self.k.nest, self.contract, self.cut.shape
        sums = nest.mul(nest.mul(here.tiles, here.panels), self.slot)
        nest.clear(self.k.bases[contract.tile], sums, vector(self.type, LANES))

        def over_sum(start: Value, carried: list[Value]) -> Sequence[Operand]:
            length = nest.minimum(nest.sub(depth, start), self.deep)
            is_last = nest.compare("ge", nest.add(start, self.deep), depth)
            with self.k.of(contract):
                self.copy(self.left, here.tile, here.tiles, start, length)
                self.copy(self.right, here.panel, here.panels, start, length)

            def over_panels(panel: Value, carried: list[Value]) -> Sequence[Operand]:
                column = nest.mul(nest.add(here.panel, panel), shape.width)

                def over_tiles(tile: Value, carried: list[Value]) -> Sequence[Operand]:
                    number = nest.add(nest.mul(panel, here.tiles), tile)
                    row = nest.mul(nest.add(here.tile, tile), shape.rows)
                    slots = nest.pointer(self.k.bases[contract.tile], nest.mul(number, self.slot), self.type)

                    def middle() -> None:
                        self.multiply(tile, panel, length, slots, self.sources_ahead(here, start, number, slots))

                    def last() -> None:
                        results = stage_ahead(self.k, contract, self.cut, row, column, 0, self.deep)
                        self.multiply(tile, panel, length, slots, results)
                        finish(self.k, contract, self.cut, row, row, units, column, 0, slots)

                    nest.when(nest.negated(is_last), middle)
                    nest.when(is_last, last)
                    return []

                nest.loop(0, here.tiles, 1, [], over_tiles)
                return []

            nest.loop(0, here.panels, 1, [], over_panels)
            return []

        nest.loop(0, depth, self.deep, [], over_sum)

    def copy(self, operand: _Operand, first: Index, strips: Index, start: Index, length: Index) -> None:
        """Copy a block of the sum: row by row as they lie there, each strip to its own stretch."""
        nest, size, lanes = self.k.nest, self.contract.dtype.size, _lanes(operand.width)
        type_, align = vector(self.type, lanes), min(ALIGNMENT, lanes * size)

        def moved(given: Value, there: Value) -> None:
            for part in range(0, operand.width, lanes):
                place = nest.pointer(given, part, self.type)
                name = nest.load(place, type_, size)
                nest.store(name, nest.pointer(there, part, self.type), align)

        def over_sum(index: Value, carried: list[Value]) -> Sequence[Operand]:
            source = self.source(operand, nest.add(start, index), first)
            goal = nest.pointer(self.k.bases[operand.copy], nest.mul(index, _room(operand.width)), self.type)

            def over_strips(strip: Index, count: int) -> Sequence[Operand]:
                given = nest.pointer(source, nest.mul(strip, operand.width), self.type)
                there = nest.pointer(goal, nest.mul(strip, operand.pitch), self.type)
                for number in range(count):
                    moved(
                        nest.pointer(given, number * operand.width, self.type),
                        nest.pointer(there, number * operand.pitch, self.type),
                    )
                return []

            each = self.k.tuning.copied_together
            together = nest.binary("and", strips, -each)
            nest.loop(0, together, each, [], lambda strip, _: over_strips(strip, each))
            nest.loop(together, strips, 1, [], lambda strip, _: over_strips(strip, 1))
            return []

        nest.loop(0, length, 1, [], over_sum)

    def source(self, operand: _Operand, index: Index, strip: Index) -> Value:
        """Where a strip of a k starts in the operand itself."""
        nest = self.k.nest
        place = nest.add(nest.mul(index, operand.stride), nest.mul(strip, operand.width))
        return nest.pointer(self.k.bases[operand.buffer], nest.add(place, operand.offset), self.type)

    def sources_ahead(self, here: _Rectangle, start: Index, number: Index, slots: Value) -> list[Ahead]:
        """The sums of the next tile; and of what the next block copies, a stretch of a row of each operand."""
        nest = self.k.nest
        stretches = max(1, self.left.most * self.right.most // self.deep)  # of a row
        share = nest.binary("div", nest.mul(number, self.deep * stretches), nest.mul(here.tiles, here.panels))
        row, stretch = divided(nest, share, stretches)
        row = nest.add(nest.add(start, self.deep), row)
        found = [self.spread(nest.pointer(slots, self.slot, self.type), self.slot)]
        for operand, strip in ((self.left, here.tile), (self.right, here.panel)):
            length = ceil(operand.most * operand.width / stretches)
            first = nest.pointer(self.source(operand, row, strip), nest.mul(stretch, length), self.type)
            found.append(self.spread(first, length))
        return found

    def spread(self, pointer: Value, elements: int) -> Ahead:
        """The lines of so many elements, evenly over the steps of a tile."""
        line = self.k.machine.line(self.contract.dtype)
        lines = ceil(elements / line) + 1  # the first may begin before
        steps = self.deep // self.k.tuning.unrolled_steps  # in which a tile asks ahead
        if lines <= steps:
            return Ahead(pointer, (0,), line, lines, self.deep)
        each = ceil(lines / steps)
        return Ahead(pointer, tuple(range(0, each * line, line)), each * line)

    def multiply(self, tile: Index, panel: Index, length: Index, slots: Value, ahead: list[Ahead]) -> None:
        """Add a block of the sum to a tile."""
        k, nest, shape = self.k, self.k.nest, self.cut.shape
        walked = RegisterTile(shape, self.contract.dtype, tuple(range(shape.rows)), True, k.tuning)
        with k.of(self.contract):
            left = nest.pointer(k.bases[self.left.copy], nest.mul(tile, self.left.pitch), self.type)
            right = nest.pointer(k.bases[self.right.copy], nest.mul(panel, self.right.pitch), self.type)
            places = [nest.pointer(slots, index * LANES, self.type) for index in range(walked.slots)]
            sums = [nest.load(place, walked.vector, 64) for place in places]
            axis = SummedAxis(length, _room(self.left.width), shape.width)
            put_away(k, walked, slots, multiplied(nest, walked, [axis], left, right, sums, ahead=ahead))
