"""The register tiles of a contraction: their shape, their order, and the start of each."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from compiler.loops.ir import ContractedAxis, OuterAxis, TileContract
from compiler.machine import Machine
from compiler.nest.builder import Builder
from compiler.nest.ir import Index, Items
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.tuning import Tuning
from compiler.types import BatchExtent, DType, Extent, size_at

MOST_PIECE = 32  # bytes of a register that a load of each half fills faster than shuffles over whole registers


@record
class TileShape:
    """Rows and vectors of columns of a register tile. With `lines` above 1, the rows are that many whole lines."""

    rows: int
    vectors: int
    lines: int = 1

    @property
    def width(self) -> int:
        return self.vectors * LANES


@record
class RowSteps:
    """The units in which tiles step along the rows: single rows, or lines of `unit` rows, of which one takes `step`.

    `stride` lies between units of the left operand; `outer` are the axes that tiles do not step along.
    """

    extent: Extent
    unit: int
    step: int
    stride: int
    outer: tuple[OuterAxis, ...]

    @property
    def repeated(self) -> int:
        """The rows that the last tile has of the one before it, where their number depends on no batch."""
        return -self.extent % self.step * self.unit if isinstance(self.extent, int) else 0

    def places(self, contract: TileContract, rows: int) -> tuple[int, ...]:
        """Where the rows of a tile lie in the left operand, from its first."""
        return tuple(
            row // self.unit * self.stride + row % self.unit * (contract.lhs_m_stride if self.unit > 1 else 0)
            for row in range(rows)
        )


@record
class Tiling:
    """A contraction cut into tiles: `panels` of columns, blocks of `block` tiles of rows (0: no blocks)."""

    shape: TileShape
    row_steps: RowSteps
    panels: int
    block: int
    panels_outside: bool  # the panel is the outermost index, outside of the outer axes


def tiling(contract: TileContract, machine: Machine, batch: int) -> Tiling:
    """How to cut `contract`; `batch` is the nominal batch."""
    shape = tile_shape(contract, machine, batch)
    steps = row_steps(contract, shape)
    outside = bool(steps.outer) and all(axis.rhs_stride == 0 for axis in steps.outer)
    block = 0 if outside else _rows_block(contract, shape, machine, batch)
    return Tiling(shape, steps, -(-contract.n // shape.width), block, outside)


def tile_shape(contract: TileContract, machine: Machine, batch: int) -> TileShape:
    """A tile that fills the registers: wide for many rows, wider for few, with the rows balanced."""
    registers = registers_of(contract.dtype, machine)
    budget = (machine.registers - machine.tuning.operand_registers * machine.registers // 16) // registers
    wanted = -(-contract.n // LANES)
    line = line_axis(contract)
    m = size_at(contract.m, batch)
    rows = m * (size_at(line.extent, batch) if line else 1)
    vectors = min(wanted, 2 if budget >= 12 else 1)
    if rows * vectors < budget:
        few = budget // max(rows, 1)
        if rows > 1:  # all vectors of the right operand stand beside the sums; those of a single row need not
            few = min(few, max((machine.registers // registers - 1) // (rows + 1), _apart(machine, rows, registers)))
        vectors = _vectors_of_few_rows(contract, wanted, max(vectors, few), machine.tuning)
    most = max(1, min(budget // vectors, machine.tuning.tile_rows))
    if line is not None and 2 * m <= most:
        extent = size_at(line.extent, batch)
        tiles = -(-extent // (most // m))
        lines = -(-extent // tiles)
        if lines > 1:
            return TileShape(lines * m, vectors, lines)
    is_low = registers > 1  # tiles of few rows: the last one being moved back would double much of the work
    if (is_low or (isinstance(contract.m, int) and vectors > 1)) and m > most:
        return TileShape(
            _rows_without_rest(m, most_rows(contract, vectors, machine), machine.tuning.tile_start), vectors
        )
    tiles = -(-m // most)
    return TileShape(-(-m // tiles), vectors)


def registers_of(dtype: DType, machine: Machine) -> int:
    """The registers that a vector takes."""
    return max(1, LANES * dtype.size * 8 // machine.vector_bits)


def _apart(machine: Machine, rows: int, registers: int) -> int:
    """Vectors whose sums stay in registers beside an element of each row and one register of the right operand.

    It pays where a vector is two registers: with one it changes nothing, and with four there are twelve chains anyway.
    """
    return (machine.registers - rows - 1) // (rows * registers) if registers == 2 else 0


def lanes_apart(shape: TileShape, dtype: DType, machine: Machine) -> int:
    """The lanes of the right operand that a tile takes at once: a register's where all of its vectors have no room."""
    registers = registers_of(dtype, machine)
    fits = (shape.rows + 1) * shape.vectors * registers < machine.registers
    is_whole = fits or shape.rows == 1 or _apart(machine, shape.rows, registers) < shape.vectors
    return LANES if is_whole else LANES // registers


def most_rows(contract: TileContract, vectors: int, machine: Machine) -> int:
    """Rows whose sums stay in registers beside the right operand and an element of the left one; one at least."""
    taken = vectors * registers_of(contract.dtype, machine)
    return max(1, (machine.registers - taken - 1) // taken)


def _rows_without_rest(m: int, most: int, start: float) -> int:
    """Rows of a tile such that few are done twice, in few tiles."""
    if m <= most:
        return m
    return min(range(most, most // 2, -1), key=lambda rows: -(-m // rows) * (rows + start))


def _vectors_of_few_rows(contract: TileContract, wanted: int, most: int, tuning: Tuning) -> int:
    """How wide a tile is that reads its right operand once, which then takes the time, not the sums.

    Weights are packed, and a narrow panel of them streams as fast as a wide one: panels are cut so that two threads
    read equally much, with the least that is filled up. What other operands have differs by the outer index is read in
    place, in long stretches of equal length.
    """
    if any(axis.rhs_stride for axis in contract.outer):
        return -(-wanted // -(-wanted // min(most, tuning.tile_vectors)))
    most = min(most, tuning.packed_tile_vectors)
    if wanted <= most:
        return wanted
    return min(range(most, most // 2, -1), key=lambda vectors: -(-wanted // (2 * vectors)) * vectors)


def line_axis(contract: TileContract) -> OuterAxis | None:
    """The outer axis whose steps continue the rows of the result without a gap, so that a tile may span it."""
    if isinstance(contract.m, BatchExtent) or contract.m < 2:
        return None
    step = contract.row_m_step * contract.m
    found = [axis for axis in contract.outer if axis.rhs_stride == 0 and axis.row_step == step]
    return found[0] if len(found) == 1 and isinstance(found[0].extent, int) else None


def row_steps(contract: TileContract, shape: TileShape) -> RowSteps:
    if shape.lines == 1:
        return RowSteps(contract.m, 1, shape.rows, contract.lhs_m_stride, contract.outer)
    line = line_axis(contract)
    assert line is not None
    assert isinstance(contract.m, int)
    outer = tuple(axis for axis in contract.outer if axis is not line)
    return RowSteps(line.extent, contract.m, shape.lines, line.lhs_stride, outer)


def depth_of(contract: TileContract) -> int:
    """Summed elements, for `batch = 1`."""
    return prod(count(axis.extent) for axis in contract.k)


def nominal_product(axes: Sequence[ContractedAxis | OuterAxis], batch: int) -> int:
    """The places along all axes together."""
    return prod(size_at(axis.extent, batch) for axis in axes)


def _rows_block(contract: TileContract, shape: TileShape, machine: Machine, batch: int) -> int:
    """Tiles of rows whose left operand fits in the second-level cache beside a panel; 0 for all of them."""
    elements = nominal_product(contract.k, batch)
    room = int(machine.l2_bytes * machine.tuning.rows_share) - elements * shape.width * contract.dtype.size
    fits = max(4, room // max(1, elements * contract.dtype.size * shape.rows))
    tiles = -(-size_at(contract.m, batch) // shape.rows)
    if tiles <= fits or shape.lines > 1:
        return 0
    return -(-tiles // -(-tiles // fits))  # blocks of equal size


def rows_of_tiles(cut: Tiling, batch: int) -> int:
    """How many tiles share a panel, at the nominal batch."""
    tiles = -(-size_at(cut.row_steps.extent, batch) // cut.row_steps.step)
    return tiles * nominal_product(cut.row_steps.outer, batch) if cut.panels_outside else tiles


def items_of(cut: Tiling, tiles: int = 1) -> Items:
    """The items of a kernel, each of which has so many tiles of a panel."""
    steps = cut.row_steps
    outer = prod(count(axis.extent) for axis in steps.outer)
    if any(isinstance(axis.extent, BatchExtent) for axis in steps.outer):
        assert isinstance(steps.extent, int)
        return Items(BatchExtent(outer), 1, -(-steps.extent // steps.step) * cut.panels)
    return Items(steps.extent, tiles * steps.step, outer * cut.panels)


def rows_of_item(tiles: int, panels: int, tuning: Tuning) -> int:
    """How many of the `tiles` of rows make an item: few enough for many threads, and two threads have equally many."""
    rows = max(2, min(tiles // tuning.item_tiles, -(-tuning.product_items // panels)))
    return -(-tiles // (rows + rows % 2))


def pieces_of(machine: Machine) -> int:
    """The bytes of the pieces in which a block is transposed best; 0 for all of it in whole vectors.

    Where registers are short, pieces leave none of them over: a block takes 32 registers of 256 bits.
    """
    return machine.vector_bytes if machine.vector_bytes <= MOST_PIECE else 0


def divided(nest: Builder, number: Index, divisor: Index) -> tuple[Index, Index]:
    """Quotient and rest."""
    if divisor == 1:
        return number, 0
    return nest.binary("div", number, divisor), nest.binary("rem", number, divisor)


def outer_offsets(k: KernelNest, axes: tuple[OuterAxis, ...], outer: Index) -> tuple[Index, Index, Index]:
    """Offsets of the outer index in the left operand, the right operand, and the rows of the domain."""
    nest = k.nest
    offsets: list[Index] = [0, 0, 0]
    for number, axis in reversed(list(enumerate(axes))):
        index = outer
        if number:
            outer, index = divided(nest, outer, k.extent(axis.extent))
        steps = (axis.lhs_stride, axis.rhs_stride, axis.row_step)
        offsets = [_sum(nest, o, nest.mul(index, s)) for o, s in zip(offsets, steps, strict=True)]
    return offsets[0], offsets[1], offsets[2]


def _sum(nest: Builder, left: Index, right: Index) -> Index:
    return right if left == 0 else nest.add(left, right)


def ceiling(nest: Builder, number: Index, step: int) -> Index:
    """The quotient, rounded up."""
    if isinstance(number, int):
        return -(-number // step)
    return nest.binary("div", nest.add(number, step - 1), step)


def rounded_down(nest: Builder, number: Index, step: int) -> Index:
    """The largest multiple of a power of two that a number has room for."""
    return number // step * step if isinstance(number, int) else nest.binary("and", number, -step)
