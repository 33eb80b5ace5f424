"""The generator of matrix products: a register tile over all of k, then the fused elementwise stage on the tile.

An item is one tile. Items run panel by panel (a panel is a block of columns), so a thread keeps to its columns and a
panel of the right operand stays in cache; where the left operand is too large for that, its rows are taken in
blocks. The bits of an element do not depend on the tile: each is one chain of fused multiply-adds in the order of k.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import ceil

from compiler.loops.ir import Access, ContractedAxis, Load, Store, Term, TileContract
from compiler.nest.builder import Builder
from compiler.nest.ir import BEGIN, END, Index, Nest, Operand, Value, vector
from compiler.support.numerics import LANES
from compiler.targets.cpu.kernel_frame import in_memory
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.multiply import Ahead, RegisterTile, SummedAxis, multiplied
from compiler.targets.cpu.packing import (
    Packing,
    pack,
    pack_all,
    packed_axes,
    packing_of,
    panel_base,
    panel_elements,
)
from compiler.targets.cpu.tiles import (
    Tiling,
    ceiling,
    decoded,
    depth_of,
    items_of,
    lanes_apart,
    outer_offsets,
    rows_of_tiles,
    tiling,
)
from compiler.targets.cpu.triangle import multiplied_within
from compiler.tuning import Tuning
from compiler.types import DType

DENSE = (Term(1, None, 1),)


def emit_tiles(k: KernelNest, contract: TileContract, batch: int, lasts: bool = False) -> Nest:
    """The code of a contraction kernel. Where its right operand `lasts` over calls, so do the packed panels."""
    cut = tiling(contract, k.machine, batch)
    shape, steps, panels, width = cut.shape, cut.row_steps, cut.panels, cut.shape.width
    nest, type_, tuning = k.nest, contract.dtype, k.tuning
    keeps = stays_in_registers(k, contract, cut)
    k.reserve(contract.tile, 0 if keeps else shape.rows * width * contract.dtype.size)
    k.open()
    for axis in (*contract.k, *contract.outer):
        k.extent(axis.extent)  # loaded here, where every use is reached
    units = k.extent(steps.extent)
    tiles = ceiling(nest, units, steps.step)
    packing = packing_of(contract, cut, batch, lasts)
    panels_at = None if packing is Packing.NONE else panel_base(k, contract, width, packing)
    large = depth_of(contract) * width * contract.dtype.size > tuning.near_panel_bytes
    for load in repeating(k, cut):
        k.repeated(load, 0, shape.vectors)
    lanes = lanes_apart(shape, contract.dtype, k.machine)
    places = steps.places(contract, shape.rows)
    tile_of_rows = RegisterTile(shape, contract.dtype, places, False, tuning, lanes)

    def item_body(item: Value, carried: list[Value]) -> Sequence[Operand]:
        outer, panel, tile = decoded(k, cut, item, tiles)
        start = nest.mul(tile, steps.step)
        last = nest.maximum(nest.sub(units, steps.step), 0)
        unit = nest.minimum(start, last)  # the last tile is moved back over rows that are done already
        column = nest.mul(panel, width)
        lhs, rhs, base = outer_offsets(k, steps.outer, outer)
        left = nest.add(nest.add(nest.mul(unit, steps.stride), lhs), contract.lhs_offset)
        right = nest.add(nest.add(nest.mul(column, contract.rhs_n_stride), rhs), contract.rhs_offset)
        source = nest.pointer(k.bases[contract.rhs], right, type_)
        axes = contract.k
        given, first_use = source, None  # a panel that is copied while its first tile reads it
        walked = tile_of_rows
        left_pointer = nest.pointer(k.bases[contract.lhs], left, type_)
        if packing is Packing.SHARED and panels_at is not None:
            offset = nest.mul(panel, panel_elements(contract, width))
            source, axes = nest.pointer(panels_at, offset, type_), packed_axes(contract, width)
        elif panels_at is not None:
            is_new = nest.compare("ne", right, carried[0])
            is_plain = contract.rhs_n_stride == 1 and contract.triangle is None
            if is_plain and rows_of_tiles(cut, batch) <= tuning.copying_tiles:
                first_use = is_new
            else:
                with k.of(contract):
                    nest.when(is_new, partial(pack, k, contract, width, column, source, panels_at))
            source, axes = panels_at, packed_axes(contract, width)
        if packing is not Packing.NONE:
            walked = replace(walked, is_packed=large)
        row, first = nest.mul(start, steps.unit), nest.mul(unit, steps.unit)
        ahead: list[Ahead] = []
        if streams(contract, cut, tuning):
            ahead = stage_ahead(k, contract, cut, first, column, base, contract.lhs_m_stride)
            ahead.append(_rows_ahead(k, contract, cut, left))
        else:
            _prefetch(k, contract, cut, first, column, base)
        with k.of(contract):
            summed = summed_axes(k, axes)
            accumulators = [walked.zero] * walked.slots
            if contract.triangle is not None:
                accumulators = multiplied_within(
                    k, contract.triangle, walked, summed[0], left_pointer, source, unit, column
                )
            elif first_use is not None:
                copied = [
                    SummedAxis(a.extent, a.lhs_stride, b.rhs_stride, a.rhs_stride)
                    for a, b in zip(summed, contract.k, strict=True)
                ]
                accumulators = multiplied_copying(
                    nest, walked, copied, summed, left_pointer, given, source, first_use, accumulators, ahead
                )
            else:
                accumulators = multiplied(nest, walked, summed, left_pointer, source, accumulators, ahead=ahead)
            if not keeps:
                put_away(k, walked, k.bases[contract.tile], accumulators)
        if keeps:
            finish_in_registers(k, contract, cut, first, column, base, accumulators)
        else:
            rows = nest.mul(units, steps.unit)
            finish(k, contract, cut, row, first, rows, column, base, k.bases[contract.tile])
        return [right] if packing is Packing.OWN else []

    nest.loop(BEGIN, END, 1, [-1] if packing is Packing.OWN else [], item_body)
    code = k.close(items_of(cut))
    if packing is not Packing.SHARED:
        return code
    size = panels * panel_elements(contract, width) * contract.dtype.size
    return replace(code, before=pack_all(k, contract, shape, panels), shared_bytes=size, lasts=True)


def summed_axes(k: KernelNest, axes: Sequence[ContractedAxis]) -> list[SummedAxis]:
    return [SummedAxis(k.extent(axis.extent), axis.lhs_stride, axis.rhs_stride) for axis in axes]


def multiplied_copying(
    nest: Builder,
    tile: RegisterTile,
    given: Sequence[SummedAxis],
    packed: Sequence[SummedAxis],
    lhs: Value,
    panel: Value,
    target: Value,
    is_first: Value,
    accumulators: Sequence[Operand],
    ahead: Sequence[Ahead] = (),
) -> Sequence[Operand]:
    """The accumulators of a tile. The first one that reads a panel copies it to `target`, where the others read it."""
    rounds = nest.converted(is_first, DType.I64)  # loops of one round or none, so that accumulators join

    def first(index: Value, carried: list[Value]) -> Sequence[Operand]:
        return multiplied(nest, replace(tile, lanes=LANES), given, lhs, panel, carried, target)

    def later(index: Value, carried: list[Value]) -> Sequence[Operand]:
        return multiplied(nest, tile, packed, lhs, target, carried, ahead=ahead)

    values = nest.loop(0, rounds, 1, accumulators, first)
    return nest.loop(rounds, 1, 1, values, later)


def stage_ahead(
    k: KernelNest, contract: TileContract, cut: Tiling, row: Index, column: Index, base: Index, depth: int
) -> list[Ahead]:
    """What the elementwise stage of the next tile of rows will read and write, while `depth` is summed for this one."""
    found: dict[Access, Ahead] = {}
    for moved, stride in _in_rows(k, contract):
        places = tuple(range(0, cut.shape.width, k.machine.line(moved.dtype)))
        pointer = _stage_pointer(k, contract, moved, stride, k.nest.add(row, cut.shape.rows), column, base)
        writes, step = isinstance(moved, Store), contract.row_m_step * stride
        found[moved.access] = Ahead(pointer, places, step, cut.shape.rows, depth, writes)
    return list(found.values())


def streams(contract: TileContract, cut: Tiling, tuning: Tuning) -> bool:
    """Whether rows come from far away, each tile's behind those of the tile before it, so that it can ask for them."""
    (axis, *others) = contract.k
    is_dense = not others and axis.lhs_stride == 1 and axis.extent == contract.lhs_m_stride
    is_long = contract.lhs_m_stride >= tuning.tile_ahead_sum
    return cut.block > 0 and is_dense and is_long and contract.triangle is None


def _rows_ahead(k: KernelNest, contract: TileContract, cut: Tiling, left: Index) -> Ahead:
    """The rows of the next tile, where one `streams`."""
    depth, line = contract.lhs_m_stride, k.machine.line(contract.dtype)
    each = ceil(cut.shape.rows * depth / line / (depth // k.tuning.unrolled_steps))
    following = k.nest.add(left, cut.shape.rows * depth)
    pointer = k.nest.pointer(k.bases[contract.lhs], following, contract.dtype)
    return Ahead(pointer, tuple(range(0, each * line, line)), each * line)


def put_away(k: KernelNest, tile: RegisterTile, base: Value, accumulators: Sequence[Operand]) -> None:
    """Store the accumulators one after the other."""
    for slot, name in enumerate(accumulators):
        place = k.nest.pointer(base, slot * LANES, tile.dtype)
        k.nest.store(name, place, 64)


def _prefetch(k: KernelNest, contract: TileContract, cut: Tiling, row: Index, column: Index, base: Index) -> None:
    """Ask for what the elementwise stage will read and write, so that it arrives while the tile is multiplied."""
    nest, shape = k.nest, cut.shape
    for moved, stride in _in_rows(k, contract):
        type_, writes = in_memory(moved.dtype), isinstance(moved, Store)
        with k.of(moved):
            pointer = _stage_pointer(k, contract, moved, stride, row, column, base)
            for i in range(shape.rows):
                for part in range(shape.vectors):
                    place = nest.pointer(pointer, i * contract.row_m_step * stride + part * LANES, type_)
                    nest.prefetch(place, writes)


def _in_rows(k: KernelNest, contract: TileContract) -> Iterator[tuple[Load | Store, int]]:
    """What the elementwise stage reads and writes row by row, and the elements from row to row."""
    for moved in (i for stage in k.stages for i in stage.body if isinstance(i, Load | Store)):
        access = moved.access
        if (
            access.buffer == contract.tile
            or access.columns != DENSE
            or len(access.rows) != 1
            or moved.index is not None
        ):
            continue
        (term,) = access.rows
        if (term.divisor, term.modulus) == (1, None):
            yield moved, term.stride


def _stage_pointer(
    k: KernelNest,
    contract: TileContract,
    moved: Load | Store,
    stride: int,
    row: Index,
    column: Index,
    base: Index,
) -> Value:
    """Where the stage moves the first element of a tile."""
    nest = k.nest
    first = nest.add(nest.mul(row, contract.row_m_step), base)
    start = nest.add(nest.add(nest.mul(first, stride), moved.access.offset), column)
    return nest.pointer(k.bases[moved.access.buffer], start, in_memory(moved.dtype))


def stays_in_registers(k: KernelNest, contract: TileContract, cut: Tiling) -> bool:
    """Whether the stage is short enough to work on the accumulators, and may be done twice for rows of two tiles.

    Every row has to exist, and nothing may be overwritten that the stage reads.
    """
    body = [i for stage in k.stages for i in stage.body]
    written = {i.access.buffer for i in body if isinstance(i, Store)}
    read = {i.access.buffer for i in body if isinstance(i, Load)}
    fits = isinstance(cut.row_steps.extent, int) and cut.row_steps.extent >= cut.row_steps.step
    is_short = len(body) <= k.tuning.stage_in_registers
    return fits and is_short and contract.n % cut.shape.width == 0 and not written & read


def finish_in_registers(
    k: KernelNest,
    contract: TileContract,
    cut: Tiling,
    first: Index,
    column: Index,
    base: Index,
    accumulators: Sequence[Operand],
) -> None:
    """The elementwise stage on the accumulators."""
    nest = k.nest
    held = repeating(k, cut)
    body = [i for stage in k.stages for i in stage.body if i not in held]
    others = [i for i in body if not (isinstance(i, Load) and i.access.buffer == contract.tile)]
    start = nest.add(nest.mul(first, contract.row_m_step), base)
    for row in range(cut.shape.rows):
        place = nest.add(start, row * contract.row_m_step)
        k.new_row(place, others)
        for part in range(cut.shape.vectors):
            here = nest.add(column, part * LANES)
            for instruction in body:
                if isinstance(instruction, Load) and instruction.access.buffer == contract.tile:
                    k.put(instruction.result, accumulators[row * cut.shape.vectors + part])
                else:
                    k.vector(instruction, place, here, None, part if held else None)


def repeating(k: KernelNest, cut: Tiling) -> list[Load]:
    """What the stage reads alike for all rows, and again and again along a row: it stays in registers."""
    loads = [i for stage in k.stages for i in stage.body if isinstance(i, Load) and i.index is None]
    fits = [i for i in loads if not i.access.rows and len(i.access.columns) == 1]
    return [i for i in fits if i.access.columns[0].modulus is not None] if cut.panels == 1 else []


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
) -> None:
    """The elementwise stage, row by row and vector by vector, on the tile in scratch; rows before `start` are done."""
    nest, shape = k.nest, cut.shape
    held = repeating(k, cut)
    body = [i for stage in k.stages for i in stage.body if i not in held]
    skipped = nest.sub(start, first)
    left = nest.sub(m, first)
    rows = nest.minimum(left, shape.rows)
    width, n = shape.width, contract.n
    type_ = contract.dtype

    def row_body(row: Value, carried: list[Value]) -> Sequence[Operand]:
        place = nest.add(nest.mul(nest.add(row, first), contract.row_m_step), base)
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

        def whole_body(offset: Value, carried: list[Value]) -> Sequence[Operand]:
            vector_body(offset)
            return []

        def rest_body(offset: Value, carried: list[Value]) -> Sequence[Operand]:
            vector_body(offset, n % LANES)
            return []

        if (n % width == 0 or column == 0) and (held or shape.vectors * len(body) <= 64):
            for offset in range(0, min(n, width), LANES):
                vector_body(offset, min(n - offset, LANES))
        else:
            stop = nest.minimum(nest.sub(n, column), width)
            whole = nest.binary("and", stop, -LANES)
            nest.loop(0, whole, LANES, [], whole_body, shape.vectors)
            if n % LANES:
                nest.loop(whole, stop, LANES, [], rest_body, 1)  # none or one
        return []

    nest.loop(skipped, rows, 1, [], row_body, shape.rows)
