"""Contractions with a long sum over the batch: blocks of the sum stay in cache, and all tiles take their share of each.

An item is a split of the sum and some tiles of rows, with all columns. Of each block, what the tiles read again and
again is copied so that they read it in one stretch, and while they multiply they ask for the next one; their
accumulators lie in scratch between the blocks. So both operands come from far away once, not once for each tile. Each
element is still one chain over its split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod

from compiler.loops.ir import TileContract
from compiler.nest.ir import BEGIN, END, Index, Items, Nest, Operand, Value, vector
from compiler.schedule.access import count
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.long_sums import LongSum, Operands, block_of, walked
from compiler.targets.cpu.multiply import Ahead, RegisterTile, SummedAxis, multiplied
from compiler.targets.cpu.packing import is_packed
from compiler.targets.cpu.products.finishing import finish, put_away, repeating
from compiler.targets.cpu.tiles import Tiling, divided, outer_offsets
from compiler.types import BatchExtent

COLUMNS = -1  # a stretch of scratch, beside those of the kernel's buffers


def sums_in_blocks(contract: TileContract) -> bool:
    """Whether the sum goes over the batch and further axes, with all rows and columns static."""
    is_static = isinstance(contract.m, int) and all(isinstance(axis.extent, int) for axis in contract.outer)
    is_long = isinstance(contract.k[0].extent, BatchExtent) and len(contract.k) > 1
    return is_static and contract.rhs_n_stride == 1 and (is_long or contract.splits > 1)


def emit_long_sum(k: KernelNest, contract: TileContract, cut: Tiling) -> Nest:
    """The code of a contraction kernel for which `sums_in_blocks` holds."""
    tuning = k.tuning
    return _LongSumBlocks(
        k,
        contract,
        cut,
        LongSum(k, contract, block_of(contract, tuning.long_sum)),
        _grouping(contract, cut, int(k.machine.l2_bytes * tuning.long_sum_share), tuning.long_sum_items),
    ).emit()


@record
class _Grouping:
    """How the tiles of rows are shared out: `outer` indices of the outer axes, and `tiles` of each, make an item."""

    outer: int
    tiles: int
    outer_groups: int
    tile_groups: int


def _grouping(contract: TileContract, cut: Tiling, room: int, items: int) -> _Grouping:
    """As many as have room for their accumulators, and leave `items` for several threads."""
    tiles, indices = _tiles(cut), prod(count(axis.extent) for axis in cut.row_steps.outer)
    most = max(1, room // (cut.shape.rows * cut.shape.width * cut.panels * contract.dtype.size))
    wanted = ceil(items / contract.splits)
    outer_groups = ceil(indices / max(1, most // tiles))
    outer_groups = max(outer_groups, min(wanted, indices))
    outer = ceil(indices / outer_groups)
    outer_groups = ceil(indices / outer)
    tile_groups = max(ceil(tiles / most), min(ceil(wanted / outer_groups), tiles))
    each = ceil(tiles / tile_groups)
    return _Grouping(outer, each, outer_groups, ceil(tiles / each))


def _tiles(cut: Tiling) -> int:
    """Tiles for each index of the outer axes."""
    assert isinstance(cut.row_steps.extent, int)
    return ceil(cut.row_steps.extent / cut.row_steps.step)


@record
class _Item:
    """What an item covers: the first outer index and how many, the first tile of each and how many."""

    outer: Index
    outers: Index
    tile: Index
    tiles: Index


@dataclass(slots=True)
class _LongSumBlocks:
    k: KernelNest
    contract: TileContract
    cut: Tiling
    sum: LongSum
    grouping: _Grouping

    @property
    def slot(self) -> int:
        """Elements of the accumulators of a tile."""
        return self.cut.shape.rows * self.cut.shape.width

    @property
    def copies_columns(self) -> bool:
        """Whether all tiles share columns that do not lie as a panel would."""
        is_shared = all(axis.rhs_stride == 0 for axis in self.contract.outer)
        tiles = self.grouping.outer * self.grouping.tiles
        return is_shared and tiles >= self.k.tuning.long_sum_tiles and not is_packed(self.contract, self.cut.shape)

    def pitch(self, width: int) -> int:
        """Elements from a copied strip to the next one; no power of two, so that they do not compete for lines."""
        return self.sum.block.elements * width + LANES

    def emit(self) -> Nest:
        k, contract, nest, grouping = self.k, self.contract, self.k.nest, self.grouping
        size, panels, width = contract.dtype.size, self.cut.panels, self.cut.shape.width
        tiles_of_item = grouping.outer * grouping.tiles
        k.reserve(contract.tile, tiles_of_item * panels * self.slot * size)
        k.reserve(COLUMNS, self.pitch(width) * panels * size if self.copies_columns else 0)
        k.open()
        for load in repeating(k.stages, self.cut):
            k.repeated(load, 0, self.cut.shape.vectors)
        k.extent(contract.k[0].extent)  # loaded here, where every use is reached
        groups = grouping.outer_groups * grouping.tile_groups
        indices = prod(count(axis.extent) for axis in self.cut.row_steps.outer)

        def item_body(number: Value, carried: list[Value]) -> Sequence[Operand]:
            split, rest = divided(nest, number, groups)
            outer_group, tile_group = divided(nest, rest, grouping.tile_groups)
            outer, tile = (
                nest.mul(outer_group, grouping.outer),
                nest.mul(tile_group, grouping.tiles),
            )
            outers = nest.minimum(nest.sub(indices, outer), grouping.outer)
            tiles = nest.minimum(nest.sub(_tiles(self.cut), tile), grouping.tiles)
            item = _Item(outer, outers, tile, tiles)
            with k.of(contract):
                self.sum.clear(tiles_of_item * panels * self.slot)
                self.sum.of_split(split, lambda axes, here, following: self.share(axes, here, following, item))
            self.finish(split, item)
            return []

        nest.loop(BEGIN, END, 1, [], item_body)
        return k.close(Items(contract.splits, 1, groups))

    def share(self, axes: list[SummedAxis], here: Operands, following: Operands, item: _Item) -> None:
        """One block of the sum, for all tiles of an item; those ask for the operands of the `following` block."""
        k, nest, width = self.k, self.k.nest, self.cut.shape.width
        if self.copies_columns:
            self.copy_columns(axes, here.right)
        steps = walked(nest, axes, right=width if self.copies_columns else 0)

        def over_panels(panel: Value, carried: list[Value]) -> Sequence[Operand]:
            def body(outer: Index, tile: Index, number: Index) -> None:
                first, column, _, _, _ = self.place(outer, tile)
                rows = nest.pointer(here.left, first, self.sum.type)
                columns = nest.pointer(here.right, nest.add(nest.mul(panel, width), column), self.sum.type)
                if self.copies_columns:
                    columns = nest.pointer(k.bases[COLUMNS], nest.mul(panel, self.pitch(width)), self.sum.type)
                turn = nest.add(nest.mul(panel, self.grouping.outer * self.grouping.tiles), number)
                slots = nest.pointer(k.bases[self.contract.tile], nest.mul(turn, self.slot), self.sum.type)
                tiles = self.grouping.outer * self.grouping.tiles * self.cut.panels
                ahead = self.sum.ahead(axes, slots, self.slot, following, turn, tiles)
                self.multiply(steps, rows, columns, slots, ahead)

            self.each_tile(item, body)
            return []

        nest.loop(0, self.cut.panels, 1, [], over_panels)

    def multiply(self, axes: list[SummedAxis], rows: Value, columns: Value, slots: Value, ahead: list[Ahead]) -> None:
        """Add a block of the sum to a tile."""
        k, nest, shape = self.k, self.k.nest, self.cut.shape
        places = self.cut.row_steps.places(self.contract, shape.rows)
        tile = RegisterTile(shape, self.contract.dtype, places, self.copies_columns, k.tuning)
        held = [nest.pointer(slots, index * LANES, self.sum.type) for index in range(tile.slots)]
        sums = [nest.load(place, tile.vector, 64) for place in held]
        put_away(k, tile, slots, multiplied(nest, tile, axes, rows, columns, sums, ahead=ahead))

    def copy_columns(self, axes: list[SummedAxis], source: Value) -> None:
        """Copy the columns of a block, each panel to its own stretch."""
        nest, width, panels = self.k.nest, self.cut.shape.width, self.cut.panels

        def one(given: Value, number: Index) -> None:
            there = nest.pointer(self.k.bases[COLUMNS], nest.mul(number, width), self.sum.type)

            def over_panels(panel: Value, carried: list[Value]) -> Sequence[Operand]:
                first = nest.pointer(given, nest.mul(panel, width), self.sum.type)
                goal = nest.pointer(there, nest.mul(panel, self.pitch(width)), self.sum.type)
                for part in range(self.cut.shape.vectors):
                    place, to = (nest.pointer(base, part * LANES, self.sum.type) for base in (first, goal))
                    size = self.contract.dtype.size
                    name = nest.load(place, vector(self.sum.type, LANES), size)
                    nest.store(name, to, 64)
                return []

            nest.loop(0, panels, 1, [], over_panels)

        self.sum.each(axes, source, lambda axis: axis.rhs_stride, one)

    def finish(self, split: Index, item: _Item) -> None:
        """The elementwise stage on all tiles of an item."""
        nest, steps = self.k.nest, self.cut.row_steps
        assert isinstance(steps.extent, int)
        rows = steps.extent * steps.unit

        def over_panels(panel: Index, carried: list[Value]) -> Sequence[Operand]:
            column = nest.mul(panel, self.cut.shape.width)

            def body(outer: Index, tile: Index, number: Index) -> None:
                _, _, base, row, start = self.place(outer, tile)
                base = nest.add(base, nest.mul(split, self.contract.split_step))
                finish(
                    self.k,
                    self.contract,
                    self.cut,
                    start,
                    row,
                    rows,
                    column,
                    base,
                    self.slots(number, panel),
                )

            self.each_tile(item, body)
            return []

        if self.cut.panels == 1:
            over_panels(0, [])
        else:
            nest.loop(0, self.cut.panels, 1, [], over_panels)

    def each_tile(self, item: _Item, body: Callable[[Index, Index, Index], None]) -> None:
        """Run `body` with the outer index and the tile of each tile of an item, and with its number in the item."""
        nest = self.k.nest

        def over_outer(outer: Value, carried: list[Value]) -> Sequence[Operand]:
            first = nest.mul(outer, self.grouping.tiles)

            def over_tiles(tile: Value, carried: list[Value]) -> Sequence[Operand]:
                body(
                    nest.add(item.outer, outer),
                    nest.add(item.tile, tile),
                    nest.add(first, tile),
                )
                return []

            nest.loop(0, item.tiles, 1, [], over_tiles)
            return []

        nest.loop(0, item.outers, 1, [], over_outer)

    def slots(self, number: Index, panel: Index) -> Value:
        """Where the accumulators of a tile lie; those of a panel, one behind the other."""
        nest = self.k.nest
        first = nest.mul(panel, self.grouping.outer * self.grouping.tiles * self.slot)
        offset = nest.add(first, nest.mul(number, self.slot))
        return nest.pointer(self.k.bases[self.contract.tile], offset, self.sum.type)

    def place(self, outer: Index, tile: Index) -> tuple[Index, Index, Index, Index, Index]:
        """Offsets of a tile in both operands and in the rows; its first row, and the first that no tile before had."""
        nest, steps = self.k.nest, self.cut.row_steps
        assert isinstance(steps.extent, int)
        lhs, rhs, base = outer_offsets(self.k, steps.outer, outer)
        start = nest.mul(tile, steps.step)
        unit = nest.minimum(start, max(0, steps.extent - steps.step))
        left = nest.add(nest.add(0, nest.mul(unit, steps.stride)), lhs)
        return left, rhs, base, nest.mul(unit, steps.unit), nest.mul(start, steps.unit)
