"""Checks the decisions of passes about a kernel over rows or columns."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.loops.ir import ColumnKernel, Load, RowKernel, Store
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.targets.cpu.iteration_space import rows_of_shard
from compiler.targets.cpu.rows.ir import Ask, Order, RowLoops, spans_beyond_edges
from compiler.targets.cpu.rows.passes import chains_of, fits, is_aligned_result

_UNFIT = {
    Order.SQUARES: "rows are no neighbours in what is read at a distance along the columns",
    Order.PERIODS: "nothing repeats along the rows",
    Order.REGISTERS: "rows are too long for registers",
}


def faults_of(loops: RowLoops) -> list[str]:
    """The faults of the decisions; none where they are right."""
    kernel = loops.kernel
    if len(kernel.stages) > 1 and (loops.order is Order.BLOCKS or loops.streams):
        return ["blocks of rows have one stage"]
    found = [*_faults_of_order(loops), *_faults_of_block(loops)]
    if loops.chains != tuple(chains_of(kernel, stage) for stage in kernel.stages):
        found.append("sums are split otherwise than numerics has it")
    for number in loops.streams:
        store = loops.body[number] if number < len(loops.body) else None
        if not isinstance(store, Store) or not is_aligned_result(loops, store):
            found.append(f"statement {number} may not store past the caches")
    if loops.apart and not (loops.streams and loops.apart & (loops.apart - 1) == 0):
        found.append(f"no direction follows from {loops.apart} bytes")
    return found + [f"nothing is asked for by statement {ask.statement}" for ask in loops.asks if not _asks(loops, ask)]


def _asks(loops: RowLoops, ask: Ask) -> bool:
    body = loops.kernel.stages[ask.stage].body if ask.stage < len(loops.kernel.stages) else ()
    moved = body[ask.statement] if ask.statement < len(body) else None
    if loops.order is Order.BLOCKS:
        return isinstance(moved, Load | Store) and ask.elements > 0 and ask.statement not in loops.streams
    return isinstance(loops.kernel, ColumnKernel) and isinstance(moved, Load) and loops.rows_ahead > 0


def _faults_of_order(loops: RowLoops) -> Iterator[str]:
    if not fits(loops.kernel, loops.order):
        yield _UNFIT[loops.order]
    if (loops.order is Order.BLOCKS) != (loops.block.rows > 1):
        yield "a block of rows has several, and other orders have none"


def _faults_of_block(loops: RowLoops) -> Iterator[str]:
    kernel, block = loops.kernel, loops.block
    if loops.order is not Order.BLOCKS or block.rows < 2:
        if loops.lanes != LANES or loops.zeros or loops.streams:
            yield "narrow vectors, zeros and stores past the caches are for blocks of rows"
        return
    if not isinstance(kernel, RowKernel | ColumnKernel) or rows_of_shard(kernel) % block.stretch:
        yield "blocks do not fill the rows"
        return
    edges = [edge for i in loops.moved if isinstance(i, Load) for edge in i.edges]
    terms = [*(t for i in loops.moved for t in i.access.rows), *(t for e in edges for t in e.terms)]
    if any(block.growth(term) is None for term in terms):
        yield "rows of a block do not lie equally far apart"
        return
    if loops.lanes not in (1, 2, 4, 8, LANES) or count(kernel.columns) % LANES:
        yield f"vectors of {loops.lanes} lanes do not fill the columns"
    size = max(b.dtype.size for b in kernel.buffers)
    if any(loops.zeros < (span + count(kernel.columns)) * size for span in spans_beyond_edges(loops)):
        yield "rows beyond an edge read behind the zeros"
