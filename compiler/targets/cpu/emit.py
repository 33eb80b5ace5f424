"""A kernel becomes a nest: those over rows, elements, columns and indices here, contractions in files of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from math import ceil
from typing import assert_never

from compiler.errors.diagnostics import CompilerBug
from compiler.loops.ir import (
    REGISTER_COLUMNS,
    CollectKernel,
    ColumnKernel,
    ContractionKernel,
    CopyKernel,
    FetchKernel,
    FlatKernel,
    IndexTerm,
    Instruction,
    Load,
    PrefixSumKernel,
    Reduce,
    RowKernel,
    ScatterKernel,
    Stage,
    StagedKernel,
    Store,
)
from compiler.loops.printer import statement_lines
from compiler.machine import Machine
from compiler.nest.ir import (
    BEGIN,
    END,
    ColumnsNumber,
    ElementsNumber,
    Index,
    Items,
    Nest,
    Operand,
    RowsNumber,
    Value,
    Zeros,
    vector,
)
from compiler.schedule.addresses import count
from compiler.support.numerics import CHAINS, LANES, LONG_SUM_COLUMNS
from compiler.targets.cpu.iteration_space import (
    has_free_columns,
    is_row_blocked,
    period,
    repeating_loads,
    row_block_of,
    transposed_rows,
)
from compiler.targets.cpu.kernel_frame import in_memory
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.products.build import build
from compiler.targets.cpu.products.ir import Circumstances
from compiler.targets.cpu.products.passes import definition, optimised
from compiler.targets.cpu.row_blocks import emit_row_blocks, emit_sums_in_row_blocks
from compiler.targets.cpu.specialisation import Specialisation
from compiler.targets.cpu.tiles import ceiling, divided
from compiler.targets.cpu.transposing import emit_transposing
from compiler.types import BatchExtent, DType

UNROLLED_VECTORS = REGISTER_COLUMNS // LANES  # rows up to this many vectors are written without a loop


def emit(
    what: Specialisation, machine: Machine, batch: int, lasts: bool = False, passing: frozenset[int] = frozenset()
) -> Nest:
    """The code of a kernel. `batch` is the nominal batch, a hint for tile sizes only.

    The right operand of a product that `lasts` is the same from call to call. What is stored to the buffers `passing`
    may go past the caches.
    """
    kernel, block = what.kernel, row_block_of(what.kernel, machine.tuning, machine.registers)
    lanes = LANES
    if isinstance(kernel, StagedKernel) and block.rows > 1:
        lanes = _lanes_of_registers(kernel.stages, machine)
    k = KernelNest(kernel, machine, statement_lines(kernel), what.literals, what.numbers, passing, lanes)
    match kernel:
        case RowKernel() if block.rows > 1:
            return emit_row_blocks(k, kernel, block)
        case RowKernel() if transposed_rows(kernel):
            return emit_transposing(k, kernel)
        case RowKernel() | FlatKernel():
            return _emit_rows(k, kernel)
        case ColumnKernel():
            return emit_sums_in_row_blocks(k, kernel, block) if block.rows > 1 else _emit_columns(k, kernel)
        case ContractionKernel():
            return build(k, optimised(definition(kernel, lasts), Circumstances(machine, batch)))
        case ScatterKernel():
            return _emit_scatter(k, kernel)
        case PrefixSumKernel():
            return _emit_prefix_sum(k, kernel)
        case FetchKernel() | CollectKernel() | CopyKernel():
            raise CompilerBug("emit", "transfers are part of the runner")
        case _:
            assert_never(kernel)


def _all(stages: Sequence[Stage]) -> list[Instruction]:
    return [i for stage in stages for i in (*stage.body, *stage.after)]


# rows


def _emit_rows(k: KernelNest, kernel: RowKernel | FlatKernel) -> Nest:
    nest = k.nest
    k.open()
    bound = k.argument(ElementsNumber()) if isinstance(kernel, FlatKernel) else 0
    if has_free_columns(kernel, k.tuning):
        k.argument(ColumnsNumber())  # loaded here, where every use is reached
    repeating = repeating_loads(kernel)
    for load in (load for load in repeating if not load.access.rows):
        k.repeated(load, 0, period(repeating) // LANES)

    def row_body(row: Value, carried: list[Value]) -> Sequence[Operand]:
        k.new_row(row, [i for i in _all(kernel.stages) if i not in repeating])
        if repeating:
            _repeating_pass(k, kernel, row, repeating)
            return []
        if isinstance(kernel, FlatKernel):
            left = nest.sub(bound, nest.mul(row, kernel.columns))
            columns = nest.minimum(left, kernel.columns)
        else:
            columns = k.argument(ColumnsNumber()) if has_free_columns(kernel, k.tuning) else k.extent(kernel.columns)
        for stage in kernel.stages:
            if _is_unrolled(kernel):
                _unrolled_pass(k, stage, row, count(kernel.columns))
            else:
                _long_pass(k, kernel, stage, row, columns)
            for instruction in stage.after:
                k.scalar(instruction, row)
        return []

    nest.loop(BEGIN, END, 1, [], row_body)
    return k.close(items_of(kernel, k.machine))


def _is_unrolled(kernel: RowKernel | FlatKernel) -> bool:
    """Whether all rows are short, and equally so: the last one of a flat kernel may have fewer elements."""
    is_short = isinstance(kernel.columns, int) and kernel.columns <= UNROLLED_VECTORS * LANES
    return is_short and isinstance(kernel, RowKernel)


def _lanes_of_registers(stages: Sequence[Stage], machine: Machine) -> int:
    """The lanes of a register for the widest type that a kernel moves."""
    moved = (i.dtype for i in _all(stages) if isinstance(i, Load | Store | Reduce))
    return min((LANES, *(machine.lanes(dtype) for dtype in moved)))


def items_of(kernel: RowKernel | FlatKernel | ColumnKernel, machine: Machine) -> Items:
    """The items of a kernel, by its own extents."""
    if isinstance(kernel, ColumnKernel):
        blocks = 1 if is_row_blocked(kernel, machine.tuning) else -(-count(kernel.columns) // LANES)
        return Items(kernel.outer, 1, blocks)
    if isinstance(kernel, FlatKernel):
        return Items(kernel.elements, kernel.columns)
    if rows := transposed_rows(kernel):
        return Items(kernel.rows, rows, -(-rows // LANES))
    return Items(kernel.rows, row_block_of(kernel, machine.tuning, machine.registers).rows)


def _repeating_pass(k: KernelNest, kernel: RowKernel | FlatKernel, row: Index, repeating: Sequence[Load]) -> None:
    """A row in steps of a whole period, in which what repeats stays in registers."""
    columns, step = count(kernel.columns), period(repeating)
    for load in (load for load in repeating if load.access.rows):
        k.repeated(load, row, ceil(min(step, columns) / LANES))
    body = [i for i in kernel.stages[0].body if i not in repeating]

    def one(column: Index, part: int, mask: Operand | None) -> None:
        for instruction in body:
            k.vector(instruction, row, column, mask, part)

    def whole(column: Value, carried: list[Value]) -> Sequence[Operand]:
        for part in range(step // LANES):
            one(k.nest.add(column, part * LANES), part, None)
        return []

    if has_free_columns(kernel, k.tuning):
        k.nest.loop(0, k.argument(ColumnsNumber()), step, [], whole)
        return
    end = columns // step * step
    if end:
        k.nest.loop(0, end, step, [], whole)
    for part, column in enumerate(range(end, columns, LANES)):
        one(column, part, k.mask_below(column, columns) if column + LANES > columns else None)


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


def _long_pass(k: KernelNest, kernel: RowKernel | FlatKernel, stage: Stage, row: Index, columns: Index) -> None:
    """A loop over vectors, with several accumulators where the row is long, then one masked vector."""
    if not stage.body:
        return
    nest, extent = k.nest, kernel.columns
    reduces = [i for i in stage.body if isinstance(i, Reduce)]
    chains = CHAINS if reduces and (isinstance(extent, BatchExtent) or extent >= LONG_SUM_COLUMNS) else 1
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
        stop = _rounded_down(k, columns, LANES * chains)
        values = nest.loop(0, stop, LANES * chains, values, several)
    whole = _rounded_down(k, columns, LANES)
    values = nest.loop(stop, whole, LANES, values, one)
    if isinstance(extent, BatchExtent) or extent % LANES > 0 or isinstance(kernel, FlatKernel):
        # a loop of at most one round, so that carried values join
        values = nest.loop(whole, columns, LANES, values, partial(one, is_last=True))
    for slot, reduce in zip(slots, reduces, strict=True):
        k.put(reduce.result, k.folded(reduce, _joined(k, reduce, values[slot : slot + chains])))


def _joined(k: KernelNest, reduce: Reduce, lanes: Sequence[Operand]) -> Operand:
    """The accumulators of a fold, pair by pair."""
    while len(lanes) > 1:
        lanes = [k.combined(reduce, a, b) for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
    return lanes[0]


def _rounded_down(k: KernelNest, number: Index, step: int) -> Index:
    if isinstance(number, int):
        return number // step * step
    return k.nest.binary("and", number, -step)


# columns


def _emit_columns(k: KernelNest, kernel: ColumnKernel) -> Nest:
    least = count(kernel.columns)
    k.open()
    rows = k.argument(RowsNumber())
    width = k.argument(ColumnsNumber()) if least > LANES else least

    def block(outer: Index, column: Index, mask: Operand | None) -> None:
        for stage in kernel.stages:
            _rows_pass(k, stage, outer, rows, column, width, mask)
            k.new_row(outer, stage.after)
            for instruction in stage.after:
                k.vector(instruction, outer, column, mask)

    _over_blocks(k, width, least % LANES > 0, block)
    return k.close(items_of(kernel, k.machine))


def _over_blocks(
    k: KernelNest, width: Index, has_rest: bool, block: Callable[[Index, Index, Operand | None], None]
) -> None:
    """Items that are a vector of columns each. `block` gets its outer index, its first column, and its mask, if any."""
    blocks = ceiling(k.nest, width, LANES)

    def body(item: Value, carried: list[Value]) -> Sequence[Operand]:
        outer, number = divided(k.nest, item, blocks)
        column = k.nest.mul(number, LANES)
        block(outer, column, k.mask_below(column, width) if has_rest else None)
        return []

    k.nest.loop(BEGIN, END, 1, [], body)


def _ask_ahead(k: KernelNest, body: Sequence[Instruction], row: Index, place: Index) -> None:
    """Ask for what later rows read: a processor does not foresee pieces of rows that lie far apart."""
    for load in (i for i in body if isinstance(i, Load) and i.index is None):
        if load.access.rows and load.access.columns == (IndexTerm(1, None, 1),):
            with k.of(load):
                line = k.nest.pointer(k.pointer(load.access, row), place, in_memory(load.dtype))
                k.nest.prefetch(line)


def _rows_pass(
    k: KernelNest, stage: Stage, outer: Index, rows: Index, column: Index, width: Index, mask: Operand | None
) -> None:
    """One pass over the rows of a block: row n goes into accumulator n mod CHAINS; sums of products have one only."""
    if not stage.body:
        return
    nest, reduces = k.nest, [i for i in stage.body if isinstance(i, Reduce)]
    body = [i for i in stage.body if not isinstance(i, Reduce)]
    chains = [1 if r.factor is not None else CHAINS for r in reduces]
    slots = list(accumulate(chains, initial=0))[:-1]
    carries = [k.identity(r) for r, number in zip(reduces, chains, strict=True) for _ in range(number)]
    first = nest.mul(outer, rows)
    later = nest.add(nest.mul(width, k.tuning.rows_ahead), column) if isinstance(width, Value) else None

    def one(row: Index, carried: Sequence[Operand], chain: int) -> Sequence[Operand]:
        place = nest.add(first, row)
        k.digits = {place: (outer, row)}
        k.new_row(place, body)
        if later is not None:
            _ask_ahead(k, body, place, later)
        for instruction in body:
            k.vector(instruction, place, column, mask)
        following = list(carried)
        for slot, reduce in zip(slots, reduces, strict=True):
            own = slot if reduce.factor is not None else slot + chain
            factor = None if reduce.factor is None else k.wide(reduce.factor)
            following[own] = k.combined(reduce, following[own], k.wide(reduce.operand), factor)
        return following

    def several(row: Value, carried: Sequence[Operand]) -> Sequence[Operand]:
        for chain in range(CHAINS):
            carried = one(nest.add(row, chain), carried, chain)
        return carried

    stop = _rounded_down(k, rows, CHAINS)
    values = nest.loop(0, stop, CHAINS, carries, several)
    values = nest.loop(stop, rows, 1, values, lambda r, c: one(r, c, 0))
    for slot, number, reduce in zip(slots, chains, reduces, strict=True):
        k.put(reduce.result, _joined(k, reduce, values[slot : slot + number]))


# indexed and running sums


def _emit_scatter(k: KernelNest, kernel: ScatterKernel) -> Nest:
    nest = k.nest
    indices, updates = (buffer.dtype for buffer in kernel.buffers[:2])
    width, extent = count(kernel.columns), kernel.extent
    wide = vector(updates, LANES)
    k.open()
    rows = k.extent(kernel.rows)

    def block(outer: Index, column: Index, mask: Operand | None) -> None:
        base = nest.pointer(k.bases[2], nest.add(nest.mul(outer, extent * width), column), updates)
        source = nest.pointer(k.bases[1], nest.add(nest.mul(nest.mul(outer, rows), width), column), updates)
        own = nest.mul(outer, rows) if kernel.has_own_indices else 0
        listed = nest.pointer(k.bases[0], own, indices)

        def clear(row: Value, carried: list[Value]) -> Sequence[Operand]:
            k.store_vector(Zeros(wide), nest.pointer(base, nest.mul(row, width), updates), updates, mask)
            return []

        def add(row: Value, carried: list[Value]) -> Sequence[Operand]:
            index = nest.converted(k.load_scalar(nest.pointer(listed, row, indices), indices), DType.I64)
            index = nest.minimum(nest.maximum(index, 0), extent - 1)
            place = nest.pointer(base, nest.mul(index, width), updates)
            old = nest.load(place, wide, updates.size)
            new = nest.load(nest.pointer(source, nest.mul(row, width), updates), wide, updates.size)
            k.store_vector(nest.binary("add", old, new, wide), place, updates, mask)
            return []

        nest.loop(0, extent, 1, [], clear)
        nest.loop(0, rows, 1, [], add)

    _over_blocks(k, width, width % LANES > 0, block)
    return k.close(Items(kernel.outer, 1, -(-width // LANES)))


def _emit_prefix_sum(k: KernelNest, kernel: PrefixSumKernel) -> Nest:
    nest, dtype = k.nest, kernel.buffers[0].dtype
    width, wide = count(kernel.columns), vector(dtype, LANES)
    k.open()
    rows = k.extent(kernel.rows)

    def block(outer: Index, column: Index, mask: Operand | None) -> None:
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

    _over_blocks(k, width, width % LANES > 0, block)
    return k.close(Items(kernel.outer, 1, -(-width // LANES)))
