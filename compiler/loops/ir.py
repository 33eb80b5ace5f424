"""Loop nests over buffers: the last form before machine code, the same for every target.

A kernel walks a domain of `rows x columns` elements. Each value depends on both indices, on one, or on none
(its `Space`). Kernels are closed under threads: a kernel is a number of independent *items*, and any thread may
run any item.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from compiler.graph.op import Op
from compiler.record import record
from compiler.types import DType, Extent


class Space(Enum):
    """The indices that a value depends on."""

    FULL = "full"
    ROW = "row"
    COLUMN = "column"
    SCALAR = "scalar"


@record
class Term:
    """`((index // divisor) % modulus) * stride`; without modulus the quotient is taken whole."""

    divisor: int
    modulus: int | None
    stride: int


@record
class Access:
    """An element of a buffer, as a function of row and column: `offset` plus the sum of the terms, in elements."""

    buffer: int
    offset: int
    rows: tuple[Term, ...] = ()
    columns: tuple[Term, ...] = ()


@record
class Edge:
    """A bound of what a row reads: `offset + terms` must lie from 0 to below `extent`, or the element is 0."""

    offset: int
    terms: tuple[Term, ...]
    extent: int


@record
class Load:
    """Read an element. With `index` (a value), `index * index_stride` is added.

    The index is clamped to lie in `0 <= index < index_extent`, except where that is 0 (the program made the index).
    Where a row lies outside one of the `edges`, nothing is read, and the value is 0.
    """

    result: int
    access: Access
    dtype: DType
    space: Space
    index: int | None = None
    index_stride: int = 0
    index_extent: int = 0
    edges: tuple[Edge, ...] = ()


@record(eq=False)
class Literal:
    """A number in the text. Equal literals have equal bits: 0.0 is not -0.0."""

    result: int
    value: float | int | bool
    dtype: DType

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[int, str, DType]:
        return self.result, repr(self.value), self.dtype


@record
class Compute:
    """An elementwise op of the graph."""

    result: int
    op: Op
    operands: tuple[int, ...]
    operand_dtypes: tuple[DType, ...]
    dtype: DType
    space: Space


@record
class Position:
    """The number `offset + terms` itself: iota, or the linear index of an element."""

    result: int
    offset: int
    rows: tuple[Term, ...]
    columns: tuple[Term, ...]
    dtype: DType
    space: Space


@record
class Random:
    """A uniform draw for the element number `position`, keyed by the scalars `seed` and `step` and by `stream`."""

    result: int
    position: int
    seed: int
    step: int
    stream: int
    space: Space


@record
class BatchCount:
    """The run-time batch size, an i64 scalar."""

    result: int


class Combine(Enum):
    SUM = "sum"
    MAX = "max"
    MIN = "min"


@record
class Reduce:
    """Fold a FULL value over the columns (space ROW) or over the rows (space COLUMN), in the fixed order.

    With a `factor`, products with it are added, as one chain of fused multiply-adds over the rows.
    """

    result: int
    combine: Combine
    operand: int
    dtype: DType
    space: Space
    factor: int | None = None


@record
class Store:
    """Write an element. `watch` names what is written, where a NaN or Inf in it must be reported.

    `index` and what follows are as in `Load`; it is a SCALAR.
    """

    access: Access
    value: int
    dtype: DType
    space: Space
    watch: str | None = None
    index: int | None = None
    index_stride: int = 0
    index_extent: int = 0


Instruction: TypeAlias = Load | Literal | Compute | Position | Random | BatchCount | Reduce | Store


@record
class BufferArgument:
    """A buffer as a kernel sees it. `is_scratch`: private to the thread, `elements` long, not an argument."""

    name: str
    dtype: DType
    is_scratch: bool = False
    elements: int = 0


class Walk(Enum):
    """How a kernel goes through its domain."""

    ROWS = "rows"  # an item is a row: reductions go over its columns
    COLUMNS = "columns"  # an item is a block of columns: reductions go over the rows
    TILES = "tiles"  # an item is a tile of a contraction; the stage's values are its elements
    SCATTER = "scatter"  # an item is a block of columns: rows are added into the result at their index
    SCATTER_BY_ROW = "scatter by row"  # as SCATTER, each outer block by indices of its own
    CUMULATE = "cumulate"  # an item is a block of columns: running sums over the rows
    FETCH = "fetch"  # an item is a row, gathered from the caller's data
    COLLECT = "collect"  # an item is a row, handed to the caller


PERIOD_COLUMNS = 64  # columns after which what repeats along a row begins again, at most
REGISTER_COLUMNS = 64  # rows of static length up to this keep their FULL values from one stage to the next


@record
class Stage:
    """One pass over the columns of a row (or the rows of a column block); then what follows the pass, once."""

    body: tuple[Instruction, ...]
    after: tuple[Instruction, ...] = ()


class Triangle(Enum):
    """Which elements of a product of as many rows `m` as columns, or as summed indices `k`, count."""

    SUM_TO_ROW = "k <= m"  # the terms of its sums
    SUM_FROM_ROW = "k >= m"
    COLUMNS_TO_ROW = "column <= m"  # its results, others being 0
    COLUMNS_FROM_ROW = "column >= m"


@record
class TileContract:
    """`tile[m, n] = sum over k of lhs[m, k] * rhs[k, n]`, accumulated in the order of k.

    Rows of the domain are `outer` (each of an extent with its strides in lhs, rhs and result row) times m. The
    result goes to the scratch buffer `tile`, which the stage reads. With several `parts`, the indices of the first
    summed axis are divided among them, and each has rows of its own, `part_step` apart. A `triangle` has a single
    summed axis.
    """

    lhs: int
    rhs: int
    tile: int
    m: Extent
    n: int
    k: tuple[ContractedAxis, ...]
    outer: tuple[OuterAxis, ...]
    lhs_offset: int
    rhs_offset: int
    lhs_m_stride: int
    rhs_n_stride: int
    row_m_step: int
    dtype: DType
    parts: int = 1
    part_step: int = 0
    triangle: Triangle | None = None


@record
class ContractedAxis:
    """One summed axis, outermost first."""

    extent: Extent
    lhs_stride: int
    rhs_stride: int


@record
class OuterAxis:
    """An axis that both operands or only the rows share; `row_step` is its step in the row index of the domain."""

    extent: Extent
    lhs_stride: int
    rhs_stride: int
    row_step: int


@record
class Kernel:
    """One parallel loop over items, and what an item does.

    `rows` and `columns` are the domain; a COLUMNS walk repeats over `outer` blocks of `rows` rows each.
    `prologue` holds what does not depend on row or column; it runs once for each call.
    """

    name: str
    walk: Walk
    rows: Extent
    columns: Extent
    outer: Extent
    buffers: tuple[BufferArgument, ...]
    prologue: tuple[Instruction, ...]
    stages: tuple[Stage, ...]
    contraction: TileContract | None = None
    total: Extent | None = None  # ROWS: the last row may be short; elements in all
    parts: Extent = 1  # ROWS: those of a strand; no item has rows of two


Statement: TypeAlias = Instruction | TileContract


def statements_of(kernel: Kernel) -> tuple[Statement, ...]:
    """What a kernel does to one element, in order: the product, what does not depend on the element, the stages."""
    product = () if kernel.contraction is None else (kernel.contraction,)
    return (*product, *kernel.prologue, *(i for stage in kernel.stages for i in (*stage.body, *stage.after)))
