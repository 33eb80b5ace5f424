"""The iteration space of a kernel over rows: patterns that repeat, rows in blocks, and columns that are an argument."""

from __future__ import annotations

import math
from collections.abc import Sequence

from compiler.loops import ir as loops
from compiler.machine import Machine
from compiler.nest.ir import Items
from compiler.ops.rules import FLOATS
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.tuning import Tuning
from compiler.types import BatchExtent

DENSE = (loops.IndexTerm(1, None, 1),)
WIDE = tuple((lines, pixels) for lines in (2, 1) for pixels in (7, 4, 5, 3, 2))  # blocks, the best one first
TALL = (4, 2)  # lines and pixels of a block that reads the fewest elements anew
SMALL = ((2, 2), (1, 5), (1, 4), (1, 3))  # blocks whose sums and operands few registers hold


@record
class RowBlock:
    """Rows that are computed side by side: neighbours in a line of `width` rows, and those below them."""

    lines: int
    pixels: int
    width: int

    @property
    def rows(self) -> int:
        return self.lines * self.pixels

    @property
    def stretch(self) -> int:
        """The rows that such blocks fill together, at least."""
        return self.lines * self.width if self.lines > 1 else self.pixels

    def steps(self, access: loops.Access) -> tuple[int, int]:
        """Elements from a row of the block to the one below it, and to the next one in the line."""
        found = [(self.growth(term), term.stride) for term in access.rows]
        below, beside = (sum(growth[way] * stride for growth, stride in found if growth) for way in (0, 1))
        return below, beside

    def growth(self, term: loops.IndexTerm) -> tuple[int, int] | None:
        """How much a step to the row below, and one to the next in the line, add to a digit; None where that varies."""
        below = _growth(term, self.width, self.lines) if self.lines > 1 else 0
        beside = _growth(term, 1, self.pixels)
        return None if below is None or beside is None else (below, beside)

    def varies(self, term: loops.IndexTerm) -> bool:
        """Whether the digit of a term differs between the first rows of blocks; otherwise it is 0 there."""
        return term.modulus is None or term.modulus != {1: self.pixels, self.width: self.lines}.get(term.divisor)


def _growth(term: loops.IndexTerm, rows: int, times: int) -> int | None:
    """How much each of `times` steps of so many rows, from a multiple of all, adds to a digit; None where it varies."""
    if term.divisor % (rows * times) == 0:
        return 0
    growth, rest = divmod(rows, term.divisor)
    if rest:
        return None
    if term.modulus is None or term.modulus % (growth * times) == 0:
        return growth
    return None if growth % term.modulus else 0


def repeating_loads(kernel: loops.RowKernel | loops.FlatKernel) -> list[loops.Load]:
    """The loads that repeat along the rows of a kernel without reductions, as numbers for each channel of an image."""
    if (
        len(kernel.stages) != 1
        or kernel.stages[0].after
        or any(isinstance(i, loops.Reduce) for i in kernel.stages[0].body)
    ):
        return []
    loads = [i for i in kernel.stages[0].body if isinstance(i, loops.Load) and i.index is None]
    found = [i for i in loads if len(i.access.columns) == 1 and i.access.columns[0].modulus is not None]
    plain = all((i.access.columns[0].divisor, i.access.columns[0].stride) == (1, 1) for i in found)
    return found if plain and period(found) <= loops.PERIOD_COLUMNS else []


def period(loads: Sequence[loops.Load]) -> int:
    """Columns after which all of them begin again, in whole vectors."""
    return math.lcm(LANES, *(load.access.columns[0].modulus or 1 for load in loads))


def has_free_columns(kernel: loops.Kernel, tuning: Tuning) -> bool:
    """Whether the number of columns of a kernel over rows is an argument: rows that no registers or scratch hold.

    Patterns that repeat along such rows fit into them without a rest.
    """
    if not isinstance(kernel, loops.RowKernel) or isinstance(kernel.columns, BatchExtent):
        return False
    columns = kernel.columns
    if columns <= loops.REGISTER_COLUMNS or any(b.is_scratch and b.elements for b in kernel.buffers):
        return False
    if _has_edges(kernel) or is_row_blocked(kernel, tuning):
        return False
    repeating = repeating_loads(kernel)
    return not repeating or columns % period(repeating) == 0


def _has_edges(kernel: loops.RowKernel) -> bool:
    return any(isinstance(i, loops.Load) and i.edges for stage in kernel.stages for i in stage.body)


def moves_only(kernel: loops.Kernel, tuning: Tuning) -> bool:
    """Whether a kernel over long rows only reads and writes."""
    if not isinstance(kernel, loops.RowKernel) or not has_free_columns(kernel, tuning):
        return False
    return all(isinstance(i, loops.Load | loops.Store) for stage in kernel.stages for i in (*stage.body, *stage.after))


def is_row_blocked(kernel: loops.Kernel, tuning: Tuning) -> bool:
    """Whether rows are computed side by side, as many as the machine has registers for."""
    return row_block_of(kernel, tuning, tuning.many_registers).rows > 1


def row_block_of(kernel: loops.Kernel, tuning: Tuning, registers: int) -> RowBlock:
    """The rows that are computed side by side because they read the same: pixels that slide over an image.

    A single one where that does not pay, or where the elements that rows read do not lie equally far apart. In a kernel
    over columns, all that is summed must be products, whose sums take row after row.
    """
    single = RowBlock(1, 1, 1)
    if not isinstance(kernel, loops.RowKernel | loops.ColumnKernel):
        return single
    if not isinstance(kernel.columns, int) or kernel.columns % LANES or len(kernel.stages) != 1:
        return single
    body = kernel.stages[0].body
    moved = [i for i in body if isinstance(i, loops.Load | loops.Store)]
    if any(b.is_scratch for b in kernel.buffers) or not (_sums_products(kernel) or _is_one_pass(kernel)):
        return single
    if any(i.index is not None or i.access.columns != DENSE or i.dtype not in FLOATS for i in moved):
        return single
    read = [i.access for i in moved if isinstance(i, loops.Load)]
    if {i.access.buffer for i in moved if isinstance(i, loops.Store)} & {access.buffer for access in read}:
        return single
    terms = {term for i in moved for term in i.access.rows}
    edges = [edge for i in moved if isinstance(i, loops.Load) for edge in i.edges]
    terms |= {term for edge in edges for term in edge.terms}
    lines = [term.modulus for term in terms if term.divisor == 1 and term.modulus is not None]
    for block in _blocks(kernel, min(lines, default=0), tuning, registers):
        fits = rows_of_shard(kernel) % block.stretch == 0 and all(block.growth(term) for term in terms)
        if fits and all(sum(map(block.varies, edge.terms)) <= 1 for edge in edges):
            return block if _shared(read, block) >= tuning.shared_reads else single
    return single


def _blocks(kernel: loops.RowKernel | loops.ColumnKernel, width: int, tuning: Tuning, registers: int) -> list[RowBlock]:
    """The blocks of rows that may be computed side by side, the best first, in lines of so many rows."""
    loads = [i for i in kernel.stages[0].body if isinstance(i, loops.Load)]
    near = sum(count(kernel.columns) * load.dtype.size for load in loads if not load.access.rows)
    skips = any(t.divisor == 1 and t.stride > count(kernel.columns) for load in loads for t in load.access.rows)
    has_lines = width > 0 and isinstance(kernel, loops.RowKernel) and not skips
    shapes = (TALL, *WIDE) if near <= tuning.near_row_bytes else WIDE
    if registers < tuning.many_registers and isinstance(kernel, loops.RowKernel):
        shapes = (*SMALL, *shapes)
    return [RowBlock(lines, pixels, width) for lines, pixels in shapes if has_lines or lines == 1]


def _shared(read: Sequence[loops.Access], block: RowBlock) -> int:
    """How many of the elements that a row reads the next one in its line reads too."""
    places = {(access.buffer, access.rows, access.offset) for access in read if access.rows}
    return sum((a.buffer, a.rows, a.offset + block.steps(a)[1]) in places for a in read if a.rows)


def transposed_rows(kernel: loops.Kernel) -> int:
    """How many rows are neighbours in all that is read at a distance along the columns; 0 where nothing is read so.

    From each of these rows to the next, all else lies equally far apart.
    """
    if not isinstance(kernel, loops.RowKernel) or not isinstance(kernel.columns, int):
        return 0
    if kernel.columns == 1 or len(kernel.stages) != 1 or not _is_one_pass(kernel) or _has_edges(kernel):
        return 0
    moved = [i for i in kernel.stages[0].body if isinstance(i, loops.Load | loops.Store)]
    if any(i.index is not None or i.dtype not in FLOATS for i in moved):
        return 0
    read, written = (
        {i.access for i in moved if isinstance(i, loops.Load)},
        {i.access for i in moved if isinstance(i, loops.Store)},
    )
    apart = {access for access in read if access.columns != DENSE}
    if any(a.columns != DENSE for a in written) or {a.buffer for a in read} & {a.buffer for a in written}:
        return 0
    if any(access.columns != (loops.IndexTerm(1, None, sum(t.stride for t in access.columns)),) for access in apart):
        return 0
    along = {tuple(term for term in access.rows if term.divisor == 1) for access in apart}
    if len(along) != 1 or len(line := along.pop()) != 1 or line[0].stride != 1:
        return 0
    rows = math.gcd(line[0].modulus or 0, rows_of_shard(kernel))
    counts = {term.modulus if term.divisor == 1 else term.divisor for i in moved for term in i.access.rows}
    is_even = all(number is None or number % rows == 0 for number in counts) if rows >= LANES else False
    return rows if is_even else 0


def rows_of_shard(kernel: loops.RowKernel | loops.ColumnKernel) -> int:
    return count(kernel.rows) // (count(kernel.shards) if isinstance(kernel, loops.RowKernel) else 1)


def _is_one_pass(kernel: loops.RowKernel | loops.ColumnKernel) -> bool:
    """Whether a kernel over rows computes each element by itself."""
    (stage,) = kernel.stages
    is_plain = all(isinstance(i, loops.Load | loops.Store | loops.Compute) for i in stage.body)
    return isinstance(kernel, loops.RowKernel) and not stage.after and is_plain


def _sums_products(kernel: loops.RowKernel | loops.ColumnKernel) -> bool:
    """Whether a kernel over the columns of images sums products, and nothing else."""
    (stage,) = kernel.stages
    is_sum = all(
        isinstance(i, loops.Load | loops.Compute) or (isinstance(i, loops.Reduce) and i.factor is not None)
        for i in stage.body
    )
    is_column = isinstance(kernel, loops.ColumnKernel)
    return is_column and isinstance(kernel.outer, BatchExtent) and isinstance(kernel.rows, int) and is_sum


def items_of(kernel: loops.RowKernel | loops.FlatKernel | loops.ColumnKernel, machine: Machine) -> Items:
    """The items of a kernel, by its own extents."""
    if isinstance(kernel, loops.ColumnKernel):
        blocks = 1 if is_row_blocked(kernel, machine.tuning) else -(-count(kernel.columns) // LANES)
        return Items(kernel.outer, 1, blocks)
    if isinstance(kernel, loops.FlatKernel):
        return Items(kernel.elements, kernel.columns)
    if rows := transposed_rows(kernel):
        return Items(kernel.rows, rows, -(-rows // LANES))
    return Items(kernel.rows, row_block_of(kernel, machine.tuning, machine.registers).rows)
