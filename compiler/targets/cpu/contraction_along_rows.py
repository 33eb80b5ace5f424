"""Contractions with a long sum whose rows lie side by side as vectors do: the vectors of a tile run along the rows.

An item is a strip of rows in a split of the sum, with all columns; a thread takes several strips of a split together.
Of each block of the sum the columns are copied, a few of each element side by side; a strip is copied by its first
tile, while that multiplies, and stays in the first-level cache for the others. The sums of the tiles lie in scratch
between the blocks, so each element is one chain over its split. At the end they are turned, strip by strip, for the
elementwise stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

from compiler.loops.ir import TileContract
from compiler.machine import Machine
from compiler.nest.ir import BEGIN, END, Index, Items, Nest, Operand, Value, vector
from compiler.schedule.access import count
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record, record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.long_sums import LongSum, Operands, block_of, walked
from compiler.targets.cpu.multiply import Ahead, RegisterTile, SummedAxis, multiplied
from compiler.targets.cpu.products.finishing import finish, put_away, repeating
from compiler.targets.cpu.tiles import RowSteps, TileShape, Tiling, ceiling, divided, outer_offsets
from compiler.targets.cpu.turning import move_turned
from compiler.tuning import Tuning

COLUMNS, STRIP, TURNED = -1, -2, -3  # stretches of scratch, beside those of the kernel's buffers


def runs_along_rows(contract: TileContract, tuning: Tuning) -> bool:
    """Whether rows are neighbours and fill vectors about as well as columns do, which outer indices share."""
    rows, columns = _rows(contract), contract.n
    is_shared = all(axis.rhs_stride == 0 for axis in contract.outer)
    fills = _vectors(rows) * columns <= tuning.strip_waste * rows * _vectors(columns)
    return is_shared and contract.lhs_m_stride == 1 and fills


def _vectors(elements: int) -> int:
    return ceil(elements / LANES)


def _rows(contract: TileContract) -> int:
    assert isinstance(contract.m, int)
    return contract.m


def _strips(contract: TileContract, shape: TileShape) -> int:
    """Strips of rows for each outer index."""
    return ceil(_rows(contract) / shape.width)


def emit_along_rows(k: KernelNest, contract: TileContract) -> Nest:
    """The code of a contraction kernel with a long sum for which `runs_along_rows` holds."""
    shape = strip_shape(contract, k.machine)
    tuning = k.tuning
    room = int(tuning.strip_share * k.machine.l1_bytes)
    deep = min(tuning.strip_sum, room // (shape.width * contract.dtype.size))
    return _AlongRows(k, contract, LongSum(k, contract, block_of(contract, deep)), shape).emit()


def strip_shape(contract: TileContract, machine: Machine) -> TileShape:
    """A tile of vectors along the rows and of single columns, whose sums stay in registers, with little done twice."""
    tuning = machine.tuning
    each = max(1, LANES * contract.dtype.size * 8 // machine.vector_bits)  # registers of a vector
    shapes = [
        TileShape(columns, vectors)
        for vectors in range(1, min(tuning.strip_vectors, _vectors(_rows(contract))) + 1)
        for columns in range(1, min(LANES, contract.n, (machine.registers - 1) // (vectors * each) - 1) + 1)
    ]

    def cost(shape: TileShape) -> float:
        tiles, chains = _strips(contract, shape) * ceil(contract.n / shape.rows), shape.rows * shape.vectors * each
        return tiles * (max(chains, tuning.strip_chains) + tuning.strip_load * (shape.rows + shape.vectors * each))

    return min(shapes, key=cost)


@record
class _Strip:
    """A strip: where it starts in the left operand, its rows' place in the domain, its first row and the first that no
    strip before had."""

    left: Index
    base: Index
    row: Index
    start: Index


@mutable_record
class _AlongRows:
    k: KernelNest
    contract: TileContract
    sum: LongSum
    shape: TileShape

    @property
    def tiles(self) -> int:
        """Tiles of a strip."""
        return ceil(self.contract.n / self.shape.rows)

    @property
    def slot(self) -> int:
        """Elements of the sums of a tile."""
        return self.shape.rows * self.shape.width

    @property
    def strips(self) -> int:
        """Strips for each outer index."""
        return _strips(self.contract, self.shape)

    @property
    def all_strips(self) -> int:
        return self.strips * prod(count(axis.extent) for axis in self.contract.outer)

    @property
    def strips_together(self) -> int:
        """As many as have room for their sums in a share of the second-level cache."""
        share = int(self.k.machine.l2_bytes * self.k.tuning.strip_sums_share)
        room = share // (self.tiles * self.slot * self.contract.dtype.size)
        return ceil(self.all_strips / ceil(self.all_strips / max(1, room)))

    @property
    def pitch(self) -> int:
        """Elements from the copied columns of a tile to those of the next."""
        return self.sum.block.elements * self.shape.rows + LANES

    def emit(self) -> Nest:
        k, contract, nest, each = self.k, self.contract, self.k.nest, self.strips_together
        size = contract.dtype.size
        sums = each * self.tiles * self.slot
        k.reserve(contract.tile, (sums + LANES * self.shape.width) * size)
        k.reserve(COLUMNS, self.pitch * self.tiles * size)
        k.reserve(STRIP, self.sum.block.elements * self.shape.width * size)
        k.reserve(TURNED, _vectors(contract.n) * LANES * self.shape.width * size)
        k.open()
        for load in repeating(k.stages, self.rows_of_strip):
            k.repeated(load, 0, self.rows_of_strip.shape.vectors)
        k.extent(contract.k[0].extent)  # loaded here, where every use is reached

        def split_body(split: Value, carried: list[Value]) -> Sequence[Operand]:
            before = nest.mul(split, self.all_strips)
            begin = nest.maximum(nest.sub(BEGIN, before), 0)
            end = nest.minimum(nest.sub(END, before), self.all_strips)

            def group_body(first: Value, carried: list[Value]) -> Sequence[Operand]:
                strips = nest.minimum(nest.sub(end, first), each)
                with k.of(contract):
                    self.sum.clear(sums)
                    self.sum.of_split(split, lambda axes, here, later: self.share(axes, here, later, first, strips))
                self.finish(split, first, strips)
                return []

            nest.loop(begin, end, each, [], group_body)
            return []

        all_strips = self.all_strips
        nest.loop(divided(nest, BEGIN, all_strips)[0], ceiling(nest, END, self.all_strips), 1, [], split_body)
        return k.close(Items(contract.splits, 1, self.all_strips))

    def share(self, axes: list[SummedAxis], here: Operands, following: Operands, first: Index, strips: Index) -> None:
        """One block of the sum, for all tiles of an item; those ask for the operands of the `following` block."""
        k, nest, rows, width = self.k, self.k.nest, self.shape.rows, self.shape.width
        self.copy_columns(axes, here.right)
        copies = self.tiles > 1
        source = [SummedAxis(a.extent, a.rhs_stride, a.lhs_stride) for a in axes]
        given = walked(nest, source, rows, 0, width if copies else 0)
        copied = walked(nest, source, rows, width)
        strip = k.bases[STRIP]

        def over_strips(number: Value, carried: list[Value]) -> Sequence[Operand]:
            left = nest.pointer(here.left, self.strip(nest.add(first, number)).left, self.sum.type)
            sums = nest.pointer(k.bases[self.contract.tile], nest.mul(number, self.tiles * self.slot), self.sum.type)
            self.multiply(given, k.bases[COLUMNS], left, sums, strip if copies else None)

            def over_tiles(tile: Value, carried: list[Value]) -> Sequence[Operand]:
                columns = nest.pointer(k.bases[COLUMNS], nest.mul(tile, self.pitch), self.sum.type)
                place = nest.pointer(sums, nest.mul(tile, self.slot), self.sum.type)
                turn = nest.add(nest.add(nest.mul(number, self.tiles - 1), tile), -1)
                turns = self.strips_together * (self.tiles - 1)
                ahead = self.sum.ahead(axes, place, self.slot, following, turn, turns)
                self.multiply(copied, columns, strip, place, None, ahead)
                return []

            if copies:
                nest.loop(1, self.tiles, 1, [], over_tiles)
            return []

        nest.loop(0, strips, 1, [], over_strips)

    def multiply(
        self,
        axes: list[SummedAxis],
        columns: Value,
        rows: Value,
        sums: Value,
        copy: Value | None,
        ahead: Sequence[Ahead] = (),
    ) -> None:
        """Add a block of the sum to a tile."""
        nest = self.k.nest
        tile = RegisterTile(self.shape, self.contract.dtype, tuple(range(self.shape.rows)), False, self.k.tuning)
        places = [nest.pointer(sums, index * LANES, self.sum.type) for index in range(tile.slots)]
        held = [nest.load(place, tile.vector, 64) for place in places]
        put_away(self.k, tile, sums, multiplied(nest, tile, axes, columns, rows, held, copy, ahead))

    def copy_columns(self, axes: list[SummedAxis], source: Value) -> None:
        """Copy the columns of a block, those of each tile to a stretch of its own; a vector may reach into the next."""
        nest, rows = self.k.nest, self.shape.rows

        def one(given: Value, number: Index) -> None:
            there = nest.pointer(self.k.bases[COLUMNS], nest.mul(number, rows), self.sum.type)

            def tile_body(tile: Index, carried: list[Value]) -> Sequence[Operand]:
                place = nest.pointer(given, nest.mul(tile, rows), self.sum.type)
                goal = nest.pointer(there, nest.mul(tile, self.pitch), self.sum.type)
                size = self.contract.dtype.size
                name = nest.load(place, vector(self.sum.type, LANES), size)
                nest.store(name, goal, size)
                return []

            if self.tiles > LANES:
                nest.loop(0, self.tiles, 1, [], tile_body)
            else:
                for tile in range(self.tiles):
                    tile_body(tile, [])

        self.sum.each(axes, source, lambda axis: axis.rhs_stride, one)

    def strip(self, number: Index) -> _Strip:
        """Where a strip lies. The last one of an outer index is moved back over rows that are done already."""
        nest, (outer, strip) = self.k.nest, divided(self.k.nest, number, self.strips)
        lhs, _, base = outer_offsets(self.k, self.contract.outer, outer)
        start = nest.mul(strip, self.shape.width)
        row = nest.minimum(start, max(0, _rows(self.contract) - self.shape.width))
        return _Strip(nest.add(lhs, row), base, row, start)

    @property
    def rows_of_strip(self) -> Tiling:
        """A strip, turned, as a tile of rows: what the elementwise stage sees."""
        steps = RowSteps(self.contract.m, 1, self.shape.width, 1, self.contract.outer)
        return Tiling(TileShape(self.shape.width, _vectors(self.contract.n)), steps, 1, 0, False)

    def finish(self, split: Index, first: Index, strips: Index) -> None:
        """The elementwise stage on all strips of an item."""
        k, nest, contract = self.k, self.k.nest, self.contract
        cut = self.rows_of_strip

        def body(number: Value, carried: list[Value]) -> Sequence[Operand]:
            sums = nest.pointer(k.bases[contract.tile], nest.mul(number, self.tiles * self.slot), self.sum.type)
            with k.of(contract):
                self.turn(sums)
            here = self.strip(nest.add(first, number))
            base = nest.add(here.base, nest.mul(split, contract.split_step))
            finish(k, contract, cut, here.start, here.row, _rows(contract), 0, base, k.bases[TURNED])
            return []

        nest.loop(0, strips, 1, [], body)

    def turn(self, sums: Value) -> None:
        """Turn the sums of a strip: its rows one behind the other, with all columns."""
        nest, width, vectors = self.k.nest, self.shape.width, _vectors(self.contract.n)

        def body(group: Value, carried: list[Value]) -> Sequence[Operand]:
            given = nest.pointer(sums, nest.mul(group, LANES * width), self.sum.type)
            there = nest.pointer(self.k.bases[TURNED], nest.mul(group, LANES), self.sum.type)
            for part in range(self.shape.vectors):
                places = [nest.pointer(given, lane * width + part * LANES, self.sum.type) for lane in range(LANES)]
                goals = [(part * LANES + lane) * vectors * LANES for lane in range(LANES)]
                rows = [nest.pointer(there, goal, self.sum.type) for goal in goals]
                move_turned(nest, self.k.machine, self.contract.dtype, places, rows)
            return []

        nest.loop(0, vectors, 1, [], body)
