"""Which elements of a buffer a kernel touches, for each size of the batch."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.loops.ir import ColumnKernel, Edge, FlatKernel, Load, Space, StagedKernel, Store, Term, TileContract
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import BatchExtent, Extent, elements


@record(eq=False)
class Footprint:
    """The elements for a batch of one row, and by how many each further row of the batch moves them."""

    first: Array
    step: int


def touched_by(instruction: Load | Store, kernel: StagedKernel) -> Footprint | None:
    """What all runs of an instruction touch, wherever its index points; None where no single step can say it."""
    access = instruction.access
    rows, columns = _counted(kernel, instruction.space)
    steps = _step(access.rows, rows), _step(access.columns, columns)
    row, column = (np.arange(_count(extent)) for extent in (rows, columns))
    places = np.add.outer(access.offset + digits(access.rows, row), digits(access.columns, column))
    if isinstance(kernel, FlatKernel) and instruction.space is Space.FULL:
        if isinstance(kernel.elements, BatchExtent):
            return None  # rows of the iteration space are no rows of the batch
        places = places[np.add.outer(row * kernel.columns, column) < kernel.elements]
    if isinstance(instruction, Load) and instruction.edges:
        places = places[inside(instruction.edges, row)]
    if instruction.index is not None:
        if not instruction.index_extent:
            return None
        places = np.add.outer(places, np.arange(instruction.index_extent) * instruction.index_stride)
    return None if None in steps else Footprint(np.unique(places), sum(s for s in steps if s is not None))


def operand_of(contract: TileContract, is_left: bool) -> Footprint:
    """What a product reads of its left or of its right operand."""
    axes = [(a.extent, a.lhs_stride if is_left else a.rhs_stride) for a in (*contract.outer, *contract.k)]
    axes.append((contract.m, contract.lhs_m_stride) if is_left else (contract.n, contract.rhs_n_stride))
    places, step = np.array([contract.lhs_offset if is_left else contract.rhs_offset]), 0
    for extent, stride in axes:
        places = np.unique(np.add.outer(places, np.arange(_count(extent)) * stride))
        step += _count(extent) * stride if isinstance(extent, BatchExtent) else 0
    return Footprint(places, step)


def meet(one: Footprint | None, other: Footprint | None) -> bool:
    """Whether there may be an element in both; never False where there is one."""
    if one is None or other is None or one.step != other.step:
        return True
    if one.step:
        places = np.concatenate((one.first, other.first))
        if places.max() - places.min() >= abs(one.step):
            return True  # a row of the batch may reach into the next
    return np.intersect1d(one.first, other.first, assume_unique=True).size > 0


def digits(terms: Sequence[Term], index: Array) -> Array:
    """The sum of terms of an index."""
    total = np.zeros_like(index)
    for term in terms:
        digit = index // term.divisor
        total = total + (digit if term.modulus is None else digit % term.modulus) * term.stride
    return total


def inside(edges: Sequence[Edge], row: Array) -> Array:
    """Which rows lie within all edges."""
    found = np.ones(row.shape, np.bool_)
    for edge in edges:
        place = edge.offset + digits(edge.terms, row)
        found &= (place >= 0) & (place < edge.extent)
    return found


def _counted(kernel: StagedKernel, space: Space) -> tuple[Extent, Extent]:
    """How many rows and columns an instruction of this space counts with."""
    outer = kernel.outer if isinstance(kernel, ColumnKernel) else 1
    match space:
        case Space.FULL:
            return _rows(kernel), kernel.columns
        case Space.ROW:
            return _rows(kernel), 1
        case Space.COLUMN:
            return outer, kernel.columns
        case Space.SCALAR:
            return 1, 1


def _step(terms: Sequence[Term], extent: Extent) -> int | None:
    """By how many elements terms move when the batch has one row more; None if not by the same for each."""
    step, size = 0, _count(extent)
    for term in terms if isinstance(extent, BatchExtent) else ():
        if size % (term.divisor * (term.modulus or 1)):
            return None
        step += 0 if term.modulus else size // term.divisor * term.stride
    return step


def _rows(kernel: StagedKernel) -> Extent:
    """The rows of all outer blocks; those of a flat kernel, where their number does not depend on the batch."""
    match kernel:
        case FlatKernel():
            return -(-_count(kernel.elements) // kernel.columns)
        case ColumnKernel():
            return elements((kernel.outer, kernel.rows))
        case _:
            return kernel.rows


def _count(extent: Extent) -> int:
    return extent.multiple if isinstance(extent, BatchExtent) else extent
