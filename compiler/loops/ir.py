"""Kernels: computations over the elements of buffers, the same for every target.

A kernel is a number of independent *items*, and any thread may run any item. Most kernels compute elements of an
iteration space of `rows x columns`, and each value depends on both indices, on one, or on none (its `Space`).
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, TypeAlias, assert_never, final

from compiler.graph.op import Op
from compiler.support.record import record
from compiler.types import BatchExtent, DType, Extent, Rounding, elements, size_at


class Space(Enum):
    """The indices that a value depends on."""

    FULL = "full"
    ROW = "row"
    COLUMN = "column"
    SCALAR = "scalar"


@record
class IndexTerm:
    """`((index // divisor) % modulus) * stride`; without modulus the quotient is taken whole."""

    divisor: int
    modulus: int | None
    stride: int

    def at(self, index: int) -> int:
        digit = index // self.divisor
        return (digit if self.modulus is None else digit % self.modulus) * self.stride


@record
class Access:
    """An element of a buffer, as a function of row and column: `offset` plus the sum of the terms, in elements."""

    buffer: int
    offset: int
    rows: tuple[IndexTerm, ...] = ()
    columns: tuple[IndexTerm, ...] = ()


@record
class Edge:
    """A bound of a row's reads: `offset + terms` must lie from 0 to below `extent`, or the element is 0."""

    offset: int
    terms: tuple[IndexTerm, ...]
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
    rows: tuple[IndexTerm, ...]
    columns: tuple[IndexTerm, ...]
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
    """Write an element. `check` names the output whose NaN and Inf are reported.

    `index` and what follows are as in `Load`; it is a SCALAR.
    """

    access: Access
    value: int
    dtype: DType
    space: Space
    check: str | None = None
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
    result goes to the scratch buffer `tile`, which the stage reads. With several `splits`, the indices of the first
    summed axis are divided among them, and each has rows of its own, `split_step` apart. A `triangle` has a single
    summed axis. A product `in_bf16` has one split and no triangle: its operands are rounded to bf16, and its terms are
    added in the order of `nest.ir.MultiplyTiles`. One with a `rounding` has rounded operands too, and no triangle.
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
    splits: int = 1
    split_step: int = 0
    triangle: Triangle | None = None
    in_bf16: bool = False
    rounding: Rounding | None = None


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
class _Kernel:
    """One parallel loop over items, and the work of an item. `buffers` are its arguments."""

    kind: ClassVar[str]
    name: str
    buffers: tuple[BufferArgument, ...]


@record
class _StagedKernel(_Kernel):
    """Instructions on the elements of an iteration space.

    `prologue` holds those that depend on neither row nor column; they run once for each call.
    """

    prologue: tuple[Instruction, ...]
    stages: tuple[Stage, ...]


@final
@record
class RowKernel(_StagedKernel):
    """An item is a row; reductions go over its columns. No item has rows of two of the `shards`, which are equal."""

    kind: ClassVar[str] = "rows"
    rows: Extent
    columns: Extent
    shards: Extent = 1


@final
@record
class FlatKernel(_StagedKernel):
    """All `elements` in order. An item is a row of so many columns, of which the last row may have fewer."""

    kind: ClassVar[str] = "elements"
    elements: Extent
    columns: int


@final
@record
class ColumnKernel(_StagedKernel):
    """An item is a block of columns, within one of `outer` blocks of so many rows, over which reductions go."""

    kind: ClassVar[str] = "columns"
    outer: Extent
    rows: Extent
    columns: Extent


@final
@record
class ContractionKernel(_StagedKernel):
    """An item is a tile of a contraction; the stages are computed for each of its elements."""

    kind: ClassVar[str] = "tiles"
    contraction: TileContract

    @property
    def rows(self) -> Extent:
        contract = self.contraction
        return elements((contract.splits, *(axis.extent for axis in contract.outer), contract.m))

    @property
    def columns(self) -> int:
        return self.contraction.n


@final
@record
class ScatterKernel(_Kernel):
    """`result[outer, index[row], column] += update[outer, row, column]` in the order of the rows, from 0 on.

    An item is a block of columns of an outer block. The buffers are index, update and result, which has `extent`
    rows in each outer block. The index is clamped; it is `index[outer, row]` where `has_own_indices`.
    """

    kind: ClassVar[str] = "scatter"
    outer: Extent
    rows: Extent
    columns: Extent
    extent: int
    has_own_indices: bool


@final
@record
class PrefixSumKernel(_Kernel):
    """Running sums of the first buffer over the rows of each outer block, to the second one.

    An item is a block of columns of an outer block. With `reverse`, the sums begin at the last row.
    """

    kind: ClassVar[str] = "prefix sum"
    outer: Extent
    rows: Extent
    columns: Extent
    reverse: bool


@final
@record
class FetchKernel(_Kernel):
    """An item is a row of the batch, gathered from the caller's data into the only buffer."""

    kind: ClassVar[str] = "fetch"
    columns: int

    @property
    def rows(self) -> Extent:
        return BatchExtent(1)


@final
@record
class CollectKernel(_Kernel):
    """An item is a row of the only buffer, handed to the caller."""

    kind: ClassVar[str] = "collect"
    rows: Extent
    columns: int


@final
@record
class CopyKernel(_Kernel):
    """A single item: the first buffer becomes a copy of the second one."""

    kind: ClassVar[str] = "copy"
    elements: Extent


StagedKernel: TypeAlias = RowKernel | FlatKernel | ColumnKernel | ContractionKernel
Kernel: TypeAlias = StagedKernel | ScatterKernel | PrefixSumKernel | FetchKernel | CollectKernel | CopyKernel
Statement: TypeAlias = Instruction | TileContract


def extents_of(kernel: Kernel) -> tuple[Extent, ...]:
    """The extents of a kernel's iteration space, outermost first."""
    if isinstance(kernel, (FlatKernel, CopyKernel)):
        return (kernel.elements,)
    is_outer = isinstance(kernel, (ColumnKernel, ScatterKernel, PrefixSumKernel))
    return (kernel.outer, kernel.rows, kernel.columns) if is_outer else (kernel.rows, kernel.columns)


def iteration_space(kernel: StagedKernel, batch: int) -> tuple[int, int, int]:
    """How many outer blocks there are, rows in each, and columns, with a last row of a flat kernel taken for whole."""
    match kernel:
        case RowKernel(rows=rows, columns=columns) | ContractionKernel(rows=rows, columns=columns):
            return 1, size_at(rows, batch), size_at(columns, batch)
        case FlatKernel(elements=count, columns=columns):
            return 1, -(-size_at(count, batch) // columns), columns
        case ColumnKernel(outer=outer, rows=rows, columns=columns):
            return size_at(outer, batch), size_at(rows, batch), size_at(columns, batch)
        case _:
            assert_never(kernel)


def contraction_of(kernel: Kernel) -> TileContract | None:
    """The contraction that a kernel computes tile by tile."""
    return kernel.contraction if isinstance(kernel, ContractionKernel) else None


def instructions_of(kernel: Kernel) -> tuple[Instruction, ...]:
    """The instructions of a kernel in the order in which an element meets them."""
    if not isinstance(kernel, StagedKernel):
        return ()
    return (*kernel.prologue, *(i for stage in kernel.stages for i in (*stage.body, *stage.after)))


def statements_of(kernel: Kernel) -> tuple[Statement, ...]:
    """The statements of a kernel, in order: the contraction, then the instructions."""
    contraction = contraction_of(kernel)
    return instructions_of(kernel) if contraction is None else (contraction, *instructions_of(kernel))


def used_by(statement: Statement) -> tuple[int, ...]:
    """The values that a statement uses."""
    match statement:
        case Load(index=index):
            return () if index is None else (index,)
        case Compute(operands=operands):
            return operands
        case Random(position=position, seed=seed, step=step):
            return position, seed, step
        case Reduce(operand=operand, factor=factor):
            return (operand,) if factor is None else (operand, factor)
        case Store(value=value, index=index):
            return (value,) if index is None else (value, index)
        case Literal() | Position() | BatchCount() | TileContract():
            return ()
        case _:
            assert_never(statement)
