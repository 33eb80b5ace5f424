"""The tile of a product that is a block's own, and the arithmetic by which its threads find their elements."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from compiler.loops.ir import TileContract, Triangle
from compiler.nest import ir
from compiler.nest.builder import Builder
from compiler.nest.ir import INDEX, Index, Operand, Value, vector
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.tiles import ceiling, divided, outer_offsets
from compiler.targets.gpu.block_shapes import BlockShape, others_of, row_axes
from compiler.types import BatchExtent, DType, elements

LANE_INDICES = vector(DType.I64, LANES)


def depth_within(
    nest: Builder, contract: TileContract, shape: BlockShape, row: Index, column: Index, depth: Index
) -> Index:
    """The elements that are summed for the tile of that first row and column: none beyond a triangle of results."""
    match contract.triangle:
        case Triangle.COLUMNS_TO_ROW:
            return nest.select(nest.compare("lt", column, nest.add(row, shape.height)), depth, 0)
        case Triangle.COLUMNS_FROM_ROW:
            return nest.select(nest.compare("lt", row, nest.add(column, shape.width)), depth, 0)
        case _:
            return depth


def blocks_of_tiles(contract: TileContract, shape: BlockShape) -> ir.Items:
    """How many blocks there are, of which at most one axis depends on the batch."""
    panels, extents = -(-contract.n // shape.width), [axis.extent for axis in row_axes(contract)]
    others = [axis.extent for axis in others_of(contract)]
    rows, outside = (prod(count(extent) for extent in some) for some in (extents, others))
    if any(isinstance(extent, BatchExtent) for extent in extents):
        return ir.Items(BatchExtent(rows), shape.height, panels * contract.splits * outside)
    tiles = -(-rows // shape.height) * panels * contract.splits
    return ir.Items(elements(tuple(others)), 1, tiles)


@record
class Place:
    """The tile of this block: its first row and column of so many rows, where its operands and its rows begin, and how
    many elements it sums."""

    group: Value
    rows: Index
    row: Index
    column: Index
    left: Index
    right: Index
    base: Index
    depth: Index


def place_of(k: KernelNest, contract: TileContract, shape: BlockShape) -> Place:
    nest = k.nest
    number: Index = nest.define(ir.Ordinal, INDEX, "block")
    rows = _product(nest, [k.extent(axis.extent) for axis in row_axes(contract)])
    number, panel = divided(nest, number, -(-contract.n // shape.width))
    number, tile = divided(nest, number, ceiling(nest, rows, shape.height))
    outer, split = divided(nest, number, contract.splits)
    left, right, base = outer_offsets(k, tuple(others_of(contract)), outer)
    head, *rest = contract.k
    whole, inner = k.extent(head.extent), prod(count(axis.extent) for axis in rest)
    first, beyond = (nest.binary("div", nest.mul(nest.add(split, s), whole), contract.splits) for s in (0, 1))
    row, column = nest.mul(tile, shape.height), nest.mul(panel, shape.width)
    depth = nest.mul(nest.sub(beyond, first), inner) if contract.splits > 1 else nest.mul(whole, inner)
    return Place(
        nest.define(ir.Ordinal, INDEX, "group"),
        rows,
        row,
        column,
        nest.add(nest.add(left, contract.lhs_offset), nest.mul(first, head.lhs_stride)),
        nest.add(nest.add(right, contract.rhs_offset), nest.mul(first, head.rhs_stride)),
        nest.add(base, nest.mul(split, contract.split_step)),
        depth_within(nest, contract, shape, row, column, depth),
    )


def _product(nest: Builder, numbers: Sequence[Index]) -> Index:
    total: Index = 1
    for number in numbers:
        total = total * number if isinstance(total, int) and isinstance(number, int) else nest.mul(total, number)
    return total


@record
class Numbers:
    """Arithmetic on an index, or on one of each lane."""

    k: KernelNest
    type_: ir.Type

    def of(self, number: Index) -> Operand:
        """The number in each lane."""
        if self.type_ is INDEX:
            return number
        return self.k.indices(number) if isinstance(number, int) else self.k.nest.splat(number, LANES)

    def binary(self, op: ir.Arithmetic, left: Operand, right: Index) -> Operand:
        return self.k.nest.binary(op, left, self.of(right), self.type_)

    def place(self, number: Operand, axes: Sequence[tuple[Index, int]]) -> Operand:
        """The sum of its digits in these extents, each times a stride; the first digit has no limit."""
        total: Operand | None = None
        for position in range(len(axes) - 1, -1, -1):
            extent, stride = axes[position]
            digit = number
            if position:
                digit, number = self.binary("rem", number, extent), self.binary("div", number, extent)
            part = digit if stride == 1 else self.binary("mul", digit, stride)
            total = part if total is None else self.k.nest.binary("add", total, part, self.type_)
        assert total is not None
        return total
