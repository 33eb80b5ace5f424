"""Large products whose operands both lie row by row along the sum, as in gradients of weights: blocks are copied.

An item is a panel of columns of some tiles of rows. A thread takes its items together, in blocks of rows and columns:
it goes through blocks of the sum, copies what they take of both operands, and multiplies tile by tile. The sums lie in
scratch between the blocks, so each element is one chain. A tile asks for its share of what the next block copies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from compiler.loops.ir import TileContract
from compiler.record import record
from compiler.targets.cpu.contraction import finish, put_away, stage_ahead
from compiler.targets.cpu.kernel_code import Items, KernelCode
from compiler.targets.cpu.kernel_text import KernelText
from compiler.targets.cpu.machine import LINE
from compiler.targets.cpu.multiply import DEEPEST_UNROLL, Ahead, RegisterTile, SummedAxis, multiplied
from compiler.targets.cpu.rectangles import Rectangle, over_equal, over_rectangles, rows_of_item
from compiler.targets.cpu.text import LANES, REGISTER
from compiler.targets.cpu.tiles import Tiling, ceiling, most_rows, nominal

DEEP = 128  # summed elements of a block
STEPS = DEEP // DEEPEST_UNROLL  # in which a tile asks ahead
MOST_TILES = 28  # of rows in a block
MOST_PANELS = 12  # that are multiplied together
FEWEST_PANELS = 4


def sums_side_by_side(contract: TileContract, cut: Tiling) -> bool:
    """Whether the operands are too large for the second-level cache, and dense in rows and columns."""
    is_plain = len(contract.k) == 1 and not contract.outer and contract.triangle is None and cut.shape.rows <= LANES
    is_dense = contract.lhs_m_stride == contract.rhs_n_stride == 1
    return is_plain and is_dense and cut.block > 0 and cut.panels >= FEWEST_PANELS


def emit_sums(k: KernelText, cut: Tiling, batch: int) -> KernelCode:
    """The code of a contraction kernel for which `sums_side_by_side` holds."""
    contract = k.kernel.contraction
    assert contract is not None
    (axis,) = contract.k
    # a tile takes its panel from the second-level cache, whatever its rows: the fewest tiles are the fastest
    shape = replace(cut.shape, rows=min(LANES, most_rows(contract, cut.shape.vectors, k.machine)))
    cut = replace(cut, shape=shape)
    tiles = ceil(nominal(contract.m, batch) / shape.rows)
    most = ceil(tiles / ceil(tiles / MOST_TILES))  # blocks of equal size
    left = _Operand(-1, contract.lhs, contract.lhs_offset, axis.lhs_stride, shape.rows, 1, most)
    most = ceil(cut.panels / ceil(cut.panels / MOST_PANELS))
    right = _Operand(-2, contract.rhs, contract.rhs_offset, axis.rhs_stride, shape.width, shape.vectors, most)
    return _Sums(k, contract, cut, left, right, rows_of_item(tiles, cut.panels)).emit()


@record
class _Operand:
    """How an operand is copied: in strips of `width` elements of a k, each moved as `vectors`, `most` of them at once.

    The strips of the block lie in scratch at `copy`, those of one k behind those of the k before.
    """

    copy: int
    buffer: int
    offset: int
    stride: int
    width: int
    vectors: int
    most: int

    @property
    def pitch(self) -> int:
        """Elements from a copied strip to the next one; no power of two, so that they do not compete for lines."""
        return (DEEP * self.vectors + 1) * LANES


@record
class _Rectangle:
    """The first tile of rows and the first panel, and how many there are of both."""

    tile: str
    tiles: str
    panel: str
    panels: str


@dataclass(slots=True)
class _Sums:
    k: KernelText
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
    def type(self) -> str:
        return REGISTER[self.contract.dtype]

    def emit(self) -> KernelCode:
        k, contract, text, panels = self.k, self.contract, self.k.text, self.cut.panels
        size = contract.dtype.size
        k.reserve(contract.tile, self.slot * size * (self.left.most * self.right.most + 1))
        for operand in (self.left, self.right):
            k.reserve(operand.copy, operand.pitch * operand.most * size)
        k.open()
        depth, units = k.extent(contract.k[0].extent), k.extent(contract.m)  # loaded here, where every use is reached
        all_tiles = ceiling(text, units, self.cut.shape.rows)

        def over_share(share: Rectangle) -> None:
            start = text.mul(share.top, self.unit)
            stop = text.minimum(text.mul(share.bottom, self.unit), all_tiles)

            def over_rows(first: str, tiles: str) -> None:
                over_equal(
                    text,
                    share.left,
                    share.right,
                    self.right.most,
                    lambda panel, count: self.rectangle(_Rectangle(first, tiles, panel, count), depth, units),
                )

            over_equal(text, start, stop, self.left.most, over_rows)

        over_rectangles(text, panels, over_share)
        return k.close(Items(contract.m, self.unit * self.cut.shape.rows, panels))

    def rectangle(self, here: _Rectangle, depth: str, units: str) -> None:
        """Some tiles of rows times some panels, over the whole sum."""
        text, contract, shape = self.k.text, self.contract, self.cut.shape
        sums = text.mul(text.mul(here.tiles, here.panels), self.slot)
        text.clear(self.k.bases[contract.tile], sums, self.type)

        def over_sum(start: str, carried: list[str]) -> list[str]:
            length = text.minimum(text.let(f"sub i64 {depth}, {start}"), str(DEEP))
            is_last = text.let(f"icmp sge i64 {text.add(start, DEEP)}, {depth}")
            with self.k.of(contract):
                self.copy(self.left, here.tile, here.tiles, start, length)
                self.copy(self.right, here.panel, here.panels, start, length)

            def over_panels(panel: str, carried: list[str]) -> list[str]:
                column = text.mul(text.add(here.panel, panel), shape.width)

                def over_tiles(tile: str, carried: list[str]) -> list[str]:
                    number = text.add(text.mul(panel, here.tiles), tile)
                    row = text.mul(text.add(here.tile, tile), shape.rows)
                    slots = text.pointer(self.k.bases[contract.tile], text.mul(number, self.slot), self.type)

                    def middle() -> None:
                        self.multiply(tile, panel, length, slots, self.sources_ahead(here, start, number, slots))

                    def last() -> None:
                        results = stage_ahead(self.k, contract, self.cut, row, column, "0", DEEP)
                        self.multiply(tile, panel, length, slots, results)
                        finish(self.k, contract, self.cut, row, row, units, column, "0", slots)

                    text.when(text.let(f"xor i1 {is_last}, true"), middle)
                    text.when(is_last, last)
                    return []

                text.loop("0", here.tiles, 1, [], over_tiles)
                return []

            text.loop("0", here.panels, 1, [], over_panels)
            return []

        text.loop("0", depth, DEEP, [], over_sum)

    def copy(self, operand: _Operand, first: str, strips: str, start: str, length: str) -> None:
        """Copy a block of the sum: row by row as they lie there, each strip to its own stretch."""
        text, vector, size = self.k.text, f"<{LANES} x {self.type}>", self.contract.dtype.size

        def over_sum(index: str, carried: list[str]) -> list[str]:
            source = self.source(operand, text.add(start, index), first)
            goal = text.pointer(self.k.bases[operand.copy], text.mul(index, operand.vectors * LANES), self.type)

            def over_strips(strip: str, carried: list[str]) -> list[str]:
                given = text.pointer(source, text.mul(strip, operand.width), self.type)
                there = text.pointer(goal, text.mul(strip, operand.pitch), self.type)
                for part in range(operand.vectors):
                    place = text.pointer(given, str(part * LANES), self.type)
                    name = text.let(f"load {vector}, ptr {place}, align {size}")
                    place = text.pointer(there, str(part * LANES), self.type)
                    text.line(f"store {vector} {name}, ptr {place}, align 64")
                return []

            text.loop("0", strips, 1, [], over_strips)
            return []

        text.loop("0", length, 1, [], over_sum)

    def source(self, operand: _Operand, index: str, strip: str) -> str:
        """Where a strip of a k starts in the operand itself."""
        text = self.k.text
        place = text.add(text.mul(index, operand.stride), text.mul(strip, operand.width))
        return text.pointer(self.k.bases[operand.buffer], text.add(place, operand.offset), self.type)

    def sources_ahead(self, here: _Rectangle, start: str, number: str, slots: str) -> list[Ahead]:
        """The sums of the next tile, and a row of each operand that the next block copies."""
        text = self.k.text
        share = text.let(f"udiv i64 {text.mul(number, DEEP)}, {text.mul(here.tiles, here.panels)}")
        row = text.add(text.add(start, DEEP), share)
        found = [self.spread(text.pointer(slots, str(self.slot), self.type), self.slot)]
        for operand, strip in ((self.left, here.tile), (self.right, here.panel)):
            found.append(self.spread(self.source(operand, row, strip), operand.most * operand.width))
        return found

    def spread(self, pointer: str, elements: int) -> Ahead:
        """Lines one after the other, in each step as many as it takes."""
        line = LINE // self.contract.dtype.size
        each = ceil((elements / line + 1) / STEPS)
        return Ahead(pointer, tuple(range(0, each * line, line)), each * line)

    def multiply(self, tile: str, panel: str, length: str, slots: str, ahead: list[Ahead]) -> None:
        """Add a block of the sum to a tile."""
        k, text, shape = self.k, self.k.text, self.cut.shape
        walked = RegisterTile(shape, self.contract.dtype, tuple(range(shape.rows)), True)
        with k.of(self.contract):
            left = text.pointer(k.bases[self.left.copy], text.mul(tile, self.left.pitch), self.type)
            right = text.pointer(k.bases[self.right.copy], text.mul(panel, self.right.pitch), self.type)
            places = [text.pointer(slots, str(index * LANES), self.type) for index in range(walked.slots)]
            sums = [text.let(f"load {walked.vector}, ptr {place}, align 64") for place in places]
            axis = SummedAxis(length, LANES, shape.width)
            put_away(k, walked, slots, multiplied(text, walked, [axis], left, right, sums, ahead=ahead))
