"""Writes a kernel over rows, elements or columns as a nest: a walk in its order, which decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import ceil

from compiler.loops.ir import ColumnKernel, FlatKernel, Load, Reduce, RowKernel, Stage
from compiler.nest.arguments import ColumnsNumber, ElementsNumber
from compiler.nest.ir import BEGIN, END, Index, Items, Nest, Operand, Value
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.targets.cpu.iteration_space import period, repeating_loads
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.rows.blocks import build_row_blocks, build_sums_in_row_blocks
from compiler.targets.cpu.rows.columns import build_columns
from compiler.targets.cpu.rows.ir import Order, RowLoops
from compiler.targets.cpu.rows.squares import build_squares
from compiler.targets.cpu.tiles import rounded_down
from compiler.types import BatchExtent


def build(k: KernelNest, loops: RowLoops) -> Nest:
    """The nest of a kernel behind its last pass."""
    match loops.kernel:
        case RowKernel() as kernel if loops.order is Order.BLOCKS:
            return build_row_blocks(k, kernel, loops)
        case RowKernel() as kernel if loops.order is Order.SQUARES:
            return build_squares(k, kernel)
        case ColumnKernel() as kernel:
            is_blocked = loops.order is Order.BLOCKS
            return build_sums_in_row_blocks(k, kernel, loops) if is_blocked else build_columns(k, kernel, loops)
        case RowKernel() | FlatKernel() as kernel:
            return _build_rows(k, kernel, loops)


def _build_rows(k: KernelNest, kernel: RowKernel | FlatKernel, loops: RowLoops) -> Nest:
    nest = k.nest
    k.open()
    bound = k.argument(ElementsNumber()) if isinstance(kernel, FlatKernel) else 0
    if k.what.has_free_columns:
        k.argument(ColumnsNumber())  # loaded here, where every use is reached
    repeating = repeating_loads(kernel) if loops.order is Order.PERIODS else []
    for load in (load for load in repeating if not load.access.rows):
        k.repeated(load, 0, period(repeating) // LANES)
    with nest.each(BEGIN, END) as row:
        k.new_row(row, [i for s in kernel.stages for i in (*s.body, *s.after) if i not in repeating])
        if repeating:
            _repeating_pass(k, kernel, row, repeating)
        elif isinstance(kernel, FlatKernel):
            left = nest.sub(bound, nest.mul(row, kernel.columns))
            _passes(k, kernel, loops, row, nest.minimum(left, kernel.columns))
        else:
            is_free = k.what.has_free_columns
            _passes(k, kernel, loops, row, k.argument(ColumnsNumber()) if is_free else k.extent(kernel.columns))
    return k.close(Items(kernel.elements, kernel.columns) if isinstance(kernel, FlatKernel) else Items(kernel.rows))


def _passes(k: KernelNest, kernel: RowKernel | FlatKernel, loops: RowLoops, row: Index, columns: Index) -> None:
    for stage, chains in zip(kernel.stages, loops.chains, strict=True):
        if loops.order is Order.REGISTERS:
            _unrolled_pass(k, stage, row, count(kernel.columns))
        else:
            _long_pass(k, kernel, stage, row, columns, chains)
        for instruction in stage.after:
            k.scalar(instruction, row)


def _repeating_pass(k: KernelNest, kernel: RowKernel | FlatKernel, row: Index, repeating: Sequence[Load]) -> None:
    """A row in steps of a whole period, in which repeated values stay in registers."""
    columns, step = count(kernel.columns), period(repeating)
    for load in (load for load in repeating if load.access.rows):
        k.repeated(load, row, ceil(min(step, columns) / LANES))
    body = [i for i in kernel.stages[0].body if i not in repeating]

    def one(column: Index, part: int, mask: Operand | None) -> None:
        for instruction in body:
            k.vector(instruction, row, column, mask, part)

    is_free, whole = k.what.has_free_columns, columns // step * step
    if is_free or whole:
        with k.nest.each(0, k.argument(ColumnsNumber()) if is_free else whole, step) as column:
            for part in range(step // LANES):
                one(k.nest.add(column, part * LANES), part, None)
    for part, rest in enumerate(range(whole, columns, LANES) if not is_free else ()):
        one(rest, part, k.mask_below(rest, columns) if rest + LANES > columns else None)


def _unrolled_pass(k: KernelNest, stage: Stage, row: Index, columns: int) -> None:
    """A short row: its vectors stand side by side and stay in registers for the later stages."""
    vectors = -(-columns // LANES)
    for part in range(vectors):
        column = part * LANES
        mask = k.mask_below(column, columns) if (part + 1) * LANES > columns else None
        for instruction in stage.body:
            if not isinstance(instruction, Reduce):
                k.vector(instruction, row, column, mask, part)
    for instruction in stage.body:
        if isinstance(instruction, Reduce):
            total: Operand | None = None
            for part in range(vectors):
                value = k.wide(instruction.operand, part)
                if (part + 1) * LANES > columns:
                    value = k.masked(instruction, value, k.mask_below(part * LANES, columns))
                total = value if total is None else k.combined(instruction, total, value)
            assert total is not None
            k.put(instruction.result, k.folded(instruction, total))


def _long_pass(
    k: KernelNest, kernel: RowKernel | FlatKernel, stage: Stage, row: Index, columns: Index, chains: int
) -> None:
    """A loop over vectors, with so many accumulators, then one masked vector."""
    if not stage.body:
        return
    nest, extent = k.nest, kernel.columns
    reduces = [i for i in stage.body if isinstance(i, Reduce)]
    slots = range(0, len(reduces) * chains, chains)

    def one(column: Index, carried: Sequence[Operand], chain: int = 0, is_last: bool = False) -> Sequence[Operand]:
        mask = k.mask_below(column, columns) if is_last else None
        for instruction in stage.body:
            if not isinstance(instruction, Reduce):
                k.vector(instruction, row, column, mask)
        following = list(carried)
        for slot, reduce in zip(slots, reduces, strict=True):
            value = k.wide(reduce.operand)
            if mask is not None:
                value = k.masked(reduce, value, mask)
            following[slot + chain] = k.combined(reduce, following[slot + chain], value)
        return following

    def several(column: Value, carried: Sequence[Operand]) -> Sequence[Operand]:
        for chain in range(chains):
            carried = one(nest.add(column, chain * LANES), carried, chain)
        return carried

    values: Sequence[Operand] = [k.identity(r) for r in reduces for _ in range(chains)]
    stop: Index = 0
    if chains > 1:
        stop = rounded_down(nest, columns, LANES * chains)
        values = nest.loop(0, stop, LANES * chains, values, several)
    whole = rounded_down(nest, columns, LANES)
    values = nest.loop(stop, whole, LANES, values, one)
    if isinstance(extent, BatchExtent) or extent % LANES > 0 or isinstance(kernel, FlatKernel):
        # a loop of at most one round, so that carried values join
        values = nest.loop(whole, columns, LANES, values, partial(one, is_last=True))
    for slot, reduce in zip(slots, reduces, strict=True):
        k.put(reduce.result, k.folded(reduce, k.joined(reduce, values[slot : slot + chains])))
