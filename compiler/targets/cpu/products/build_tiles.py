"""A product in bf16 as a nest: in tile registers, or in vectors of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

from compiler.loops.ir import TileContract
from compiler.nest.ir import BEGIN, END, Index, Nest, Operand, Value, vector
from compiler.schedule.numerics.internal_ops import BLOCK
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.products.finishing import ask_for_rows, finish_rows
from compiler.targets.cpu.products.pack_tiles import Side, offset_of, runs_across, runs_along
from compiler.targets.cpu.products.pair_steps import Steps
from compiler.targets.cpu.products.tile_blocks import TileBlocks, items_of_blocks
from compiler.targets.cpu.tiles import TileShape, ceiling, divided, outer_offsets
from compiler.types import DType

# stretches of scratch, beside those of the kernel's buffers
LEFT, RIGHT, ROWS, COLUMNS, LEFT_SUM, RIGHT_SUM, DESCRIPTION = range(-1, -8, -1)
_DESCRIPTION_BYTES, _BF16_BYTES = 64, 2


def build_tiles(k: KernelNest, contract: TileContract, blocks: TileBlocks) -> Nest:
    """The nest of a product in bf16: items in order, each of which packs what it reads and is not packed yet."""
    return _Build(k, contract, blocks).nest_of_all()


@mutable_record
class _Build:
    k: KernelNest
    contract: TileContract
    blocks: TileBlocks
    row_count: Index = 0
    row_blocks: Index = 0
    depth: Index = 0
    panels: int = 1

    def nest_of_all(self) -> Nest:
        k, nest, cut = self.k, self.k.nest, self.blocks
        self.reserve()
        k.open()
        with k.of(self.contract):
            self.row_count = self.product(k.extent(axis.extent) for axis in cut.walked)
            self.depth = self.product(k.extent(axis.extent) for axis in self.contract.k)
            self.row_blocks = ceiling(nest, self.row_count, cut.rows)
            self.panels = -(-self.contract.n // cut.columns)
            if not cut.in_vectors:
                nest.open_tiles(k.bases[DESCRIPTION])
        nest.loop(BEGIN, END, 1, [-1], self.item)
        if not cut.in_vectors:
            nest.close_tiles()
        return k.close(items_of_blocks(self.contract, cut))

    def product(self, factors: Iterable[Index]) -> Index:
        return reduce(self.k.nest.mul, factors, 1)

    def reserve(self) -> None:
        k, cut = self.k, self.blocks
        sums = cut.step_rows * cut.step_columns if cut.whole else cut.rows * cut.columns
        sizes = {
            self.contract.tile: sums * DType.F32.size,
            LEFT: cut.rows * cut.depth * _BF16_BYTES,
            RIGHT: cut.columns * cut.depth * _BF16_BYTES,
            ROWS: cut.rows * DType.I64.size,
            COLUMNS: cut.columns * DType.I64.size,
            LEFT_SUM: cut.depth * DType.I64.size,
            RIGHT_SUM: cut.depth * DType.I64.size,
            **({} if cut.in_vectors else {DESCRIPTION: _DESCRIPTION_BYTES}),
        }
        for position, size in sizes.items():
            k.reserve(position, size)

    # items

    def item(self, number: Value, carried: list[Value]) -> Sequence[Operand]:
        """One item; what is carried is the number of the right operand's columns that are packed."""
        k, nest, cut = self.k, self.k.nest, self.blocks
        with k.of(self.contract):
            packed, row_block = divided(nest, number, self.row_blocks)
            around, panel = divided(nest, packed, self.panels)
            left, right, base = outer_offsets(k, cut.shared, around) if cut.shared else (0, 0, 0)
            first, column = nest.mul(row_block, cut.rows), nest.mul(panel, cut.columns)
            rows = nest.minimum(nest.sub(self.row_count, first), cut.rows)
            columns = nest.minimum(nest.sub(self.contract.n, column), cut.columns)
            self.find_rows(first, rows)
            operands = nest.add(left, self.contract.lhs_offset), nest.add(right, self.contract.rhs_offset)
            if cut.whole:
                is_new = nest.compare("ne", packed, carried[0])
                self.pack(operands, 0, self.depth, rows, column, columns, is_new)
        self.tiles(first, rows, column, columns, base, operands)
        return [packed]

    def tiles(
        self, first: Index, rows: Index, column: Index, columns: Index, base: Index, operands: tuple[Index, Index]
    ) -> None:
        """The sums of all tiles of an item, and the elementwise stage on them."""
        nest, cut = self.k.nest, self.blocks
        down, across = ceiling(nest, rows, cut.step_rows), ceiling(nest, columns, cut.step_columns)
        if not cut.whole:
            with self.k.of(self.contract):
                self.in_parts(operands, rows, column, columns, down, across)
        with nest.each(0, across) as right, nest.each(0, down) as left:
            sums = self.sums_of(left, right)
            above = nest.mul(left, cut.step_rows)
            count = nest.minimum(nest.sub(rows, above), cut.step_rows)
            here = nest.add(nest.mul(right, cut.step_columns), column)
            place_of = self.places(nest.add(first, above), base)
            if cut.whole:
                ask_for_rows(self.k, self.contract, cut.shape[1], (0, count), place_of, here)
                with self.k.of(self.contract):
                    self.clear(sums)
                    self.multiply(sums, left, right, ceiling(nest, self.depth, BLOCK))
            shape = TileShape(cut.step_rows, cut.shape[1])
            finish_rows(self.k, self.contract, shape, (0, count), place_of, here, sums)

    def in_parts(
        self, operands: tuple[Index, Index], rows: Index, column: Index, columns: Index, down: Index, across: Index
    ) -> None:
        """All sums of an item, part by part of what is summed."""
        nest, cut = self.k.nest, self.blocks
        with nest.each(0, across) as right, nest.each(0, down) as left:
            self.clear(self.sums_of(left, right))
        with nest.each(0, self.depth, cut.depth) as start:
            length = nest.minimum(nest.sub(self.depth, start), cut.depth)
            self.pack(operands, start, length, rows, column, columns, None)
            with nest.each(0, across) as right, nest.each(0, down) as left:
                self.multiply(self.sums_of(left, right), left, right, ceiling(nest, length, BLOCK))

    # packing

    def find_rows(self, first: Index, rows: Index) -> None:
        """Where each row of an item lies in the left operand; behind the last one, that one again."""
        nest, cut = self.k.nest, self.blocks
        axes = [(axis.extent, axis.lhs_stride) for axis in cut.walked]
        last = nest.sub(rows, 1)
        with nest.each(0, cut.rows) as row:
            index = nest.add(first, nest.minimum(row, last))
            self.note(ROWS, row, offset_of(nest, self.k.extent, axes, index))

    def pack(
        self,
        operands: tuple[Index, Index],
        start: Index,
        length: Index,
        rows: Index,
        column: Index,
        columns: Index,
        is_new: Value | None,
    ) -> None:
        """Pack `length` summed elements of both operands of an item; of the right one, where the columns are new."""
        nest, cut, contract = self.k.nest, self.blocks, self.contract
        blocks, last = ceiling(nest, length, BLOCK), nest.sub(self.depth, 1)
        lefts = [(axis.extent, axis.lhs_stride) for axis in contract.k]
        rights = [(axis.extent, axis.rhs_stride) for axis in contract.k]
        with nest.each(0, nest.mul(blocks, BLOCK)) as place:
            index = nest.minimum(nest.add(start, place), last)
            self.note(LEFT_SUM, place, offset_of(nest, self.k.extent, lefts, index))
            self.note(RIGHT_SUM, place, offset_of(nest, self.k.extent, rights, index))
        steps = ceiling(nest, rows, cut.step_rows)
        self.side(operands[0], is_left=True).pack(nest.mul(steps, cut.shape[0]), length, blocks)
        if is_new is None:
            self.pack_right(operands[1], length, blocks, column, columns)
        else:
            with nest.when(is_new):
                self.pack_right(operands[1], length, blocks, column, columns)

    def pack_right(self, operand: Index, length: Index, blocks: Index, column: Index, columns: Index) -> None:
        nest, cut = self.k.nest, self.blocks
        with nest.each(0, cut.columns) as place:
            index = nest.add(column, nest.minimum(place, nest.sub(columns, 1)))
            self.note(COLUMNS, place, nest.mul(index, self.contract.rhs_n_stride))
        steps = ceiling(nest, columns, cut.step_columns)
        self.side(operand, is_left=False).pack(nest.mul(steps, cut.shape[1]), length, blocks)

    def note(self, table: int, place: Index, offset: Index) -> None:
        nest = self.k.nest
        nest.store(offset, nest.pointer(self.k.bases[table], place, DType.I64), DType.I64.size)

    def side(self, operand: Index, is_left: bool) -> Side:
        k, contract, axes = self.k, self.contract, self.contract.k
        base = k.nest.pointer(k.bases[contract.lhs if is_left else contract.rhs], operand, DType.F32)
        strides = [axis.lhs_stride if is_left else axis.rhs_stride for axis in axes]
        return Side(
            k.nest,
            base,
            k.bases[LEFT if is_left else RIGHT],
            k.bases[ROWS if is_left else COLUMNS],
            k.bases[LEFT_SUM if is_left else RIGHT_SUM],
            self.blocks.pitch,
            runs_along(axes, strides),
            runs_across(self.blocks.walked) if is_left else contract.rhs_n_stride == 1,
            is_left,
            self.blocks.in_vectors,
        )

    # tiles

    def sums_of(self, left: Index, right: Index) -> Value:
        """Where the sums of a step of tiles lie."""
        nest, cut = self.k.nest, self.blocks
        base = self.k.bases[self.contract.tile]
        if cut.whole:
            return base
        number = nest.add(nest.mul(right, cut.rows // cut.step_rows), left)
        return nest.pointer(base, nest.mul(number, cut.step_rows * cut.step_columns), DType.F32)

    def clear(self, sums: Value) -> None:
        self.k.nest.clear(sums, self.blocks.step_rows * self.blocks.step_columns, vector(DType.F32, LANES))

    def multiply(self, sums: Value, left: Index, right: Index, blocks: Index) -> None:
        k, nest, cut = self.k, self.k.nest, self.blocks
        rows = nest.pointer(k.bases[LEFT], nest.mul(left, cut.shape[0] * cut.pitch), DType.U16)
        columns = nest.pointer(k.bases[RIGHT], nest.mul(right, cut.shape[1] * cut.pitch), DType.U16)
        if cut.in_vectors:
            keeps_rows = self.side(0, is_left=True).keeps_rows
            Steps(nest, sums, rows, columns, blocks, cut.pitch, cut.shape, keeps_rows).add()
        else:
            nest.multiply_tiles(sums, rows, columns, blocks, cut.pitch, cut.shape)

    def places(self, first: Index, base: Index) -> Callable[[Index], Index]:
        """Where each row from the first one on lies in the rows of the elementwise stage."""
        nest, axes = self.k.nest, [(axis.extent, axis.row_step) for axis in self.blocks.walked]
        return lambda row: nest.add(offset_of(nest, self.k.extent, axes, nest.add(row, first)), base)
