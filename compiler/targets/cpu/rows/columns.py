"""Writes kernels whose items are vectors of columns as nests: sums over rows, sums by index, running sums."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import accumulate

from compiler.loops.ir import ColumnKernel, Load, PrefixSumKernel, Reduce, ScatterKernel
from compiler.nest.arguments import ColumnsNumber, RowsNumber
from compiler.nest.ir import BEGIN, END, Index, Items, Nest, Operand, Value, Zeros, vector
from compiler.schedule.addresses import count
from compiler.support.numerics import LANES
from compiler.targets.cpu.kernel_frame import in_memory
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.rows.ir import RowLoops
from compiler.targets.cpu.tiles import ceiling, divided, rounded_down
from compiler.types import DType


def build_columns(k: KernelNest, kernel: ColumnKernel, loops: RowLoops) -> Nest:
    least = count(kernel.columns)
    k.open()
    rows = k.argument(RowsNumber())
    width = k.argument(ColumnsNumber()) if least > LANES else least
    with over_column_blocks(k, width, least % LANES > 0) as (outer, column, mask):
        for number, stage in enumerate(kernel.stages):
            _rows_pass(k, loops, number, (outer, rows, column, width), mask)
            k.new_row(outer, stage.after)
            for instruction in stage.after:
                k.vector(instruction, outer, column, mask)
    return k.close(Items(kernel.outer, 1, -(-least // LANES)))


def _rows_pass(
    k: KernelNest, loops: RowLoops, number: int, place: tuple[Index, Index, Index, Index], mask: Operand | None
) -> None:
    """One pass over the rows of a block for a stage: row n goes into a chain by turns; sums of products have one only.

    The `place` is the outer index, the rows of the block, the column, and how many of them there are.
    """
    stage, most = loops.kernel.stages[number], loops.chains[number]
    if not stage.body:
        return
    outer, rows, column, width = place
    asks = [(ask, stage.body[ask.statement]) for ask in loops.asks if ask.stage == number]
    nest, reduces = k.nest, [i for i in stage.body if isinstance(i, Reduce)]
    body = [i for i in stage.body if not isinstance(i, Reduce)]
    chains = [1 if r.factor is not None else most for r in reduces]
    slots = list(accumulate(chains, initial=0))[:-1]
    carries = [k.identity(r) for r, number in zip(reduces, chains, strict=True) for _ in range(number)]
    first = nest.mul(outer, rows)
    later = nest.add(nest.mul(width, loops.rows_ahead), column) if loops.rows_ahead else 0

    def one(row: Index, carried: Sequence[Operand], chain: int) -> Sequence[Operand]:
        place = nest.add(first, row)
        k.digits = {place: (outer, row)}
        k.new_row(place, body)
        for ask, load in asks:
            assert isinstance(load, Load)
            with k.of(load):
                line = nest.pointer(k.pointer(load.access, place), later, in_memory(load.dtype))
                nest.prefetch(line, locality=ask.locality)
        for instruction in body:
            k.vector(instruction, place, column, mask)
        following = list(carried)
        for slot, reduce in zip(slots, reduces, strict=True):
            own = slot if reduce.factor is not None else slot + chain
            factor = None if reduce.factor is None else k.wide(reduce.factor)
            following[own] = k.combined(reduce, following[own], k.wide(reduce.operand), factor)
        return following

    def several(row: Value, carried: Sequence[Operand]) -> Sequence[Operand]:
        for chain in range(most):
            carried = one(nest.add(row, chain), carried, chain)
        return carried

    stop = rounded_down(nest, rows, most)
    values = nest.loop(0, stop, most, carries, several)
    values = nest.loop(stop, rows, 1, values, lambda r, c: one(r, c, 0))
    for slot, number, reduce in zip(slots, chains, reduces, strict=True):
        k.put(reduce.result, k.joined(reduce, values[slot : slot + number]))


@contextmanager
def over_column_blocks(k: KernelNest, width: Index, has_rest: bool) -> Generator[tuple[Index, Index, Operand | None]]:
    """Items that are a vector of columns each: the outer index of one, its first column, and its mask, if any."""
    blocks = ceiling(k.nest, width, LANES)
    with k.nest.each(BEGIN, END) as item:
        outer, number = divided(k.nest, item, blocks)
        column = k.nest.mul(number, LANES)
        yield outer, column, k.mask_below(column, width) if has_rest else None


def build_scatter(k: KernelNest, kernel: ScatterKernel) -> Nest:
    nest = k.nest
    indices, updates = (buffer.dtype for buffer in kernel.buffers[:2])
    width, extent = count(kernel.columns), kernel.extent
    wide = vector(updates, LANES)
    k.open()
    rows = k.extent(kernel.rows)
    with over_column_blocks(k, width, width % LANES > 0) as (outer, column, mask):
        base = nest.pointer(k.bases[2], nest.add(nest.mul(outer, extent * width), column), updates)
        source = nest.pointer(k.bases[1], nest.add(nest.mul(nest.mul(outer, rows), width), column), updates)
        own = nest.mul(outer, rows) if kernel.has_own_indices else 0
        listed = nest.pointer(k.bases[0], own, indices)
        with nest.each(0, extent) as row:
            k.store_vector(Zeros(wide), nest.pointer(base, nest.mul(row, width), updates), updates, mask)
        with nest.each(0, rows) as row:
            index = nest.converted(k.load_scalar(nest.pointer(listed, row, indices), indices), DType.I64)
            index = nest.minimum(nest.maximum(index, 0), extent - 1)
            place = nest.pointer(base, nest.mul(index, width), updates)
            old = nest.load(place, wide, updates.size)
            new = nest.load(nest.pointer(source, nest.mul(row, width), updates), wide, updates.size)
            k.store_vector(nest.binary("add", old, new, wide), place, updates, mask)
    return k.close(Items(kernel.outer, 1, -(-width // LANES)))


def build_prefix_sum(k: KernelNest, kernel: PrefixSumKernel) -> Nest:
    nest, dtype = k.nest, kernel.buffers[0].dtype
    width, wide = count(kernel.columns), vector(dtype, LANES)
    k.open()
    rows = k.extent(kernel.rows)
    with over_column_blocks(k, width, width % LANES > 0) as (outer, column, mask):
        start = nest.add(nest.mul(nest.mul(outer, rows), width), column)
        source, target = (nest.pointer(k.bases[b], start, dtype) for b in (0, 1))

        def add(row: Value, sums: list[Value]) -> Sequence[Operand]:
            place = nest.sub(nest.sub(rows, 1), row) if kernel.reverse else row
            offset = nest.mul(place, width)
            value = nest.load(nest.pointer(source, offset, dtype), wide, dtype.size)
            total = nest.binary("add", sums[0], value, wide)
            k.store_vector(total, nest.pointer(target, offset, dtype), dtype, mask)
            return [total]

        nest.loop(0, rows, 1, [Zeros(wide)], add)
    return k.close(Items(kernel.outer, 1, -(-width // LANES)))
