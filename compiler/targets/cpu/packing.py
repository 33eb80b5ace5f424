"""Panels: blocks of columns of a right operand, copied so that a register tile reads them in one stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.loops.ir import ContractedAxis, TileContract
from compiler.nest.arguments import SharedPointer
from compiler.nest.builder import Builder
from compiler.nest.ir import ADDRESS, BEGIN, END, Index, Items, Nest, Value, vector
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.specialisation import Specialisation
from compiler.targets.cpu.tiles import TileShape, depth_of
from compiler.targets.cpu.transpose import move_transposed
from compiler.types import BatchExtent


@record
class Packing:
    """How panels are packed: operands are asked for so many `steps_ahead`.

    Where columns lie as rows do, blocks are transposed in `pieces`: see `tiles.pieces_of`.
    """

    steps_ahead: int
    pieces: int


def is_packed(contract: TileContract, shape: TileShape) -> bool:
    """Whether the right operand lies as a single panel would."""
    axes = packed_axes(contract, shape.width)
    return contract.rhs_n_stride == 1 and contract.n == shape.width and axes == contract.k


def pack_all(k: KernelNest, contract: TileContract, shape: TileShape, packing: Packing, panels: int) -> Nest:
    """A function of its own that packs every panel; an item is one of them."""
    width = shape.vectors * LANES
    packer = KernelNest(Specialisation(replace(k.kernel, prologue=(), stages=()), ()), k.lines)
    packer.open()
    nest, type_ = packer.nest, contract.dtype
    shared = packer.argument(SharedPointer(), ADDRESS)
    with packer.of(contract), nest.each(BEGIN, END) as panel:
        column = nest.mul(panel, width)
        right = nest.add(nest.mul(column, contract.rhs_n_stride), contract.rhs_offset)
        source = nest.pointer(packer.bases[contract.rhs], right, type_)
        target = nest.pointer(shared, nest.mul(panel, panel_elements(contract, width)), type_)
        pack(packer, contract, width, packing, column, source, target)
    return packer.close(Items(panels))


def panel_elements(contract: TileContract, width: int) -> int:
    """The room of a packed panel, for `batch = 1`. A transposed one is in whole blocks; batches have that slack."""
    depth = depth_of(contract)
    if contract.rhs_n_stride != 1 and all(isinstance(axis.extent, int) for axis in contract.k):
        depth = -(-depth // LANES) * LANES
    return depth * width


def own_panel(k: KernelNest, contract: TileContract, width: int) -> Value:
    """Room for a panel of the thread's own, behind everything else in its scratch."""
    size = panel_elements(contract, width) * contract.dtype.size
    base = k.nest.scratch(k.scratch_bytes, size)
    if any(isinstance(axis.extent, BatchExtent) for axis in contract.k):
        k.scratch_batch_bytes = size
    else:
        k.scratch_bytes += size
    return base


def packed_axes(contract: TileContract, width: int) -> tuple[ContractedAxis, ...]:
    """The summed axes with the strides that a packed panel has."""
    axes: list[ContractedAxis] = []
    step = width
    for axis in reversed(contract.k):
        axes.append(ContractedAxis(axis.extent, axis.lhs_stride, step))
        step *= count(axis.extent)
    return tuple(reversed(axes))


def pack(
    k: KernelNest, contract: TileContract, width: int, packing: Packing, column: Index, source: Value, target: Value
) -> None:
    """Copy a panel so that the `width` columns of one k lie side by side, and the next k behind them."""
    if contract.rhs_n_stride != 1:
        _pack_transposed(k, contract, width, packing.pieces, column, source, target)
        return
    nest, type_, size = k.nest, contract.dtype, contract.dtype.size

    def over(axes: Sequence[ContractedAxis], packed: Sequence[ContractedAxis], source: Value, target: Value) -> None:
        with nest.each(0, k.extent(axes[0].extent)) as index:
            here = nest.pointer(source, nest.mul(index, axes[0].rhs_stride), type_)
            there = nest.pointer(target, nest.mul(index, packed[0].rhs_stride), type_)
            if len(axes) > 1:
                over(axes[1:], packed[1:], here, there)
                return
            for part in range(width // LANES):
                later = nest.pointer(here, packing.steps_ahead * axes[0].rhs_stride + part * LANES, type_)
                nest.prefetch(later)
                loaded = nest.pointer(here, part * LANES, type_)
                name = nest.load(loaded, vector(type_, LANES), size)
                nest.store(name, nest.pointer(there, part * LANES, type_), 64)

    over(contract.k, packed_axes(contract, width), source, target)


def _pack_transposed(
    k: KernelNest, contract: TileContract, width: int, pieces: int, column: Index, source: Value, target: Value
) -> None:
    """As `pack`, from an operand whose k lie side by side: blocks of LANES x LANES are transposed in registers."""
    nest, type_, (axis,) = k.nest, contract.dtype, contract.k
    depth = k.extent(axis.extent)
    starts = _column_starts(nest, contract, width, column)
    with nest.each(0, _ceil_to(nest, depth, LANES), LANES) as index:
        for part in range(width // LANES):
            rows, columns = list[Value](), list[Value]()
            for lane in range(LANES):
                rows.append(nest.pointer(source, nest.add(starts[part * LANES + lane], index), type_))
                here = nest.add(nest.mul(nest.add(index, lane), width), part * LANES)
                columns.append(nest.pointer(target, here, type_))
            move_transposed(nest, pieces, contract.dtype, rows, columns)


def _column_starts(nest: Builder, contract: TileContract, width: int, column: Index) -> list[Index]:
    """Where the columns of a panel start, as offsets from its first; behind the last column, that one again."""
    if contract.n % width == 0:
        return [lane * contract.rhs_n_stride for lane in range(width)]
    last = nest.sub(contract.n - 1, column)
    return [nest.mul(nest.minimum(lane, last), contract.rhs_n_stride) for lane in range(width)]


def _ceil_to(nest: Builder, number: Index, step: int) -> Index:
    if not isinstance(number, Value):
        return -(-number // step) * step
    return nest.binary("and", nest.add(number, step - 1), -step)
