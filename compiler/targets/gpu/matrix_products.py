"""Products of blocks with rounded factors: warps multiply small matrices of what lies in shared memory.

A warp has a rectangle of the block's tile, whose sums lie in the registers of its threads as the device's instructions
put them. At the end they come through shared memory, so that each thread has rows and columns as in other products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from compiler.loops.ir import TileContract
from compiler.nest import ir, matrices
from compiler.nest.ir import ADDRESS, Constant, Index, Operand, Value, vector
from compiler.support.numerics import LANES
from compiler.support.record import mutable_record, record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.gpu.block_places import LANE_INDICES, Numbers, Place
from compiler.targets.gpu.block_shapes import PADDING, BlockShape
from compiler.targets.gpu.device import BLOCK_THREADS, WARP_THREADS
from compiler.types import DType, Rounding

WARPS = BLOCK_THREADS // WARP_THREADS
_EVERY = Constant(vector(DType.BOOL, LANES), True)


@record
class Staged:
    """How an operand lies in shared memory: elements from line to line, and from one summed element to the next."""

    line: int
    element: int


@mutable_record
class Warps:
    """The warps of a block, of which some are `below` each other.

    A warp has so many matrices `down`, each ROWS high, by so many `across`, each of COLUMNS. Both `sides` of the
    product lie in shared memory as they say; `own` has where the first element of each thread lies there.
    """

    k: KernelNest
    rounding: Rounding
    shape: BlockShape
    group: Value
    sides: Sequence[Staged]
    corner: list[Index] = field(default_factory=list[Index])  # the first row and the first column of the warp
    own: list[Operand] = field(default_factory=list[Operand])

    @property
    def below(self) -> int:
        return min(self.shape.height // matrices.ROWS, WARPS // 2)

    @property
    def down(self) -> int:
        return self.shape.height // matrices.ROWS // self.below

    @property
    def across(self) -> int:
        return self.shape.width // matrices.COLUMNS * self.below // WARPS

    def prepare(self) -> None:
        """Find the own elements, once for all blocks of the sum."""
        nest, beside = self.k.nest, WARPS // self.below
        warp = nest.binary("shift", self.group, (WARP_THREADS // LANES).bit_length() - 1)
        self.corner = [
            nest.mul(nest.binary("div", warp, beside), self.down * matrices.ROWS),
            nest.mul(nest.binary("rem", warp, beside), self.across * matrices.COLUMNS),
        ]
        for first, side in zip(self.corner, self.sides, strict=True):
            self.own.append(self.places(first, side.line, 0, matrices.IN_REGISTER[self.rounding] * side.element))

    def places(self, line: Index, of_line: int, start: Index, of_element: int) -> Operand:
        """Where each thread has its first element: in a line for QUAD threads, which lie `of_element` apart."""
        nest, numbers, lanes = self.k.nest, Numbers(self.k, LANE_INDICES), Constant(LANE_INDICES, tuple(range(LANES)))
        half = nest.mul(nest.binary("and", self.group, WARP_THREADS // LANES - 1), LANES // matrices.QUAD)
        lines = numbers.binary("shift", lanes, matrices.QUAD.bit_length() - 1)
        lines = numbers.binary("mul", numbers.binary("add", lines, nest.add(line, half)), of_line)
        elements = numbers.binary("mul", numbers.binary("and", lanes, matrices.QUAD - 1), of_element)
        return nest.binary("add", lines, numbers.binary("add", elements, start), LANE_INDICES)

    def multiplied(self, starts: Sequence[Value], sums: Sequence[Operand]) -> list[Operand]:
        """The sums with a block of the sum, whose operands start there."""
        found, step = list(sums), matrices.summed(self.rounding)
        fragments = matrices.left_fragments(self.rounding), matrices.right_fragments(self.rounding)
        counts, heights = (self.down, self.across), (matrices.ROWS, matrices.COLUMNS)
        each = len(matrices.SUMS)
        for element in range(0, self.shape.depth, step):
            left, right = (
                [
                    self.elements(side, starts[side], number * heights[side], element, of)
                    for number in range(counts[side])
                ]
                for side, of in enumerate(fragments)
            )
            for row, rows in enumerate(left):
                for column, columns in enumerate(right):
                    slot = each * (row * self.across + column)
                    mine = slice(slot, slot + each)
                    found[mine] = self.k.nest.multiply_matrices(rows, columns, found[mine], self.rounding)
        return found

    def elements(
        self, side: int, start: Value, line: int, element: int, fragments: Sequence[matrices.Fragment]
    ) -> list[Value]:
        """The own elements of a matrix, whose first line and summed element are given."""
        nest, staged = self.k.nest, self.sides[side]
        places = [(line + f.line) * staged.line + (element + f.element) * staged.element for f in fragments]
        pointers = [nest.pointer(start, place, DType.F32) for place in places]
        return [nest.gather(pointer, self.own[side], DType.F32, _EVERY) for pointer in pointers]

    # the sums

    def keep(self, sums: Sequence[Operand]) -> Value:
        """Leave the sums of all threads in shared memory, row by row, where no warp reads operands any more."""
        nest, pitch = self.k.nest, pitch_of_sums(self.shape)
        kept = nest.define(ir.Shared, ADDRESS, 0, bytes_of_sums(self.shape))
        own = self.places(self.corner[0], pitch, self.corner[1], 2)
        for number, total in enumerate(sums):
            value = nest.positive_zero(total)
            matrix, place = divmod(number, len(matrices.SUMS))
            down, across = divmod(matrix, self.across)
            row, column = matrices.SUMS[place]
            place = (down * matrices.ROWS + row) * pitch + across * matrices.COLUMNS + column
            nest.scatter(value, nest.pointer(kept, place, DType.F32), own, _EVERY)
        nest.body.append(ir.Barrier(nest.line))
        return kept

    def row_of(self, kept: Value, row: Index) -> list[Value]:
        """The sums of a row of the own group, a vector of columns each."""
        nest, wide = self.k.nest, vector(DType.F32, LANES)
        start = nest.mul(nest.add(nest.mul(self.group, self.shape.rows), row), pitch_of_sums(self.shape))
        parts = (nest.pointer(kept, nest.add(start, part * LANES), DType.F32) for part in range(self.shape.vectors))
        return [nest.load(pointer, wide, DType.F32.size) for pointer in parts]


def warps_of(
    k: KernelNest, contract: TileContract, shape: BlockShape, place: Place, sides: Sequence[Staged]
) -> Warps | None:
    """The warps of a product with rounded factors."""
    if contract.rounding is None:
        return None
    warps = Warps(k, contract.rounding, shape, place.group, sides)
    warps.prepare()
    return warps


def pitch_of_sums(shape: BlockShape) -> int:
    """Elements from row to row of the sums in shared memory."""
    return shape.width + PADDING


def bytes_of_sums(shape: BlockShape) -> int:
    return shape.height * pitch_of_sums(shape) * DType.F32.size
