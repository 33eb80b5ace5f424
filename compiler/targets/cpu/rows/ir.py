"""The order in which a kernel over rows, elements or columns is gone through, one field for each decision.

It begins as the definition, row by row in vectors of columns, and passes decide one field after the other (`passes`).
`build` then writes it as a nest of single instructions and decides nothing.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from compiler.loops.ir import Access, ColumnKernel, Edge, FlatKernel, IndexTerm, Instruction, Load, RowKernel, Store
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.iteration_space import RowBlock

FIRST_LEVEL, SECOND_LEVEL = 3, 2  # localities of a prefetch: into which cache

OrderedKernel: TypeAlias = RowKernel | FlatKernel | ColumnKernel
Path: TypeAlias = tuple[int, tuple[IndexTerm, ...]]  # a buffer, and how rows lead through it
# Of a digit of a block's first row, the least and the most for which what is read lies inside an image.
Bound: TypeAlias = tuple[IndexTerm, int | None, int | None]
Way: TypeAlias = tuple[Path, tuple[Bound, ...]]  # what is read through one address: zeros, where a bound is passed


class Order(Enum):
    """How the rows of an item, and their columns, follow each other."""

    VECTORS = "vector by vector"  # of a kernel over columns, row by row
    PERIODS = "period by period"  # of what repeats along rows, which stays in registers
    REGISTERS = "all columns at once"
    SQUARES = "squares of rows and columns"  # transposed in registers
    BLOCKS = "blocks of rows"  # unroll and jam: elements that several rows read are loaded once


@record
class Ask:
    """Ask for what a statement of a stage moves so many elements later, or `RowLoops.rows_ahead`, into a cache."""

    statement: int
    elements: int = 0
    locality: int = FIRST_LEVEL
    stage: int = 0


@record
class RowLoops:
    """A kernel and how it is gone through.

    The `unread` buffers are results that no kernel reads and no cache holds. The sums of each stage are in so many
    `chains`, which numerics fixes. Of a block of rows, vectors have so many `lanes`, rows beyond an edge are read from
    so many bytes of `zeros`, and the statements `streams` of the body store past the caches. Columns go from the last
    to the first where those that were just stored lie behind the next ones that are loaded, but for whole multiples of
    `apart` bytes; always upwards where that is 0.
    """

    kernel: OrderedKernel
    unread: frozenset[int]
    chains: tuple[int, ...]
    order: Order = Order.VECTORS
    block: RowBlock = RowBlock(1, 1, 1)
    lanes: int = LANES
    zeros: int = 0
    streams: tuple[int, ...] = ()
    apart: int = 0
    rows_ahead: int = 0
    asks: tuple[Ask, ...] = ()

    @property
    def body(self) -> tuple[Instruction, ...]:
        """The body of the only stage."""
        (stage,) = self.kernel.stages
        return stage.body

    @property
    def moved(self) -> list[Load | Store]:
        return [i for i in self.body if isinstance(i, Load | Store)]


def path_of(access: Access) -> Path:
    return access.buffer, access.rows


def place_of(block: RowBlock, moved: Load | Store, row: int) -> int:
    """Where a row of a block finds its column 0, from where the block's first row leads to."""
    (below, beside), (line, pixel) = block.steps(moved.access), divmod(row, block.pixels)
    return moved.access.offset + line * below + pixel * beside


def way_of(block: RowBlock, moved: Load | Store, row: int) -> Way:
    edges = moved.edges if isinstance(moved, Load) else ()
    bounds = (_bound(block, edge, row) for edge in edges)
    return path_of(moved.access), tuple(b for b in bounds if b[1] is not None or b[2] is not None)


def _bound(block: RowBlock, edge: Edge, row: int) -> Bound:
    """For which blocks that row of them lies inside; None where no block lies beyond."""
    (line, pixel), offset = divmod(row, block.pixels), edge.offset
    for part in edge.terms:
        growth = block.growth(part)
        assert growth is not None
        offset += (line * growth[0] + pixel * growth[1]) * part.stride
    term = next((part for part in edge.terms if block.varies(part)), edge.terms[0])
    last = term.modulus
    step = {1: block.pixels, block.width: block.lines}.get(term.divisor, 1)
    least = -(offset // term.stride)  # ceil(-offset / stride)
    most = (edge.extent - 1 - offset) // term.stride
    least, most = -(-least // step) * step, most // step * step
    return term, least if least > 0 else None, most if last is None or most < last - step else None


def lowest_of(loops: RowLoops) -> dict[Way, int]:
    """The place of the lowest element that is read or written in each way."""
    return {way: min(places) for way, places in _places(loops).items()}


def _places(loops: RowLoops) -> dict[Way, list[int]]:
    found: dict[Way, list[int]] = {}
    for moved in loops.moved:
        for row in range(loops.block.rows):
            found.setdefault(way_of(loops.block, moved, row), []).append(place_of(loops.block, moved, row))
        found.setdefault((path_of(moved.access), ()), [0])
    return found


def spans_beyond_edges(loops: RowLoops) -> list[int]:
    """From the lowest to the highest element of each way that may lie beyond an edge."""
    return [max(places) - min(places) for way, places in _places(loops).items() if way[1]]
