"""Large products: the sum and the rows are taken in blocks, so that operands read repeatedly stay in cache.

The panels are packed first, by a function of its own; where they last over calls, once. An item is a panel of some
tiles of rows. A thread joins its items: for a block of rows and a block of the sum, it goes through all of its panels.
The sums of the tiles lie in scratch between the blocks of the sum, so each element is still one chain. While a panel is
multiplied, its tiles ask for the next one, each for a share.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from compiler.loops.ir import TileContract
from compiler.machine import Machine
from compiler.record import record
from compiler.targets.cpu.contraction import (
    finish,
    finish_in_registers,
    put_away,
    stage_ahead,
    stays_in_registers,
)
from compiler.targets.cpu.kernel_code import Items, KernelCode, SharedPointer
from compiler.targets.cpu.kernel_text import KernelText
from compiler.targets.cpu.multiply import Ahead, RegisterTile, SummedAxis, multiplied
from compiler.targets.cpu.packing import pack_all, panel_elements
from compiler.targets.cpu.rectangles import Rectangle, over_equal, over_rectangles, rows_of_item
from compiler.targets.cpu.text import LANES, REGISTER
from compiler.targets.cpu.tiles import Tiling, ceiling, nominal

DEEPEST = 640  # summed elements of a block, where there are several and their panel does not stay in the first cache
DEEP = 384  # as many as a block should have at least
PANEL_SHARE = 5  # what part of the second-level cache a panel may take that is summed at once
FEWEST_PANELS = 4
COPYING = 12  # panels from which copying rows pays
ZEROS, ROWS = -1, -2  # stretches of scratch, beside those of the kernel's buffers


def walks_in_blocks(contract: TileContract, cut: Tiling) -> bool:
    """Whether the operands are too large for the second-level cache, and the columns enough to share."""
    is_plain = len(contract.k) == 1 and not contract.outer and contract.triangle is None
    return (
        is_plain
        and isinstance(contract.k[0].extent, int)
        and cut.block > 0
        and cut.panels >= FEWEST_PANELS
        and 1 in (contract.k[0].lhs_stride, contract.lhs_m_stride)
    )


def emit_blocks(k: KernelText, cut: Tiling, batch: int, lasts: bool = False) -> KernelCode:
    """The code of a contraction kernel for which `walks_in_blocks` holds.

    Where its right operand `lasts` over calls, so do the packed panels.
    """
    contract = k.kernel.contraction
    assert contract is not None
    depth = contract.k[0].extent
    assert isinstance(depth, int)
    fits = depth * cut.shape.width * contract.dtype.size <= k.machine.l2_bytes // PANEL_SHARE
    blocks = 1 if fits else -(-depth // _deepest(contract, cut, k.machine))
    deep = -(-depth // (blocks * LANES)) * LANES
    rows = _rows_of_block(contract, cut, k.machine, batch, deep)
    unit = rows_of_item(-(-nominal(contract.m, batch) // cut.shape.rows), cut.panels)
    return _Blocks(k, contract, cut, depth, deep, rows, unit, lasts).emit()


def _deepest(contract: TileContract, cut: Tiling, machine: Machine) -> int:
    """Summed elements of a block: a panel that stays in the first-level cache, where that is large enough."""
    near = machine.l1_bytes // (cut.shape.width * contract.dtype.size)
    return near if near >= DEEP else DEEPEST


def _rows_of_block(contract: TileContract, cut: Tiling, machine: Machine, batch: int, deep: int) -> int:
    """Tiles of rows whose part of the left operand fits in the second-level cache beside a panel."""
    size = contract.dtype.size
    room = machine.l2_bytes // 2 - deep * cut.shape.width * size
    fits = max(4, room // (deep * size * cut.shape.rows))
    tiles = -(-nominal(contract.m, batch) // cut.shape.rows)
    blocks = -(-tiles // fits)
    if blocks > 1:
        blocks += blocks % 2  # two threads so have equally many
    return -(-tiles // blocks)  # blocks of equal size


def fall_together(contract: TileContract, rows: int, machine: Machine) -> bool:
    """Whether the rows of a tile compete for the same few lines of the first-level cache."""
    sets = max(1, machine.l1_bytes // (machine.line_bytes * machine.l1_ways))
    lines = {row * contract.lhs_m_stride * contract.dtype.size // machine.line_bytes for row in range(rows)}
    return max(Counter(line % sets for line in lines).values()) >= machine.l1_ways


@dataclass(slots=True)
class _Blocks:
    k: KernelText
    contract: TileContract
    cut: Tiling
    depth: int
    deep: int  # summed elements of a block
    tiles: int  # of a block of rows, at most
    unit: int  # tiles of rows of an item
    lasts: bool  # the panels are packed by a function of its own

    @property
    def several(self) -> bool:
        return self.deep < self.depth

    @property
    def panel(self) -> int:
        """Elements of a copied panel."""
        return panel_elements(self.contract, self.cut.shape.width)

    @property
    def slot(self) -> int:
        """Elements of the sums of a tile."""
        return self.cut.shape.rows * self.cut.shape.width

    @property
    def copies(self) -> bool:
        """Whether the rows of a block are copied."""
        pays = self.several and self.cut.panels >= COPYING and self.contract.k[0].lhs_stride == 1
        return pays and fall_together(self.contract, self.cut.shape.rows, self.k.machine)

    @property
    def pitch(self) -> int:
        """Elements from one row of a copied tile to the next."""
        return self.deep + LANES

    @property
    def copied(self) -> int:
        """Elements of the copied rows of a tile."""
        return self.cut.shape.rows * self.pitch

    def emit(self) -> KernelCode:
        k, contract, text, panels = self.k, self.contract, self.k.text, self.cut.panels
        size = contract.dtype.size
        k.reserve(contract.tile, self.slot * size * (self.tiles * panels if self.several else 1))
        k.reserve(ZEROS, self.slot * size if self.several else 0)
        k.reserve(ROWS, self.copied * self.tiles * size if self.copies else 0)
        k.open()
        shared = k.argument(SharedPointer(), "ptr")
        units = k.extent(contract.m)
        tiles = ceiling(text, units, self.cut.shape.rows)
        if self.several:
            k.text.clear(k.bases[ZEROS], str(self.slot), REGISTER[contract.dtype])

        def over_blocks(share: Rectangle) -> None:
            start = text.mul(share.top, self.unit)
            stop = text.minimum(text.mul(share.bottom, self.unit), tiles)

            def over_rows(first: str, count: str) -> None:
                last = text.add(first, count)

                def over_sum(deep: str, carried: list[str]) -> list[str]:
                    def over_panels(panel: str, carried: list[str]) -> list[str]:
                        is_new = text.let(f"icmp eq i64 {panel}, {share.left}")
                        here = _Place(first, deep, panel, is_new, units, shared)
                        text.loop(first, last, 1, [], lambda tile, _: self.tile(here, tile))
                        return []

                    text.loop(share.left, share.right, 1, [], over_panels)
                    return []

                text.loop("0", str(self.depth), self.deep, [], over_sum)

            over_equal(text, start, stop, self.tiles, over_rows)

        over_rectangles(text, panels, over_blocks)
        code = k.close(Items(contract.m, self.unit * self.cut.shape.rows, panels))
        packed = pack_all(k, contract, self.cut.shape, panels)
        return replace(code, before=packed, shared_bytes=panels * self.panel * size, lasts=self.lasts)

    def tile(self, here: _Place, tile: str) -> list[str]:
        """A tile's share of a block of the sum; after the last one, the elementwise stage."""
        k, text, contract, shape = self.k, self.k.text, self.contract, self.cut.shape
        start = text.mul(tile, shape.rows)
        row = text.minimum(start, text.maximum(text.let(f"sub i64 {here.units}, {shape.rows}"), "0"))
        column = text.mul(here.panel, shape.width)
        number = text.let(f"sub i64 {tile}, {here.first}")
        slots = self.slot_of(here, number)
        length = depth = str(self.depth)
        is_last = "true"
        if self.several:
            length = text.minimum(text.let(f"sub i64 {depth}, {here.start}"), str(self.deep))
            is_last = text.let(f"icmp sge i64 {text.add(here.start, self.deep)}, {depth}")
        with k.of(contract):
            lhs, walked, stride = self.rows(here, row, number, length)
            ahead = [*self.ahead(slots, is_last, row, column), *self.operands_ahead(here, row, number)]
            sums = self.multiplied(here, walked, stride, lhs, length, slots, ahead)

        def done() -> None:
            if stays_in_registers(k, contract, self.cut):
                finish_in_registers(k, contract, self.cut, row, column, "0", sums)
                return
            put_away(k, walked, slots, sums)
            finish(k, contract, self.cut, start, row, here.units, column, "0", slots)

        if not self.several:
            done()
            return []
        text.when(is_last, done)
        text.when(text.let(f"xor i1 {is_last}, true"), lambda: put_away(k, walked, slots, sums))
        return []

    def ahead(self, slots: str, is_last: str, row: str, column: str) -> list[Ahead]:
        """The sums of the next tile, and what the elementwise stage will write."""
        text, width, type_ = self.k.text, self.cut.shape.width, REGISTER[self.contract.dtype]
        results = stage_ahead(self.k, self.contract, self.cut, row, column, "0", self.deep)
        if not self.several:
            return results
        following = text.pointer(slots, str(self.slot), type_)
        rows = self.cut.shape.rows
        line = self.k.machine.line(self.contract.dtype)
        found = [Ahead(following, tuple(range(0, width, line)), width, rows, self.deep)]
        for result in results:
            pointer = text.let(f"select i1 {is_last}, ptr {result.pointer}, ptr {following}")
            step = text.let(f"select i1 {is_last}, i64 {result.step}, i64 0")
            found.append(Ahead(pointer, result.places, step, result.rows, result.depth, result.writes))
        return found

    def operands_ahead(self, here: _Place, row: str, number: str) -> list[Ahead]:
        """This tile's share of the next panel; and for the first panel of a thread, the rows of the next tile."""
        text, contract = self.k.text, self.contract
        found = self.panel_ahead(here, number)
        if contract.k[0].lhs_stride == 1:
            rows, line = self.cut.shape.rows, self.k.machine.line(contract.dtype)
            places = tuple(index * contract.lhs_m_stride for index in range(rows))
            given = self.given_rows(here, text.add(row, rows))
            found.append(Ahead(given, places, line, self.deep // line, self.deep, condition=here.is_new))
        return found

    def panel_ahead(self, here: _Place, number: str) -> list[Ahead]:
        """A tile's share of the next panel."""
        text, contract, width = self.k.text, self.contract, self.cut.shape.width
        line, type_ = self.k.machine.line(contract.dtype), REGISTER[contract.dtype]
        panel, each = text.add(here.panel, 1), -(-self.deep // self.tiles)
        start = text.add(here.start, text.minimum(text.mul(number, each), str(self.deep - each)))
        place = text.add(text.mul(panel, self.panel), text.mul(start, width))
        packed = Ahead(text.pointer(here.shared, place, type_), tuple(range(0, width, line)), width, each, self.deep)
        return [packed]

    def given_rows(self, here: _Place, row: str) -> str:
        """Where the rows of a tile start in the left operand."""
        k, text, contract = self.k, self.k.text, self.contract
        offset = text.add(text.mul(row, contract.lhs_m_stride), text.mul(here.start, contract.k[0].lhs_stride))
        return text.pointer(k.bases[contract.lhs], text.add(offset, contract.lhs_offset), REGISTER[contract.dtype])

    def slot_of(self, here: _Place, number: str) -> str:
        """Where the sums of a tile of the block lie."""
        text = self.k.text
        index = "0"
        if self.several:
            index = text.mul(text.add(text.mul(here.panel, self.tiles), number), self.slot)
        return text.pointer(self.k.bases[self.contract.tile], index, REGISTER[self.contract.dtype])

    def rows(self, here: _Place, row: str, number: str, length: str) -> tuple[str, RegisterTile, int]:
        """Where the rows of a tile start, where each of them lies from there, and the step of k.

        They are copied when the first panel needs them.
        """
        k, text, contract, shape = self.k, self.k.text, self.contract, self.cut.shape
        (axis,) = contract.k
        type_ = REGISTER[contract.dtype]
        given = self.given_rows(here, row)
        if not self.copies:
            places = self.cut.walk.places(contract, shape.rows)
            return given, RegisterTile(shape, contract.dtype, places, True), axis.lhs_stride
        target = text.pointer(k.bases[ROWS], text.mul(number, self.copied), type_)
        text.when(here.is_new, lambda: self.copy_rows(given, target, length))
        places = tuple(index * self.pitch for index in range(shape.rows))
        return target, RegisterTile(shape, contract.dtype, places, True), 1

    def copy_rows(self, source: str, target: str, length: str) -> None:
        text, type_, size = self.k.text, REGISTER[self.contract.dtype], self.contract.dtype.size

        def body(index: str, carried: list[str]) -> list[str]:
            for row in range(self.cut.shape.rows):
                given = text.pointer(source, text.add(index, row * self.contract.lhs_m_stride), type_)
                name = text.let(f"load <{LANES} x {type_}>, ptr {given}, align {size}")
                there = text.pointer(target, text.add(index, row * self.pitch), type_)
                text.line(f"store <{LANES} x {type_}> {name}, ptr {there}, align 64")
            return []

        text.loop("0", length, LANES, [], body)

    def multiplied(
        self,
        here: _Place,
        tile: RegisterTile,
        stride: int,
        lhs: str,
        length: str,
        slots: str,
        ahead: list[Ahead],
    ) -> list[str]:
        """The sums of a tile after this block of the sum."""
        text, width, type_ = self.k.text, self.cut.shape.width, REGISTER[self.contract.dtype]
        place = text.add(text.mul(here.panel, self.panel), text.mul(here.start, width))
        packed = text.pointer(here.shared, place, type_)
        axis = SummedAxis(length, stride, width)
        return multiplied(text, tile, [axis], lhs, packed, self.begun(here, tile, slots), ahead=ahead)

    def begun(self, here: _Place, tile: RegisterTile, slots: str) -> list[str]:
        """The sums of a tile before this block of the sum."""
        text, type_ = self.k.text, REGISTER[self.contract.dtype]
        if not self.several:
            return [tile.zero] * tile.slots
        is_start = text.let(f"icmp eq i64 {here.start}, 0")
        base = text.let(f"select i1 {is_start}, ptr {self.k.bases[ZEROS]}, ptr {slots}")
        places = [text.pointer(base, str(index * LANES), type_) for index in range(tile.slots)]
        return [text.let(f"load {tile.vector}, ptr {place}, align 64") for place in places]


@record
class _Place:
    """Where the loops are: the block's first tile of rows and first summed element, the panel; and what all share.

    A panel `is_new` to these rows where it is the first of the thread.
    """

    first: str
    start: str
    panel: str
    is_new: str
    units: str
    shared: str
