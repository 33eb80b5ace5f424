"""Products by blocks of threads: a block takes a tile of the result, and its operands come through shared memory.

All threads bring a block of the sum there while they multiply one before it: by registers, or by copies that the device
makes by itself. LANES neighbours have rows of the tile, each thread a column of every vector; sums stay in registers,
and each is one chain in the order of the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from compiler.loops.ir import ContractionKernel, Instruction, Load, TileContract
from compiler.nest import ir
from compiler.nest.ir import INDEX, Index, Operand, Value, vector
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.gpu.block_places import Numbers, Place, blocks_of_tiles, place_of
from compiler.targets.gpu.block_shapes import BlockShape, row_axes
from compiler.targets.gpu.block_sums import within_columns
from compiler.targets.gpu.copied_operands import summed_from_copies
from compiler.targets.gpu.loaded_operands import summed_from_registers

STAGE_IN_REGISTERS = 6  # instructions of a stage, up to which it is written for each element


def build_block_product(k: KernelNest, kernel: ContractionKernel, shape: BlockShape, is_copied: bool) -> ir.Nest:
    """The nest of a product over vectors, whose items are blocks; one that `is_copied` has its operands by copies."""
    contract = kernel.contraction
    in_registers = sum(len(stage.body) for stage in kernel.stages) <= STAGE_IN_REGISTERS
    if not in_registers and contract.rounding is None:
        k.reserve(contract.tile, shape.rows * shape.width * contract.dtype.size)
    k.open()
    with k.of(contract):
        place = place_of(k, contract, shape)
        summed = summed_from_copies if is_copied else summed_from_registers
        sums, warps = summed(k, contract, shape, place)
        if warps is not None:
            sums_of = partial(warps.row_of, warps.keep(sums))
        elif in_registers:
            sums_of = partial(_row_of, within_columns(k, contract, shape, place, sums), shape.vectors)
        else:
            sums = within_columns(k, contract, shape, place, sums)
            for slot, value in enumerate(sums):
                k.nest.store(value, k.nest.pointer(k.bases[contract.tile], slot * LANES, contract.dtype), LANES)
            sums_of = partial(_kept_row_of, k, contract, shape)
    finish = _Finish(k, kernel, shape, place, sums_of)
    if in_registers:
        finish.each_row()
    else:
        finish.row_by_row()
    return k.close(blocks_of_tiles(contract, shape))


def _row_of(sums: Sequence[Operand], vectors: int, row: Index) -> Sequence[Operand]:
    assert isinstance(row, int)
    return sums[row * vectors : (row + 1) * vectors]


def _kept_row_of(k: KernelNest, contract: TileContract, shape: BlockShape, row: Index) -> Sequence[Operand]:
    """The sums of a row that lie in scratch."""
    nest, wide = k.nest, vector(contract.dtype, LANES)
    kept = nest.pointer(k.bases[contract.tile], nest.mul(row, shape.width), contract.dtype)
    parts = range(shape.vectors)
    return [nest.load(nest.pointer(kept, p * LANES, contract.dtype), wide, contract.dtype.size) for p in parts]


@record(eq=False)
class _Finish:
    """The elementwise stage on the sums of a block."""

    k: KernelNest
    kernel: ContractionKernel
    shape: BlockShape
    place: Place
    sums_of: Callable[[Index], Sequence[Operand]]  # of a row of the group, a vector of columns each

    @property
    def body(self) -> list[Instruction]:
        return [instruction for stage in self.kernel.stages for instruction in stage.body]

    @property
    def first(self) -> Index:
        """The first row of a group."""
        return self.k.nest.add(self.place.row, self.k.nest.mul(self.place.group, self.shape.rows))

    def each_row(self) -> None:
        """Row after row, each by itself."""
        nest, first = self.k.nest, self.first
        for row in range(self.shape.rows):
            number = nest.add(first, row)
            with nest.when(nest.compare("lt", number, self.place.rows)):
                self.row(number, self.sums_of(row))

    def row_by_row(self) -> None:
        """In a loop over the rows."""
        k, nest, first, contract = self.k, self.k.nest, self.first, self.kernel.contraction
        left = nest.minimum(nest.sub(self.place.rows, first), self.shape.rows)
        with nest.each(0, left, 1, self.shape.rows) as row:
            with k.of(contract):
                sums = self.sums_of(row)
            self.row(nest.add(first, row), sums)

    def row(self, number: Index, sums: Sequence[Operand]) -> None:
        k, nest, contract = self.k, self.k.nest, self.kernel.contraction
        axes = [(k.extent(axis.extent), axis.row) for axis in row_axes(contract)]
        found = Numbers(k, INDEX).place(number, axes)
        assert isinstance(found, Value | int)
        place = nest.add(found, self.place.base)
        others = [i for i in self.body if not (isinstance(i, Load) and i.access.buffer == contract.tile)]
        k.new_row(place, others)
        narrow = [i for i in others if isinstance(i, Load) and not i.access.columns and i.index is None]
        for instruction in narrow:
            k.scalar(instruction, place)
        for part, value in enumerate(sums):
            here = nest.add(self.place.column, part * LANES)
            if contract.n % self.shape.width == 0:
                self.columns(place, here, value, None, narrow)
                continue
            with nest.when(nest.compare("lt", here, contract.n)):
                mask = k.mask_below(here, contract.n) if contract.n % LANES else None
                self.columns(place, here, value, mask, narrow)

    def columns(
        self, place: Index, here: Index, value: Operand, mask: Operand | None, narrow: Sequence[Instruction]
    ) -> None:
        """The stage for a vector of columns."""
        for instruction in self.body:
            if isinstance(instruction, Load) and instruction.access.buffer == self.kernel.contraction.tile:
                self.k.put(instruction.result, value)
            elif instruction not in narrow:
                self.k.vector(instruction, place, here, mask)
