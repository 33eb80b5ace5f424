"""Large products: the sum and the rows are taken in blocks, so that operands read repeatedly stay in cache.

The panels are packed first, by a function of its own; where they last over calls, once. An item is a panel of some
tiles of rows. A thread joins its items: for a block of rows and a block of the sum, it goes through all of its panels.
The sums of the tiles lie in scratch between the blocks of the sum, so each element is still one chain. While a panel is
multiplied, its tiles ask for the next one, each for a share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from compiler.loops.ir import TileContract
from compiler.machine import Machine
from compiler.nest.ir import ADDRESS, Index, Items, Nest, Operand, SharedPointer, Value, vector
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.contraction import (
    finish,
    finish_in_registers,
    put_away,
    stage_ahead,
    stays_in_registers,
)
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.multiply import Ahead, RegisterTile, SummedAxis, multiplied
from compiler.targets.cpu.packing import pack_all, panel_elements
from compiler.targets.cpu.rectangles import Rectangle, over_equal, over_rectangles, rows_of_item
from compiler.targets.cpu.tiles import Tiling, ceiling, nominal
from compiler.tuning import Tuning

ZEROS, ROWS = -1, -2  # stretches of scratch, beside those of the kernel's buffers


def blocks_rows_and_sum(contract: TileContract, cut: Tiling, tuning: Tuning) -> bool:
    """Whether the operands are too large for the second-level cache, and the columns enough to share."""
    is_plain = len(contract.k) == 1 and not contract.outer and contract.triangle is None
    return (
        is_plain
        and isinstance(contract.k[0].extent, int)
        and cut.block > 0
        and cut.panels >= tuning.block_panels
        and 1 in (contract.k[0].lhs_stride, contract.lhs_m_stride)
    )


def emit_rows_and_sum(k: KernelNest, contract: TileContract, cut: Tiling, batch: int, lasts: bool = False) -> Nest:
    """The code of a contraction kernel for which `blocks_rows_and_sum` holds.

    Where its right operand `lasts` over calls, so do the packed panels.
    """
    depth = contract.k[0].extent
    assert isinstance(depth, int)
    room = int(k.machine.l2_bytes * k.tuning.whole_panel_share)
    fits = depth * cut.shape.width * contract.dtype.size <= room
    blocks = 1 if fits else -(-depth // _deepest(contract, cut, k.machine))
    deep = -(-depth // (blocks * LANES)) * LANES
    rows = _rows_of_block(contract, cut, k.machine, batch, deep)
    unit = rows_of_item(-(-nominal(contract.m, batch) // cut.shape.rows), cut.panels, k.tuning)
    return _RowsAndSum(k, contract, cut, depth, deep, rows, unit, lasts).emit()


def _deepest(contract: TileContract, cut: Tiling, machine: Machine) -> int:
    """Summed elements of a block: a panel that stays in the first-level cache, where that is large enough."""
    near = machine.l1_bytes // (cut.shape.width * contract.dtype.size)
    return near if near >= machine.tuning.near_block_sum else machine.tuning.block_sum


def _rows_of_block(contract: TileContract, cut: Tiling, machine: Machine, batch: int, deep: int) -> int:
    """Tiles of rows whose part of the left operand fits in the second-level cache beside a panel."""
    size = contract.dtype.size
    room = int(machine.l2_bytes * machine.tuning.rows_share) - deep * cut.shape.width * size
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
class _RowsAndSum:
    k: KernelNest
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
        is_wide = self.cut.panels >= self.k.tuning.copied_rows_panels
        pays = self.several and is_wide and self.contract.k[0].lhs_stride == 1
        return pays and fall_together(self.contract, self.cut.shape.rows, self.k.machine)

    @property
    def pitch(self) -> int:
        """Elements from one row of a copied tile to the next."""
        return self.deep + LANES

    @property
    def copied(self) -> int:
        """Elements of the copied rows of a tile."""
        return self.cut.shape.rows * self.pitch

    def emit(self) -> Nest:
        k, contract, nest, panels = self.k, self.contract, self.k.nest, self.cut.panels
        size = contract.dtype.size
        k.reserve(contract.tile, self.slot * size * (self.tiles * panels if self.several else 1))
        k.reserve(ZEROS, self.slot * size if self.several else 0)
        k.reserve(ROWS, self.copied * self.tiles * size if self.copies else 0)
        k.open()
        shared = k.argument(SharedPointer(), ADDRESS)
        units = k.extent(contract.m)
        tiles = ceiling(nest, units, self.cut.shape.rows)
        if self.several:
            k.nest.clear(k.bases[ZEROS], self.slot, vector(contract.dtype, LANES))

        def over_blocks(share: Rectangle) -> None:
            start = nest.mul(share.top, self.unit)
            stop = nest.minimum(nest.mul(share.bottom, self.unit), tiles)

            def over_rows(first: Index, count: Index) -> None:
                last = nest.add(first, count)

                def over_sum(deep: Value, carried: list[Value]) -> Sequence[Operand]:
                    def over_panels(panel: Value, carried: list[Value]) -> Sequence[Operand]:
                        is_new = nest.compare("eq", panel, share.left)
                        here = _Place(first, deep, panel, is_new, units, shared)
                        nest.loop(first, last, 1, [], lambda tile, _: self.tile(here, tile))
                        return []

                    nest.loop(share.left, share.right, 1, [], over_panels)
                    return []

                nest.loop(0, self.depth, self.deep, [], over_sum)

            over_equal(nest, start, stop, self.tiles, over_rows)

        over_rectangles(nest, panels, over_blocks)
        code = k.close(Items(contract.m, self.unit * self.cut.shape.rows, panels))
        packed = pack_all(k, contract, self.cut.shape, panels)
        return replace(code, before=packed, shared_bytes=panels * self.panel * size, lasts=self.lasts)

    def tile(self, here: _Place, tile: Index) -> Sequence[Operand]:
        """A tile's share of a block of the sum; after the last one, the elementwise stage."""
        k, nest, contract, shape = self.k, self.k.nest, self.contract, self.cut.shape
        start = nest.mul(tile, shape.rows)
        row = nest.minimum(start, nest.maximum(nest.sub(here.units, shape.rows), 0))
        column = nest.mul(here.panel, shape.width)
        number = nest.sub(tile, here.first)
        slots = self.slot_of(here, number)
        length: Index = self.depth
        is_last: Value | None = None
        if self.several:
            length = nest.minimum(nest.sub(self.depth, here.start), self.deep)
            is_last = nest.compare("ge", nest.add(here.start, self.deep), self.depth)
        with k.of(contract):
            lhs, walked, stride = self.rows(here, row, number, length)
            ahead = [*self.ahead(slots, is_last, row, column), *self.operands_ahead(here, row, number)]
            sums = self.multiplied(here, walked, stride, lhs, length, slots, ahead)

        def done() -> None:
            if stays_in_registers(k, contract, self.cut):
                finish_in_registers(k, contract, self.cut, row, column, 0, sums)
                return
            put_away(k, walked, slots, sums)
            finish(k, contract, self.cut, start, row, here.units, column, 0, slots)

        if is_last is None:
            done()
            return []
        nest.when(is_last, done)
        nest.when(nest.negated(is_last), lambda: put_away(k, walked, slots, sums))
        return []

    def ahead(self, slots: Value, is_last: Value | None, row: Index, column: Index) -> list[Ahead]:
        """The sums of the next tile, and what the elementwise stage will write."""
        nest, width, type_ = self.k.nest, self.cut.shape.width, self.contract.dtype
        results = stage_ahead(self.k, self.contract, self.cut, row, column, 0, self.deep)
        if is_last is None:
            return results
        following = nest.pointer(slots, self.slot, type_)
        rows = self.cut.shape.rows
        line = self.k.machine.line(self.contract.dtype)
        found = [Ahead(following, tuple(range(0, width, line)), width, rows, self.deep)]
        for result in results:
            pointer = nest.select(is_last, result.pointer, following)
            step = nest.select(is_last, result.step, 0)
            found.append(Ahead(pointer, result.places, step, result.rows, result.depth, result.writes))
        return found

    def operands_ahead(self, here: _Place, row: Index, number: Index) -> list[Ahead]:
        """This tile's share of the next panel; and for the first panel of a thread, the rows of the next tile."""
        nest, contract = self.k.nest, self.contract
        found = self.panel_ahead(here, number)
        if contract.k[0].lhs_stride == 1:
            rows, line = self.cut.shape.rows, self.k.machine.line(contract.dtype)
            places = tuple(index * contract.lhs_m_stride for index in range(rows))
            given = self.given_rows(here, nest.add(row, rows))
            found.append(Ahead(given, places, line, self.deep // line, self.deep, condition=here.is_new))
        return found

    def panel_ahead(self, here: _Place, number: Index) -> list[Ahead]:
        """A tile's share of the next panel."""
        nest, contract, width = self.k.nest, self.contract, self.cut.shape.width
        line, type_ = self.k.machine.line(contract.dtype), contract.dtype
        panel, each = nest.add(here.panel, 1), -(-self.deep // self.tiles)
        start = nest.add(here.start, nest.minimum(nest.mul(number, each), self.deep - each))
        place = nest.add(nest.mul(panel, self.panel), nest.mul(start, width))
        packed = Ahead(nest.pointer(here.shared, place, type_), tuple(range(0, width, line)), width, each, self.deep)
        return [packed]

    def given_rows(self, here: _Place, row: Index) -> Value:
        """Where the rows of a tile start in the left operand."""
        k, nest, contract = self.k, self.k.nest, self.contract
        offset = nest.add(nest.mul(row, contract.lhs_m_stride), nest.mul(here.start, contract.k[0].lhs_stride))
        return nest.pointer(k.bases[contract.lhs], nest.add(offset, contract.lhs_offset), contract.dtype)

    def slot_of(self, here: _Place, number: Index) -> Value:
        """Where the sums of a tile of the block lie."""
        nest = self.k.nest
        index: Index = 0
        if self.several:
            index = nest.mul(nest.add(nest.mul(here.panel, self.tiles), number), self.slot)
        return nest.pointer(self.k.bases[self.contract.tile], index, self.contract.dtype)

    def rows(self, here: _Place, row: Index, number: Index, length: Index) -> tuple[Value, RegisterTile, int]:
        """Where the rows of a tile start, where each of them lies from there, and the step of k.

        They are copied when the first panel needs them.
        """
        k, nest, contract, shape = self.k, self.k.nest, self.contract, self.cut.shape
        (axis,) = contract.k
        type_ = contract.dtype
        given = self.given_rows(here, row)
        if not self.copies:
            places = self.cut.row_steps.places(contract, shape.rows)
            return given, RegisterTile(shape, contract.dtype, places, True, k.tuning), axis.lhs_stride
        target = nest.pointer(k.bases[ROWS], nest.mul(number, self.copied), type_)
        nest.when(here.is_new, lambda: self.copy_rows(given, target, length))
        places = tuple(index * self.pitch for index in range(shape.rows))
        return target, RegisterTile(shape, contract.dtype, places, True, k.tuning), 1

    def copy_rows(self, source: Value, target: Value, length: Index) -> None:
        nest, type_, size = self.k.nest, self.contract.dtype, self.contract.dtype.size

        def body(index: Value, carried: list[Value]) -> Sequence[Operand]:
            for row in range(self.cut.shape.rows):
                given = nest.pointer(source, nest.add(index, row * self.contract.lhs_m_stride), type_)
                name = nest.load(given, vector(type_, LANES), size)
                there = nest.pointer(target, nest.add(index, row * self.pitch), type_)
                nest.store(name, there, 64)
            return []

        nest.loop(0, length, LANES, [], body)

    def multiplied(
        self,
        here: _Place,
        tile: RegisterTile,
        stride: int,
        lhs: Value,
        length: Index,
        slots: Value,
        ahead: list[Ahead],
    ) -> Sequence[Operand]:
        """The sums of a tile after this block of the sum."""
        nest, width, type_ = self.k.nest, self.cut.shape.width, self.contract.dtype
        place = nest.add(nest.mul(here.panel, self.panel), nest.mul(here.start, width))
        packed = nest.pointer(here.shared, place, type_)
        axis = SummedAxis(length, stride, width)
        return multiplied(nest, tile, [axis], lhs, packed, self.begun(here, tile, slots), ahead=ahead)

    def begun(self, here: _Place, tile: RegisterTile, slots: Value) -> Sequence[Operand]:
        """The sums of a tile before this block of the sum."""
        nest, type_ = self.k.nest, self.contract.dtype
        if not self.several:
            return [tile.zero] * tile.slots
        is_start = nest.compare("eq", here.start, 0)
        base = nest.select(is_start, self.k.bases[ZEROS], slots)
        places = [nest.pointer(base, index * LANES, type_) for index in range(tile.slots)]
        return [nest.load(place, tile.vector, 64) for place in places]


@record
class _Place:
    """Where the loops are: the block's first tile of rows and first summed element, the panel; and what all share.

    A panel `is_new` to these rows where it is the first of the thread.
    """

    first: Index
    start: Index
    panel: Index
    is_new: Value
    units: Index
    shared: Value
