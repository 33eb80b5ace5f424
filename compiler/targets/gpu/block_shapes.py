"""The tile of a product that a block of threads takes: its shape, by the extents of the product."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from compiler.loops.ir import OuterAxis, TileContract
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.gpu.threads import GROUPS
from compiler.types import BatchExtent, DType, Extent, Rounding, size_at

MULTIPROCESSORS = 132  # of a large device, each of which should have a block
PADDING = 4  # elements behind each row of shared memory: rows begin at other banks, and pieces of 16 bytes are aligned
SHARED_BYTES = 48 << 10


@record
class BlockShape:
    """Rows and vectors of columns of a thread, and the summed elements that are in shared memory at once."""

    rows: int
    vectors: int
    depth: int
    padding: int = PADDING  # behind the lines of a summed element

    @property
    def height(self) -> int:
        return GROUPS * self.rows

    @property
    def width(self) -> int:
        return LANES * self.vectors

    def bytes(self, dtype: DType) -> int:
        """Shared memory for two blocks of the sum."""
        return 2 * self.depth * (self.height + self.width + 2 * self.padding) * dtype.size

    @property
    def description(self) -> str:
        """For a reader."""
        tile = f"{self.height} rows x {self.width} columns a block, {self.rows} x {self.vectors} a thread"
        return f"{tile}; {self.depth} summed elements at once"


SHAPES = (BlockShape(8, 4, 16), BlockShape(4, 4, 16), BlockShape(4, 2, 32), BlockShape(2, 2, 32), BlockShape(2, 1, 32))
MATRIX_PADDING = {Rounding.BF16: 4, Rounding.TF32: 8}  # with which the threads of a warp read from 32 banks at once


def shapes_for(contract: TileContract) -> tuple[BlockShape, ...]:
    """All shapes, the largest first; with rounded factors those that have a matrix for each warp."""
    if contract.rounding is None:
        return SHAPES
    return tuple([replace(shape, padding=MATRIX_PADDING[contract.rounding]) for shape in SHAPES[:-1]])


@record
class RowAxis:
    """An axis along which rows of a product follow each other, all with the same right operand."""

    extent: Extent
    left: int
    row: int


def row_axes(contract: TileContract) -> tuple[RowAxis, ...]:
    """The axes of rows, outermost first: also those outer ones that share the right operand."""
    others = others_of(contract)
    outer = (RowAxis(a.extent, a.lhs_stride, a.row_step) for a in contract.outer if a not in others)
    return (*outer, RowAxis(contract.m, contract.lhs_m_stride, contract.row_m_step))


def others_of(contract: TileContract) -> list[OuterAxis]:
    """The axes whose indices have right operands, or triangles, of their own."""
    return [axis for axis in contract.outer if axis.rhs_stride != 0 or contract.triangle is not None]


def shape_for(contract: TileContract, batch: int) -> BlockShape | None:
    """The largest tile that leaves few threads without work and every multiprocessor a block; None where none pays."""
    rows = [axis.extent for axis in row_axes(contract)]
    others = [axis.extent for axis in others_of(contract)]
    inner = [axis.extent for axis in contract.k[1:]]
    if any(isinstance(extent, BatchExtent) for extent in inner):
        return None
    if sum(isinstance(extent, BatchExtent) for extent in (*rows, *others)) > 1:
        return None  # blocks would be counted by the square of the batch
    m, n = prod(size_at(extent, batch) for extent in rows), contract.n
    depth = prod(size_at(axis.extent, batch) for axis in contract.k) // contract.splits
    if m < 2 * GROUPS or n < LANES or depth < LANES:
        return None
    outside = prod(size_at(extent, batch) for extent in others) * contract.splits
    fitting = [shape for shape in shapes_for(contract) if shape.bytes(contract.dtype) <= SHARED_BYTES]
    waste = {s: -(-m // s.height) * s.height * -(-n // s.width) * s.width / (m * n) for s in fitting}
    even = [shape for shape in fitting if waste[shape] <= 1.5 * min(waste.values())]
    blocks = {s: -(-m // s.height) * -(-n // s.width) * outside for s in even}
    return next((shape for shape in even if blocks[shape] >= MULTIPROCESSORS), even[-1])
