"""The passes that decide how a kernel over rows or columns is gone through, in order, with the reason for each."""

from __future__ import annotations

import math
from dataclasses import replace

from compiler.loops.ir import REGISTER_COLUMNS, ColumnKernel, Load, Reduce, RowKernel, Stage, Store
from compiler.machine import Machine
from compiler.schedule.addresses import count
from compiler.support.numerics import CHAINS, LANES, LONG_SUM_COLUMNS
from compiler.targets.cpu.iteration_space import DENSE, repeating_loads, row_block_of, transposed_rows
from compiler.targets.cpu.kernel_pass import KernelPass
from compiler.targets.cpu.rows import ir
from compiler.types import BatchExtent

COMPARED = 4096  # bytes: places that agree up to whole ones of these are taken for one until a store is done
FEWEST_APART = 256  # of them, between which the columns of all rows repeat, for their order to matter


def definition(kernel: ir.OrderedKernel, unread: frozenset[int] = frozenset()) -> ir.RowLoops:
    """Row by row, in vectors of columns. No kernel reads the `unread` buffers, and no cache holds them."""
    return ir.RowLoops(kernel, unread, tuple(chains_of(kernel, stage) for stage in kernel.stages))


def chains_of(kernel: ir.OrderedKernel, stage: Stage) -> int:
    """The accumulators of a stage's sums. Their number decides bits: no pass changes it."""
    if isinstance(kernel, ColumnKernel):
        return CHAINS if stage.body else 1
    is_long = isinstance(kernel.columns, BatchExtent) or kernel.columns >= LONG_SUM_COLUMNS
    return CHAINS if is_long and any(isinstance(i, Reduce) for i in stage.body) else 1


def unroll_and_jam(loops: ir.RowLoops, machine: Machine) -> ir.RowLoops:
    block = row_block_of(loops.kernel, machine.tuning, machine.registers)
    if block.rows == 1:
        return loops
    blocked = replace(loops, order=ir.Order.BLOCKS, block=block)
    size, columns = max(b.dtype.size for b in loops.kernel.buffers), count(loops.kernel.columns)
    return replace(blocked, zeros=max(((span + columns) * size for span in ir.spans_beyond_edges(blocked)), default=0))


def transpose_squares(loops: ir.RowLoops, machine: Machine) -> ir.RowLoops:
    return _in_order(loops, ir.Order.SQUARES)


def keep_periods(loops: ir.RowLoops, machine: Machine) -> ir.RowLoops:
    return _in_order(loops, ir.Order.PERIODS)


def keep_rows(loops: ir.RowLoops, machine: Machine) -> ir.RowLoops:
    return _in_order(loops, ir.Order.REGISTERS)


def _in_order(loops: ir.RowLoops, order: ir.Order) -> ir.RowLoops:
    is_free = loops.order is ir.Order.VECTORS and fits(loops.kernel, order)
    return replace(loops, order=order) if is_free else loops


def fits(kernel: ir.OrderedKernel, order: ir.Order) -> bool:
    """Whether the rows of a kernel may follow each other in that order, as far as it is not one of blocks."""
    match order:
        case ir.Order.SQUARES:
            return transposed_rows(kernel) > 0
        case ir.Order.PERIODS:
            return not isinstance(kernel, ColumnKernel) and len(repeating_loads(kernel)) > 0
        case ir.Order.REGISTERS:  # all rows are equally short: the last one of a flat kernel may have fewer elements
            is_row = isinstance(kernel, RowKernel) and isinstance(kernel.columns, int)
            return is_row and count(kernel.columns) <= REGISTER_COLUMNS
        case ir.Order.VECTORS | ir.Order.BLOCKS:
            return True


def narrow_vectors(loops: ir.RowLoops, machine: Machine) -> ir.RowLoops:
    if loops.order is not ir.Order.BLOCKS:
        return loops
    every = [i for stage in loops.kernel.stages for i in (*stage.body, *stage.after)]
    lanes = [machine.lanes(i.dtype) for i in every if isinstance(i, Load | Store | Reduce)]
    return replace(loops, lanes=min(LANES, *lanes))


def store_past_caches(loops: ir.RowLoops, machine: Machine) -> ir.RowLoops:
    if loops.order is not ir.Order.BLOCKS or not loops.unread:
        return loops
    streams = [k for k, i in enumerate(loops.body) if isinstance(i, Store) and is_aligned_result(loops, i)]
    return replace(loops, streams=tuple(streams))


def is_aligned_result(loops: ir.RowLoops, store: Store) -> bool:
    """Whether it writes a result that nobody reads soon, whole lines at once."""
    places = (store.access.offset, *(term.stride for term in store.access.rows))
    return store.access.buffer in loops.unread and all(place % LANES == 0 for place in places)


def choose_direction(loops: ir.RowLoops, machine: Machine) -> ir.RowLoops:
    if not loops.streams or (apart := _repeats_after(loops)) < FEWEST_APART:
        return loops
    return replace(loops, apart=apart)


def _repeats_after(loops: ir.RowLoops) -> int:
    """Bytes after which the same columns of all rows lie at the same place again, up to whole ones of COMPARED.

    1 where columns have different sizes.
    """
    size, places = loops.moved[0].dtype.size, dict[ir.Path, int]()
    found = [COMPARED, count(loops.kernel.columns) * size]
    for moved in loops.moved:
        found += [term.stride * size for term in moved.access.rows]
        for row in range(loops.block.rows):
            place = ir.place_of(loops.block, moved, row)
            found.append((place - places.setdefault(ir.path_of(moved.access), place)) * size)
    return math.gcd(*found) if all(moved.dtype.size == size for moved in loops.moved) else 1


def ask_for_later_blocks(loops: ir.RowLoops, machine: Machine) -> ir.RowLoops:
    if loops.order is not ir.Order.BLOCKS:
        return loops
    newest: dict[ir.Path, tuple[int, Load | Store]] = {}  # which reads what no block before it has read
    for number, moved in enumerate(loops.body):
        if isinstance(moved, Load | Store) and moved.access.rows and number not in loops.streams:
            found = newest.get(ir.path_of(moved.access))
            if found is None or moved.access.offset > found[1].access.offset:
                newest[ir.path_of(moved.access)] = number, moved
    return replace(loops, asks=tuple(_ask(loops, machine, *found) for found in newest.values()))


def _ask(loops: ir.RowLoops, machine: Machine, number: int, moved: Load | Store) -> ir.Ask:
    block, tuning = loops.block, machine.tuning
    beside, size = block.steps(moved.access)[1], moved.dtype.size
    is_strip = isinstance(loops.kernel, ColumnKernel) and block.pixels == block.width
    if is_strip and beside > count(loops.kernel.columns):
        return ir.Ask(number, tuning.strip_bytes_ahead // size)
    step = block.pixels * max(beside, LANES)
    ahead = max(1, tuning.block_bytes_ahead * block.lines // (step * size)) * step
    return ir.Ask(number, ahead, locality=ir.SECOND_LEVEL)


def ask_for_later_rows(loops: ir.RowLoops, machine: Machine) -> ir.RowLoops:
    kernel = loops.kernel
    if loops.order is not ir.Order.VECTORS or not isinstance(kernel, ColumnKernel) or count(kernel.columns) <= LANES:
        return loops
    asks = [
        ir.Ask(number, stage=stage)
        for stage, of in enumerate(kernel.stages)
        for number, i in enumerate(of.body)
        if isinstance(i, Load) and i.index is None and i.access.rows and i.access.columns == DENSE
    ]
    return replace(loops, rows_ahead=machine.tuning.rows_ahead, asks=tuple(asks))


PASSES = tuple(
    KernelPass(run, reason)
    for run, reason in (
        (unroll_and_jam, "elements that several rows read, as pixels of a window, are loaded once for all of them"),
        (transpose_squares, "elements that lie apart along the columns are neighbours along the rows"),
        (keep_periods, "what repeats along the rows stays in registers"),
        (keep_rows, "short rows need no loop, and stay in registers from one stage to the next"),
        (narrow_vectors, "a vector of several registers would take those of the other rows of the block"),
        (store_past_caches, "results that nobody reads soon push nothing out of the caches"),
        (choose_direction, "a load waits for a store that it agrees with up to whole pages"),
        (ask_for_later_blocks, "rows come from far away, and a processor does not foresee those of several lines"),
        (ask_for_later_rows, "a processor does not foresee pieces of rows that lie far apart"),
    )
)
