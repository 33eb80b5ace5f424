"""Which elements of a buffer a kernel touches, for each size of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from math import lcm
from typing import TypeAlias, assert_never

from compiler.loops import ir
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import BatchExtent, Extent, elements


@record(eq=False)
class Footprint:
    """The elements for a batch of one row, and by how many each further row of the batch moves them."""

    first: Array
    step: int


@record(eq=False)
class Along:
    """An index in an address: it adds `first` at the values `index` of a period, `step` more in each later one."""

    index: Array
    first: Array
    period: int
    step: int
    extent: Extent

    @property
    def periods(self) -> int | None:
        """How many there are in a batch of one row; None where it has parts of them."""
        whole, rest = divmod(count(self.extent), self.period)
        return None if rest else whole

    def at_one(self) -> Array:
        """The contribution for a batch of one row, which has whole periods."""
        return np.add.outer(np.arange(self.periods or 1) * self.step, self.first).reshape(-1)

    @property
    def batch_step(self) -> int:
        """By how much a further row of the batch, which has whole periods, moves the address."""
        return self.step * (self.periods or 1) if isinstance(self.extent, BatchExtent) else 0


def along(terms: Sequence[ir.IndexTerm], extent: Extent, edges: Sequence[ir.Edge] = ()) -> Along:
    """The terms of an index from 0 to below the extent, where it lies within the edges."""
    bounding = [term for edge in edges for term in edge.terms]
    period = lcm(*(term.divisor * (term.modulus or 1) for term in (*terms, *bounding)))
    if any(term.modulus is None for term in bounding) or count(extent) % period:
        if not isinstance(extent, BatchExtent):
            period = count(extent)
        elif bounding:
            raise ValueError("an edge moves with the batch")
    index = np.arange(period)
    index = index[inside(edges, index)]
    step = sum(period // term.divisor * term.stride for term in terms if term.modulus is None)
    return Along(index, digits(terms, index), period, step, extent)


def indices_of(moved: ir.Load | ir.Store, kernel: ir.StagedKernel) -> tuple[Along, Along]:
    """The rows and the columns that an instruction counts with; of a flat kernel, its elements and one column."""
    rows, columns = _terms_of(moved, kernel)
    edges = moved.edges if isinstance(moved, ir.Load) and not isinstance(kernel, ir.FlatKernel) else ()
    return along(*rows, edges), along(*columns)


_Index: TypeAlias = tuple[Sequence[ir.IndexTerm], Extent]


def _terms_of(moved: ir.Load | ir.Store, kernel: ir.StagedKernel) -> tuple[_Index, _Index]:
    """The terms of the row and of the column, and the extents of both."""
    access, space = moved.access, moved.space
    if isinstance(kernel, ir.FlatKernel):
        terms = _joined(access.rows, access.columns, kernel.columns)
        return (terms, kernel.elements if space is ir.Space.FULL else 1), ((), 1)
    rows: Extent = 1
    if isinstance(kernel, ir.ColumnKernel):
        rows = elements((kernel.outer, kernel.rows)) if space is ir.Space.FULL else kernel.outer
    elif space in (ir.Space.FULL, ir.Space.ROW):
        rows = kernel.rows
    columns = kernel.columns if space in (ir.Space.FULL, ir.Space.COLUMN) else 1
    return (access.rows, rows), (access.columns, columns)


def _joined(rows: Sequence[ir.IndexTerm], columns: Sequence[ir.IndexTerm], width: int) -> tuple[ir.IndexTerm, ...]:
    """Terms of row and column as terms of the element `row * width + column`, where the width has whole terms."""
    found = [ir.IndexTerm(term.divisor * width, term.modulus, term.stride) for term in rows]
    for term in columns:
        modulus = term.modulus or width // term.divisor
        if width % (term.divisor * modulus):
            raise ValueError(f"rows of {width} elements do not divide {term}")
        upper = ir.IndexTerm(term.divisor * modulus, None, term.stride * modulus)
        if upper in found:
            found.remove(upper)
            modulus = None
        found.append(ir.IndexTerm(term.divisor, modulus, term.stride))
    return tuple(found)


def touched_by(moved: ir.Load | ir.Store, kernel: ir.StagedKernel) -> Footprint | None:
    """The elements that all runs of an instruction touch, for any index; None where no single step can say it."""
    rows, columns = indices_of(moved, kernel)
    if rows.periods is None or columns.periods is None or (moved.index is not None and not moved.index_extent):
        return None
    places = moved.access.offset + np.add.outer(rows.at_one(), columns.at_one())
    if moved.index is not None:
        places = np.add.outer(places, np.arange(moved.index_extent) * moved.index_stride)
    return Footprint(np.unique(places), rows.batch_step + columns.batch_step)


@record
class ElementBlock:
    """Elements `offset + sum(index * stride)` over axes of an extent and a stride each."""

    offset: int
    axes: tuple[tuple[Extent, int], ...]

    @property
    def size(self) -> Extent:
        return elements(tuple(extent for extent, _ in self.axes))

    def footprint(self) -> Footprint:
        places, step = np.array([self.offset]), 0
        for extent, stride in self.axes:
            places = np.unique(np.add.outer(places, np.arange(count(extent)) * stride))
            step += count(extent) * stride if isinstance(extent, BatchExtent) else 0
        return Footprint(places, step)


def stored_by(store: ir.Store, kernel: ir.StagedKernel) -> ElementBlock | None:
    """The elements that all runs of a store without an index write; None where they are no such block."""
    rows, columns = (_axes_of(*index) for index in _terms_of(store, kernel))
    return None if rows is None or columns is None else ElementBlock(store.access.offset, (*rows, *columns))


def _axes_of(terms: Sequence[ir.IndexTerm], extent: Extent) -> list[tuple[Extent, int]] | None:
    """The digits of an index that its terms take, where one does not depend on another."""
    axes, below, whole = list[tuple[Extent, int]](), 1, count(extent)
    grows = isinstance(extent, BatchExtent)
    for term in sorted(terms, key=lambda term: term.divisor):
        if below == 0 or term.divisor % below:
            return None
        size = whole if term.modulus is None else term.divisor * term.modulus
        if term.modulus is None or (size >= whole and not grows):
            if grows and whole % term.divisor:
                return None
            axes.append((BatchExtent(whole // term.divisor) if grows else -(-whole // term.divisor), term.stride))
            below = 0
        else:
            axes.append((term.modulus, term.stride))
            below = size
    return axes


def operand_of(contract: ir.TileContract, is_left: bool) -> ElementBlock:
    """The elements of its left or its right operand that a product reads."""
    axes = [(a.extent, a.lhs_stride if is_left else a.rhs_stride) for a in (*contract.outer, *contract.k)]
    axes.append((contract.m, contract.lhs_m_stride) if is_left else (contract.n, contract.rhs_n_stride))
    return ElementBlock(contract.lhs_offset if is_left else contract.rhs_offset, tuple(axes))


def blocks_of(kernel: ir.Kernel) -> list[tuple[int, ElementBlock]]:
    """The elements of its arguments that a kernel touches beside those of its instructions."""
    match kernel:
        case ir.ContractionKernel(contraction=contract):
            return [(contract.lhs, operand_of(contract, True)), (contract.rhs, operand_of(contract, False))]
        case ir.ScatterKernel(outer=outer, rows=rows, columns=columns):
            lists = outer if kernel.has_own_indices else 1
            shapes = (lists, rows), (outer, rows, columns), (outer, kernel.extent, columns)
        case ir.PrefixSumKernel():
            shapes = ((kernel.outer, kernel.rows, kernel.columns),) * 2
        case ir.FetchKernel() | ir.CollectKernel():
            shapes = ((kernel.rows, kernel.columns),)
        case ir.CopyKernel():
            shapes = ((kernel.elements,),) * 2
        case ir.RowKernel() | ir.FlatKernel() | ir.ColumnKernel():
            return []
        case _:
            assert_never(kernel)
    return [(argument, ElementBlock(0, ((elements(shape), 1),))) for argument, shape in enumerate(shapes)]


def meet(one: Footprint | None, other: Footprint | None) -> bool:
    """Whether there may be an element in both; never False where there is one."""
    if one is None or other is None or one.step != other.step:
        return True
    if one.step:
        places = np.concatenate((one.first, other.first))
        if places.max() - places.min() >= abs(one.step):
            return True  # a row of the batch may reach into the next
    return np.intersect1d(one.first, other.first, assume_unique=True).size > 0


def digits(terms: Sequence[ir.IndexTerm], index: Array) -> Array:
    """The sum of terms of an index."""
    total = np.zeros_like(index)
    for term in terms:
        digit = index // term.divisor
        total = total + (digit if term.modulus is None else digit % term.modulus) * term.stride
    return total


def inside(edges: Sequence[ir.Edge], row: Array) -> Array:
    """Which rows lie within all edges."""
    found = np.ones(row.shape, np.bool_)
    for edge in edges:
        place = edge.offset + digits(edge.terms, row)
        found &= (place >= 0) & (place < edge.extent)
    return found


def count(extent: Extent) -> int:
    """The extent for a batch of one row."""
    return extent.multiple if isinstance(extent, BatchExtent) else extent
