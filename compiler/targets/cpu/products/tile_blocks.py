"""How a product in bf16 is cut: its items, the parts of its operands that are packed at once, and its steps."""

from __future__ import annotations

from math import prod

from compiler.loops.ir import OuterAxis, TileContract
from compiler.machine import Bf16
from compiler.nest.ir import Items
from compiler.schedule.addresses import count
from compiler.schedule.numerics.internal_ops import BLOCK
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.tiles import depth_of, nominal_product
from compiler.types import BatchExtent, Extent, elements, size_at

TILE = LANES * BLOCK  # elements of bf16 of a tile register
PAIR = 2 * LANES  # rows, or columns, of two tiles
MOST_ROWS, MOST_COLUMNS, MOST_DEPTH = 128, 512, 2048  # of an item: what it reads again and again lies near
FEW_ITEMS = 16  # blocks of rows that many threads need


@record
class TileBlocks:
    """An item has so many `rows` and `columns`, and packs `depth` summed elements of both operands at once.

    `walked` are the axes whose rows an item takes, outermost first and m last; `shared` those around them, whose right
    operands differ. A step has so many tiles of rows and columns, its `shape`: in tile registers, or `in_vectors`. The
    sum is `whole` where all of it is packed at once.
    """

    rows: int
    columns: int
    depth: int
    walked: tuple[OuterAxis, ...]
    shared: tuple[OuterAxis, ...]
    shape: tuple[int, int]
    whole: bool
    in_vectors: bool

    @property
    def step_rows(self) -> int:
        return self.shape[0] * LANES

    @property
    def step_columns(self) -> int:
        return self.shape[1] * LANES

    @property
    def pitch(self) -> int:
        """Elements from a packed tile to the next one."""
        return self.depth // BLOCK * TILE

    @property
    def description(self) -> str:
        """For a reader."""
        rows, columns = (rows_at_once(self.shape), self.shape[1]) if self.in_vectors else self.shape
        held = f"{rows} rows x {columns} vectors of" if self.in_vectors else f"{rows} x {columns} tiles of {LANES} x"
        item = f"{self.rows} rows x {self.columns} columns an item, {self.depth} summed elements packed at once"
        return f"{item}; {held} {LANES} sums in registers, {BLOCK} terms a block\n"

    @property
    def extent(self) -> Extent:
        """All rows of the walked axes."""
        return elements(tuple([axis.extent for axis in self.walked]))


def rows_at_once(shape: tuple[int, int]) -> int:
    """How many rows of a step vectors of registers have sums of."""
    return LANES // shape[1]


def tile_blocks(contract: TileContract, batch: int, bf16: Bf16) -> TileBlocks:
    """How to cut a product for a processor that multiplies so; `batch` is the nominal batch."""
    m = OuterAxis(contract.m, contract.lhs_m_stride, 0, contract.row_m_step)
    has_own = any(axis.rhs_stride for axis in contract.outer)
    walked, shared = ((m,), contract.outer) if has_own else ((*contract.outer, m), ())
    rows = nominal_product(walked, batch)
    shape = (1 if rows <= LANES else 2, 1 if contract.n <= LANES else 2)
    most = min(MOST_ROWS, max(PAIR, _rounded_up(-(-rows // FEW_ITEMS), PAIR)))
    depth = nominal_product(contract.k, batch)
    is_known = all(isinstance(axis.extent, int) for axis in contract.k)
    return TileBlocks(
        _equal(rows, most, shape[0] * LANES),
        _equal(contract.n, MOST_COLUMNS, shape[1] * LANES),
        _equal(depth, MOST_DEPTH, BLOCK) if is_known else MOST_DEPTH,
        walked,
        shared,
        shape,
        is_known and depth_of(contract) <= MOST_DEPTH,
        bf16 is Bf16.PAIRS,
    )


def items_of_blocks(contract: TileContract, blocks: TileBlocks) -> Items:
    """All items: blocks of rows, within blocks of columns, within shared axes."""
    panels, around = -(-contract.n // blocks.columns), [axis.extent for axis in blocks.shared]
    if any(isinstance(extent, BatchExtent) for extent in around):
        rows = -(-size_at(blocks.extent, 1) // blocks.rows)
        return Items(elements(tuple(around)), 1, rows * panels)
    return Items(blocks.extent, blocks.rows, prod(map(count, around)) * panels)


def _equal(extent: int, most: int, step: int) -> int:
    """The size of as few parts of `most` as there can be, of about equal size, in multiples of a step."""
    return _rounded_up(-(-extent // -(-extent // most)), step)


def _rounded_up(number: int, step: int) -> int:
    return -(-number // step) * step
