"""A kernel becomes the text of an LLVM function: the walks over rows, columns and indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import ceil

from compiler.diagnostics import CompilerBug
from compiler.loops.ir import (
    REGISTER_COLUMNS,
    Instruction,
    Kernel,
    Load,
    Reduce,
    Stage,
    Store,
    Term,
    TileContract,
    Walk,
)
from compiler.loops.printer import statement_lines
from compiler.machine import Machine
from compiler.schedule.access import count
from compiler.targets.cpu.contraction import emit_tiles
from compiler.targets.cpu.contraction_blocks import emit_blocks, walks_in_blocks
from compiler.targets.cpu.contraction_parts import emit_parts, sums_in_blocks
from compiler.targets.cpu.contraction_sums import emit_sums, sums_side_by_side
from compiler.targets.cpu.emit_compute import cast
from compiler.targets.cpu.identity import LONG, Identity
from compiler.targets.cpu.kernel_code import ColumnsNumber, Items, KernelCode, RowsNumber, TotalNumber
from compiler.targets.cpu.kernel_text import KernelText
from compiler.targets.cpu.masks import store_masked
from compiler.targets.cpu.text import LANES, MEMORY, REGISTER, splat_of
from compiler.targets.cpu.tiles import ceiling, tiling
from compiler.targets.cpu.together import emit_sums_together, emit_together
from compiler.targets.cpu.transposing import emit_transposing
from compiler.targets.cpu.walks import (
    block_of,
    has_free_columns,
    is_together,
    period,
    repeating_loads,
    transposed_rows,
)
from compiler.types import BatchExtent, DType, Extent

UNROLLED_VECTORS = REGISTER_COLUMNS // LANES  # rows up to this many vectors are written without a loop
CHAINS = 4  # accumulators of a long reduction
ROWS_AHEAD = 12  # how many rows before its use a piece of a row is asked for


def emit(
    what: Identity, machine: Machine, batch: int, lasts: bool = False, passing: frozenset[int] = frozenset()
) -> KernelCode:
    """The code of a kernel. `batch` is the nominal batch, a hint for tile sizes only.

    The right operand of a product that `lasts` is the same from call to call. What is stored to the buffers `passing`
    may go past the caches.
    """
    kernel, block = what.kernel, block_of(what.kernel, machine.registers)
    lanes = _lanes_of_registers(kernel, machine) if block.rows > 1 else LANES
    text = KernelText(kernel, machine, statement_lines(kernel), what.literals, len(what.numbers), passing, lanes)
    match kernel.walk:
        case Walk.ROWS:
            if block.rows > 1:
                return emit_together(text, block)
            return emit_transposing(text, what.line) if what.line else _emit_rows(text)
        case Walk.COLUMNS:
            return emit_sums_together(text, block) if block.rows > 1 else _emit_columns(text)
        case Walk.TILES:
            assert kernel.contraction is not None
            return _emit_product(text, kernel.contraction, batch, lasts)
        case Walk.SCATTER | Walk.SCATTER_BY_ROW:
            return _emit_scatter(text)
        case Walk.CUMULATE:
            return _emit_cumulate(text)
        case Walk.FETCH | Walk.COLLECT:
            raise CompilerBug("emit", "transfers are part of the runner")


def _emit_product(k: KernelText, contract: TileContract, batch: int, lasts: bool) -> KernelCode:
    if sums_in_blocks(contract):
        return emit_parts(k, batch)
    cut = tiling(contract, k.machine, batch)
    if not lasts and sums_side_by_side(contract, cut):
        return emit_sums(k, cut, batch)
    if walks_in_blocks(contract, cut):
        return emit_blocks(k, cut, batch, lasts)
    return emit_tiles(k, batch, lasts)


def _all(stages: Sequence[Stage]) -> list[Instruction]:
    return [i for stage in stages for i in (*stage.body, *stage.after)]


# rows


def _emit_rows(k: KernelText) -> KernelCode:
    kernel, text = k.kernel, k.text
    k.open()
    bound = k.argument(TotalNumber()) if kernel.total is not None else ""
    if has_free_columns(kernel):
        k.argument(ColumnsNumber())  # loaded here, where every use is reached
    repeating = repeating_loads(kernel)
    for load in (load for load in repeating if not load.access.rows):
        k.repeated(load, "0", period(repeating) // LANES)

    def row_body(row: str, carried: list[str]) -> list[str]:
        k.new_row(row, [i for i in _all(kernel.stages) if i not in repeating])
        if repeating:
            _repeating_pass(k, kernel.stages[0], row, repeating)
            return []
        if kernel.total is not None:
            assert isinstance(kernel.columns, int)
            left = text.let(f"sub i64 {bound}, {text.mul(row, kernel.columns)}")
            columns = text.minimum(left, str(kernel.columns))
        else:
            columns = k.argument(ColumnsNumber()) if has_free_columns(kernel) else k.extent(kernel.columns)
        for stage in kernel.stages:
            if isinstance(kernel.columns, int) and kernel.total is None and kernel.columns <= UNROLLED_VECTORS * LANES:
                _unrolled_pass(k, stage, row, kernel.columns)
            else:
                _long_pass(k, stage, row, columns, kernel.columns)
            for instruction in stage.after:
                k.scalar(instruction, row)
        return []

    text.loop("%begin", "%end", 1, [], row_body)
    return k.close(items_of_walk(kernel, k.machine.registers))


def _lanes_of_registers(kernel: Kernel, machine: Machine) -> int:
    """The lanes of a register for the widest of what a kernel of one stage moves."""
    (stage,) = kernel.stages
    moved = (i.dtype for i in (*stage.body, *stage.after) if isinstance(i, Load | Store | Reduce))
    return min((LANES, *(machine.lanes(dtype) for dtype in moved)))


def items_of_walk(kernel: Kernel, registers: int) -> Items:
    """The items of a walk over rows or columns."""
    if kernel.walk is Walk.COLUMNS:
        return Items(kernel.outer, 1, 1 if is_together(kernel) else -(-count(kernel.columns) // LANES))
    if kernel.total is not None:
        return Items(kernel.total, count(kernel.columns))
    if rows := transposed_rows(kernel):
        return Items(kernel.rows, rows, -(-rows // LANES))
    return Items(kernel.rows, block_of(kernel, registers).rows)


def _repeating_pass(k: KernelText, stage: Stage, row: str, repeating: Sequence[Load]) -> None:
    """A row in steps of a whole period, in which what repeats stays in registers."""
    columns, step = count(k.kernel.columns), period(repeating)
    for load in (load for load in repeating if load.access.rows):
        k.repeated(load, row, ceil(min(step, columns) / LANES))
    body = [i for i in stage.body if i not in repeating]

    def one(column: str, part: int, mask: str | None) -> None:
        for instruction in body:
            k.vector(instruction, row, column, mask, part)

    def whole(column: str, carried: list[str]) -> list[str]:
        for part in range(step // LANES):
            one(k.text.add(column, part * LANES), part, None)
        return []

    if has_free_columns(k.kernel):
        k.text.loop("0", k.argument(ColumnsNumber()), step, [], whole)
        return
    end = columns // step * step
    if end:
        k.text.loop("0", str(end), step, [], whole)
    for part, column in enumerate(range(end, columns, LANES)):
        one(str(column), part, k.mask_below(str(column), str(columns)) if column + LANES > columns else None)


def _unrolled_pass(k: KernelText, stage: Stage, row: str, columns: int) -> None:
    """A short row: its vectors stand side by side and stay in registers for the later stages."""
    vectors = -(-columns // LANES)
    for part in range(vectors):
        column = str(part * LANES)
        mask = k.mask_below(column, str(columns)) if (part + 1) * LANES > columns else None
        for instruction in stage.body:
            if not isinstance(instruction, Reduce):
                k.vector(instruction, row, column, mask, part)
    for instruction in stage.body:
        if isinstance(instruction, Reduce):
            total = ""
            for part in range(vectors):
                value = k.wide(instruction.operand, part)
                if (part + 1) * LANES > columns:
                    value = k.masked(instruction, value, k.mask_below(str(part * LANES), str(columns)))
                total = value if not total else k.combined(instruction, total, value)
            k.put(instruction.result, k.folded(instruction, total), REGISTER[instruction.dtype], wide=False)


def _long_pass(k: KernelText, stage: Stage, row: str, columns: str, extent: Extent) -> None:
    """A loop over vectors, with several accumulators where the row is long, then one masked vector."""
    if not stage.body:
        return
    text = k.text
    reduces = [i for i in stage.body if isinstance(i, Reduce)]
    chains = CHAINS if reduces and (isinstance(extent, BatchExtent) or extent >= LONG) else 1
    carries = [
        (f"<{LANES} x {REGISTER[r.dtype]}>", splat_of(REGISTER[r.dtype], k.identity(r)))
        for r in reduces
        for _ in range(chains)
    ]

    def one(column: str, mask: str | None) -> None:
        for instruction in stage.body:
            if not isinstance(instruction, Reduce):
                k.vector(instruction, row, column, mask)

    def folded(carried: list[str], chain: int, mask: str | None) -> list[str]:
        following = list(carried)
        for number, reduce in enumerate(reduces):
            value = k.wide(reduce.operand)
            if mask is not None:
                value = k.masked(reduce, value, mask)
            place = number * chains + chain
            following[place] = k.combined(reduce, following[place], value)
        return following

    def several(column: str, carried: list[str]) -> list[str]:
        for chain in range(chains):
            one(text.add(column, chain * LANES), None)
            carried = folded(carried, chain, None)
        return carried

    def single(column: str, carried: list[str]) -> list[str]:
        one(column, None)
        return folded(carried, 0, None)

    values = [initial for _, initial in carries]
    start = "0"
    if chains > 1:
        stop = _rounded_down(k, columns, LANES * chains)
        values = text.loop(
            start, stop, LANES * chains, [(t, v) for (t, _), v in zip(carries, values, strict=True)], several
        )
        start = stop
    whole = _rounded_down(k, columns, LANES)
    values = text.loop(start, whole, LANES, [(t, v) for (t, _), v in zip(carries, values, strict=True)], single)
    has_rest = isinstance(extent, BatchExtent) or extent % LANES > 0
    if has_rest or k.kernel.total is not None:
        values = _tail(k, whole, columns, carries, values, one, folded)
    for number, reduce in enumerate(reduces):
        lanes = values[number * chains : (number + 1) * chains]
        while len(lanes) > 1:
            lanes = [k.combined(reduce, a, b) for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
        k.put(reduce.result, k.folded(reduce, lanes[0]), REGISTER[reduce.dtype], wide=False)


def _tail(
    k: KernelText,
    whole: str,
    columns: str,
    carries: Sequence[tuple[str, str]],
    values: list[str],
    one: Callable[[str, str | None], None],
    folded: Callable[[list[str], int, str | None], list[str]],
) -> list[str]:
    """The last, partial vector: a loop of at most one round, so that carried values join."""

    def body(column: str, carried: list[str]) -> list[str]:
        mask = k.mask_below(column, columns)
        one(column, mask)
        return folded(carried, 0, mask)

    return k.text.loop(whole, columns, LANES, [(t, v) for (t, _), v in zip(carries, values, strict=True)], body)


def _rounded_down(k: KernelText, number: str, step: int) -> str:
    if not number.startswith("%"):
        return str(int(number) // step * step)
    return k.text.let(f"and i64 {number}, {-step}")


# columns


def _emit_columns(k: KernelText) -> KernelCode:
    kernel, text = k.kernel, k.text
    least = count(kernel.columns)
    k.open()
    rows = k.argument(RowsNumber())
    width = k.argument(ColumnsNumber()) if least > LANES else str(least)
    blocks = ceiling(text, width, LANES)

    def block_body(item: str, carried: list[str]) -> list[str]:
        outer, column = _block(k, item, blocks)
        mask = k.mask_below(column, width) if least % LANES else None
        for stage in kernel.stages:
            _rows_pass(k, stage, outer, rows, column, width, mask)
            k.new_row(outer, stage.after)
            for instruction in stage.after:
                k.vector(instruction, outer, column, mask)
        return []

    text.loop("%begin", "%end", 1, [], block_body)
    return k.close(items_of_walk(kernel, k.machine.registers))


def _block(k: KernelText, item: str, blocks: int | str) -> tuple[str, str]:
    """The outer index and the first column of an item."""
    if blocks in (1, "1"):
        return item, "0"
    outer = k.text.let(f"udiv i64 {item}, {blocks}")
    block = k.text.let(f"urem i64 {item}, {blocks}")
    return outer, k.text.mul(block, LANES)


def _ask_ahead(k: KernelText, body: Sequence[Instruction], row: str, place: str) -> None:
    """Ask for what later rows read: a processor does not foresee pieces of rows that lie far apart."""
    for load in (i for i in body if isinstance(i, Load) and i.index is None):
        if load.access.rows and load.access.columns == (Term(1, None, 1),):
            with k.of(load):
                line = k.text.pointer(k.pointer(load.access, row), place, MEMORY[load.dtype])
                k.text.line(f"call void @llvm.prefetch.p0(ptr {line}, i32 0, i32 3, i32 1)")


def _rows_pass(k: KernelText, stage: Stage, outer: str, rows: str, column: str, width: str, mask: str | None) -> None:
    """One pass over the rows of a block: row n goes into accumulator n mod CHAINS; sums of products have one only."""
    if not stage.body:
        return
    text = k.text
    reduces = [i for i in stage.body if isinstance(i, Reduce)]
    body = [i for i in stage.body if not isinstance(i, Reduce)]
    carries = [
        (f"<{LANES} x {REGISTER[r.dtype]}>", splat_of(REGISTER[r.dtype], k.identity(r)))
        for r in reduces
        for _ in range(1 if r.factor is not None else CHAINS)
    ]
    slots = list(accumulate((1 if r.factor is not None else CHAINS for r in reduces), initial=0))

    first = text.mul(outer, rows)
    later = text.add(text.mul(width, ROWS_AHEAD), column) if width.startswith("%") else ""

    def one(row: str, carried: list[str], chain: int) -> list[str]:
        place = text.add(text.add("0", first), row)
        k.digits = {place: (outer, row)}
        k.new_row(place, body)
        if later:
            _ask_ahead(k, body, place, later)
        for instruction in body:
            k.vector(instruction, place, column, mask)
        following = list(carried)
        for number, reduce in enumerate(reduces):
            if reduce.factor is not None:
                product = k.wide(reduce.operand), LANES, k.wide(reduce.factor)
                following[slots[number]] = k.combined(reduce, following[slots[number]], *product)
                continue
            slot = slots[number] + chain
            following[slot] = k.combined(reduce, following[slot], k.wide(reduce.operand))
        return following

    def several(row: str, carried: list[str]) -> list[str]:
        for chain in range(CHAINS):
            carried = one(text.add(row, chain), carried, chain)
        return carried

    stop = _rounded_down(k, rows, CHAINS)
    values = text.loop("0", stop, CHAINS, carries, several)
    values = text.loop(
        stop, rows, 1, [(t, v) for (t, _), v in zip(carries, values, strict=True)], lambda r, c: one(r, c, 0)
    )
    for number, reduce in enumerate(reduces):
        lanes = values[slots[number] : slots[number + 1]]
        while len(lanes) > 1:
            lanes = [k.combined(reduce, a, b) for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
        k.put(reduce.result, lanes[0], REGISTER[reduce.dtype], wide=True)


# indexed and running sums


def _emit_scatter(k: KernelText) -> KernelCode:
    """result[outer, index[row], column] += update[outer, row, column], in the order of the rows.

    By row, the index is that of [outer, row].
    """
    kernel, text = k.kernel, k.text
    indices, updates = kernel.buffers[:2]
    width = count(kernel.columns)
    blocks, extent = -(-width // LANES), kernel.total
    assert isinstance(extent, int)
    type_ = REGISTER[updates.dtype]
    wide = f"<{LANES} x {type_}>"
    k.open()
    rows = k.extent(kernel.rows)

    def block_body(item: str, carried: list[str]) -> list[str]:
        outer, column = _block(k, item, blocks)
        mask = k.mask_below(column, str(width)) if width % LANES else None
        base = text.pointer(k.bases[2], text.add(text.mul(outer, extent * width), column), type_)
        source = text.pointer(k.bases[1], text.add(text.mul(text.mul(outer, rows), width), column), type_)
        own = text.mul(outer, rows) if kernel.walk is Walk.SCATTER_BY_ROW else "0"
        listed = text.pointer(k.bases[0], own, REGISTER[indices.dtype])

        def clear(row: str, carried: list[str]) -> list[str]:
            place = text.pointer(base, text.mul(row, width), type_)
            store_masked(text, k.machine, "zeroinitializer", place, updates.dtype, mask)
            return []

        def add(row: str, carried: list[str]) -> list[str]:
            index = k.load_scalar(text.pointer(listed, row, REGISTER[indices.dtype]), indices.dtype)
            index = cast(text, index, indices.dtype, DType.I64, 1)
            index = text.minimum(text.maximum(index, "0"), str(extent - 1))
            place = text.pointer(base, text.mul(index, width), type_)
            old = text.let(f"load {wide}, ptr {place}, align {updates.dtype.size}")
            new = text.let(
                f"load {wide}, ptr {text.pointer(source, text.mul(row, width), type_)}, align {updates.dtype.size}"
            )
            operation = "fadd" if updates.dtype.is_float else "add"
            total = text.let(f"{operation} {wide} {old}, {new}")
            store_masked(text, k.machine, total, place, updates.dtype, mask)
            return []

        text.loop("0", str(extent), 1, [], clear)
        text.loop("0", rows, 1, [], add)
        return []

    text.loop("%begin", "%end", 1, [], block_body)
    return k.close(Items(kernel.outer, 1, blocks))


def _emit_cumulate(k: KernelText) -> KernelCode:
    """Running sums along the rows of each block of columns."""
    kernel, text = k.kernel, k.text
    dtype = kernel.buffers[0].dtype
    width = count(kernel.columns)
    blocks, type_ = -(-width // LANES), REGISTER[dtype]
    wide = f"<{LANES} x {type_}>"
    k.open()
    rows = k.extent(kernel.rows)

    def block_body(item: str, carried: list[str]) -> list[str]:
        outer, column = _block(k, item, blocks)
        mask = k.mask_below(column, str(width)) if width % LANES else None
        start = text.add(text.mul(text.mul(outer, rows), width), column)
        source, target = (text.pointer(k.bases[b], start, type_) for b in (0, 1))

        def add(row: str, sums: list[str]) -> list[str]:
            place = row
            if kernel.total:
                last = text.let(f"sub i64 {rows}, 1")
                place = text.let(f"sub i64 {last}, {row}")
            offset = text.mul(place, width)
            value = text.let(f"load {wide}, ptr {text.pointer(source, offset, type_)}, align {dtype.size}")
            total = text.let(f"{'fadd' if dtype.is_float else 'add'} {wide} {sums[0]}, {value}")
            store_masked(text, k.machine, total, text.pointer(target, offset, type_), dtype, mask)
            return [total]

        text.loop("0", rows, 1, [(wide, "zeroinitializer")], add)
        return []

    text.loop("%begin", "%end", 1, [], block_body)
    return k.close(Items(kernel.outer, 1, blocks))
