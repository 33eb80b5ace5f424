"""The elementwise stage of a product on the sums of a tile, in registers or in scratch; its memory asked for ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from compiler.loops.ir import Access, Load, Stage, Store, TileContract
from compiler.nest.ir import Index, Operand, Value, vector
from compiler.support.numerics import LANES
from compiler.targets.cpu.iteration_space import DENSE
from compiler.targets.cpu.kernel_frame import in_memory
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.multiply import Ahead, RegisterTile
from compiler.targets.cpu.tiles import TileShape, Tiling


def stage_ahead(
    k: KernelNest,
    contract: TileContract,
    cut: Tiling,
    row: Index,
    column: Index,
    base: Index,
    depth: int,
    line_bytes: int,
) -> list[Ahead]:
    """Operands and results of the elementwise stage of the next tile of rows, while `depth` is summed for this one."""
    found: dict[Access, Ahead] = {}
    for moved, stride in _in_rows(k, contract):
        places = tuple(range(0, cut.shape.width, line_bytes // moved.dtype.size))
        pointer = _stage_pointer(k, contract, moved, stride, k.nest.add(row, cut.shape.rows), column, base)
        writes, step = isinstance(moved, Store), contract.row_m_step * stride
        found[moved.access] = Ahead(pointer, places, step, cut.shape.rows, depth, writes)
    return list(found.values())


def put_away(k: KernelNest, tile: RegisterTile, base: Value, accumulators: Sequence[Operand]) -> None:
    """Store the accumulators one after the other."""
    for slot, name in enumerate(accumulators):
        place = k.nest.pointer(base, slot * LANES, tile.dtype)
        k.nest.store(name, place, 64)


def ask_for_results(k: KernelNest, contract: TileContract, cut: Tiling, row: Index, column: Index, base: Index) -> None:
    """Ask for operands and results of the elementwise stage, so that they arrive while the tile is multiplied."""
    nest, shape = k.nest, cut.shape
    for moved, stride in _in_rows(k, contract):
        type_, writes = in_memory(moved.dtype), isinstance(moved, Store)
        with k.of(moved):
            pointer = _stage_pointer(k, contract, moved, stride, row, column, base)
            for i in range(shape.rows):
                for part in range(shape.vectors):
                    place = nest.pointer(pointer, i * contract.row_m_step * stride + part * LANES, type_)
                    nest.prefetch(place, writes)


def ask_for_rows(
    k: KernelNest,
    contract: TileContract,
    vectors: int,
    rows: tuple[Index, Index],
    place_of: Callable[[Index], Index],
    column: Index,
) -> None:
    """Ask for operands and results of the elementwise stage in rows from the first to that behind the last."""
    nest, all_moved = k.nest, list(_in_rows(k, contract))
    with nest.each(*rows) as row:
        place = place_of(row)
        for moved, stride in all_moved:
            with k.of(moved):
                start = nest.add(nest.add(nest.mul(place, stride), moved.access.offset), column)
                pointer = nest.pointer(k.bases[moved.access.buffer], start, in_memory(moved.dtype))
                for part in range(vectors):
                    where = nest.pointer(pointer, part * LANES, in_memory(moved.dtype))
                    nest.prefetch(where, isinstance(moved, Store))


def _in_rows(k: KernelNest, contract: TileContract) -> Iterator[tuple[Load | Store, int]]:
    """The loads and stores of the elementwise stage row by row, and the elements from row to row."""
    for moved in (i for stage in k.stages for i in stage.body if isinstance(i, Load | Store)):
        access = moved.access
        is_dense = access.buffer != contract.tile and access.columns == DENSE and moved.index is None
        strides = [term.stride for term in access.rows if (term.divisor, term.modulus) == (1, None)]
        if is_dense and len(access.rows) == len(strides) == 1:
            yield moved, strides[0]


def _stage_pointer(
    k: KernelNest, contract: TileContract, moved: Load | Store, stride: int, row: Index, column: Index, base: Index
) -> Value:
    """Where the stage moves the first element of a tile."""
    nest = k.nest
    first = nest.add(nest.mul(row, contract.row_m_step), base)
    start = nest.add(nest.add(nest.mul(first, stride), moved.access.offset), column)
    return nest.pointer(k.bases[moved.access.buffer], start, in_memory(moved.dtype))


def finish_in_registers(
    k: KernelNest,
    contract: TileContract,
    cut: Tiling,
    start: Index,
    first: Index,
    column: Index,
    base: Index,
    accumulators: Sequence[Operand],
) -> None:
    """The elementwise stage on the accumulators; rows before `start` are done."""
    nest = k.nest
    held = repeating(k.stages, cut)
    body = [i for stage in k.stages for i in stage.body if i not in held]
    others = [i for i in body if not (isinstance(i, Load) and i.access.buffer == contract.tile)]
    before = nest.add(nest.mul(first, contract.row_m_step), base)

    def finish_row(row: int) -> None:
        place = nest.add(before, row * contract.row_m_step)
        k.new_row(place, others)
        for part in range(cut.shape.vectors):
            here = nest.add(column, part * LANES)
            for instruction in body:
                if isinstance(instruction, Load) and instruction.access.buffer == contract.tile:
                    k.put(instruction.result, accumulators[row * cut.shape.vectors + part])
                else:
                    k.vector(instruction, place, here, None, part if held else None)

    if cut.row_steps.repeated:
        with nest.when(nest.compare("eq", start, first)):
            for row in range(cut.row_steps.repeated):
                finish_row(row)
    for row in range(cut.row_steps.repeated, cut.shape.rows):
        finish_row(row)


def repeating(stages: Sequence[Stage], cut: Tiling) -> list[Load]:
    """The loads of the stage that are alike for all rows, and repeat along a row: they stay in registers."""
    return repeating_loads(stages) if cut.panels == 1 else []


def repeating_loads(stages: Sequence[Stage]) -> list[Load]:
    loads = [i for stage in stages for i in stage.body if isinstance(i, Load) and i.index is None]
    fits = [i for i in loads if not i.access.rows and len(i.access.columns) == 1]
    return [i for i in fits if i.access.columns[0].modulus is not None]


def finish(
    k: KernelNest,
    contract: TileContract,
    cut: Tiling,
    start: Index,
    first: Index,
    m: Index,
    column: Index,
    base: Index,
    tile: Value,
    is_unrolled: bool,
) -> None:
    """The elementwise stage, row by row and vector by vector, on the tile in scratch; rows before `start` are done."""
    nest, shape = k.nest, cut.shape
    skipped = nest.sub(start, first)
    left = nest.sub(m, first)
    rows = nest.minimum(left, shape.rows)

    def place_of(row: Index) -> Index:
        return nest.add(nest.mul(nest.add(row, first), contract.row_m_step), base)

    finish_rows(
        k, contract, shape, (skipped, rows), place_of, column, tile, repeating(k.stages, cut), is_unrolled=is_unrolled
    )


def finish_rows(
    k: KernelNest,
    contract: TileContract,
    shape: TileShape,
    rows: tuple[Index, Index],
    place_of: Callable[[Index], Index],
    column: Index,
    tile: Value,
    held: Sequence[Load] = (),
    is_unrolled: bool = False,
) -> None:
    """The elementwise stage on some of the rows of a tile in scratch: `place_of` gives the row of the domain.

    What the loads `held` give is in registers.
    """
    nest = k.nest
    body = [i for stage in k.stages for i in stage.body if i not in held]
    width, n = shape.width, contract.n
    type_ = contract.dtype
    with nest.each(*rows, 1, shape.rows) as row:
        place = place_of(row)
        others = [i for i in body if not (isinstance(i, Load) and i.access.buffer == contract.tile)]
        k.new_row(place, others)
        narrow = [i for i in others if isinstance(i, Load) and not i.access.columns and i.index is None]
        for instruction in narrow:
            k.scalar(instruction, place)
        tile_row = nest.pointer(tile, nest.mul(row, width), type_)

        def vector_body(offset: Index, lanes: int = LANES) -> None:
            here = nest.add(offset, column) if column != 0 else offset
            mask = k.mask_below(0, lanes) if lanes < LANES else None
            for instruction in body:
                if isinstance(instruction, Load) and instruction.access.buffer == contract.tile:
                    with k.of(instruction):
                        spot = nest.pointer(tile_row, offset, type_)
                        k.put(instruction.result, nest.load(spot, vector(type_, LANES), contract.dtype.size))
                elif instruction not in narrow:
                    part = offset // LANES if held and isinstance(offset, int) else None
                    k.vector(instruction, place, here, mask, part)

        if is_unrolled:
            for offset in range(0, min(n, width), LANES):
                vector_body(offset, min(n - offset, LANES))
        else:
            stop = nest.minimum(nest.sub(n, column), width)
            whole = nest.binary("and", stop, -LANES)
            with nest.each(0, whole, LANES, shape.vectors) as offset:
                vector_body(offset)
            if n % LANES:
                with nest.each(whole, stop, LANES, 1) as offset:  # none or one
                    vector_body(offset, n % LANES)
