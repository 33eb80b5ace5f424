"""The one generator of matrix products: a register tile over all of k, then the fused elementwise stage on the tile.

An item is one tile. Items run panel by panel (a panel is a block of columns), so a thread keeps to its columns and a
panel of the right operand stays in cache; where the left operand is too large for that, its rows are taken in
blocks. The bits of an element do not depend on the tile: each is one chain of fused multiply-adds in the order of k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from compiler.loops.ir import ContractedAxis, Load, Term, TileContract
from compiler.record import record
from compiler.schedule.access import count
from compiler.targets.cpu.kernel_text import Items, KernelCode, KernelText, SharedPointer
from compiler.targets.cpu.machine import Machine
from compiler.targets.cpu.text import LANES, MEMORY, REGISTER, Text, literal
from compiler.types import BatchExtent, Extent

DEEPEST_UNROLL = 4
WIDEST = 16  # vectors of columns in a tile
FEW_ROWS = 4  # up to here the right operand streams through once; it, and packed panels, are asked for AHEAD
AHEAD = 8
NEAR = 4  # the same for the left operand where a step of k leads far away


@record
class TileShape:
    """Rows and vectors of columns of a register tile."""

    rows: int
    vectors: int


def tile_shape(contract: TileContract, machine: Machine, batch: int) -> TileShape:
    """A tile that fills the registers: wide for many rows, wider for few, with the rows balanced."""
    registers = max(1, LANES * contract.dtype.size * 8 // machine.vector_bits)
    budget = (machine.registers - 6) // registers
    wanted = -(-contract.n // LANES)
    rows = nominal(contract.m, batch)
    vectors = min(wanted, 2 if budget >= 12 else 1)
    if rows * vectors < budget:
        vectors = min(wanted, max(vectors, budget // max(rows, 1)), WIDEST)
    most = max(1, min(budget // vectors, 28))
    tiles = -(-rows // most)
    return TileShape(-(-rows // tiles), vectors)


def nominal(extent: Extent, batch: int) -> int:
    return extent.multiple * batch if isinstance(extent, BatchExtent) else extent


def emit_tiles(k: KernelText, batch: int) -> KernelCode:
    """The code of a contraction kernel."""
    contract = k.kernel.contraction
    assert contract is not None
    shape = tile_shape(contract, k.machine, batch)
    width = shape.vectors * LANES
    panels = -(-contract.n // width)
    text = k.text
    k.reserve(contract.tile, shape.rows * width * contract.dtype.size)
    k.open()
    for axis in (*contract.k, *contract.outer):
        k.extent(axis.extent)  # loaded here, where every use is reached
    m = k.extent(contract.m)
    tiles = _ceil(text, m, shape.rows)
    block = _rows_block(contract, shape, k.machine, batch)
    packing = _packing(contract, shape, block, batch)
    panel_base = _panel_base(k, contract, width, packing)

    def item_body(item: str, carried: list[str]) -> list[str]:
        outer, panel, tile = _decoded(text, item, panels, tiles, block)
        start = text.mul(tile, shape.rows)
        last = text.maximum(text.let(f"sub i64 {m}, {shape.rows}"), "0")
        row = text.minimum(start, last)  # the last tile is moved back over rows that are done already
        column = text.mul(panel, width)
        lhs, rhs, base = _outer_offsets(text, contract, outer, k)
        left = text.add(text.add(text.mul(row, contract.lhs_m_stride), lhs), contract.lhs_offset)
        right = text.add(text.add(text.mul(column, contract.rhs_n_stride), rhs), contract.rhs_offset)
        source = text.pointer(k.bases[contract.rhs], right, REGISTER[contract.dtype])
        axes = contract.k
        walked = contract
        left_pointer = text.pointer(k.bases[contract.lhs], left, REGISTER[contract.dtype])
        if packing is Packing.SHARED:
            offset = text.mul(panel, _panel_elements(contract, width))
            source, axes = text.pointer(panel_base, offset, REGISTER[contract.dtype]), _packed_axes(contract, width)
            if _packs_rows(contract, shape):
                begin = panels * _panel_elements(contract, width)
                rows_at = text.add(text.mul(tile, _depth(contract) * LANES), begin)
                walked = replace(contract, lhs_m_stride=1)
                axes = tuple(replace(axis, lhs_stride=LANES) for axis in axes)
                left_pointer = text.pointer(panel_base, rows_at, REGISTER[contract.dtype])
        elif packing is Packing.OWN:
            is_new = text.let(f"icmp ne i64 {right}, {carried[0]}")
            with k.of(contract):
                text.when(is_new, lambda: _pack(k, contract, width, column, source, panel_base))
            source, axes = panel_base, _packed_axes(contract, width)
            carried = [text.add(right, 0) if right.startswith("%") else right]
        _prefetch(k, contract, shape, row, column, base)
        with k.of(contract):
            _multiply(k, walked, shape, axes, left_pointer, source)
        _finish(k, contract, shape, start, row, m, column, base)
        return carried

    text.loop("%begin", "%end", 1, [("i64", "-1")] if packing is Packing.OWN else [], item_body)
    code = k.close(_items(contract, shape, panels))
    if packing is not Packing.SHARED:
        return code
    turned = -(-contract.m // shape.rows) if isinstance(contract.m, int) and _packs_rows(contract, shape) else 0
    elements = panels * _panel_elements(contract, width) + _depth(contract) * turned * LANES
    size = elements * contract.dtype.size
    return replace(code, before=_pack_all(k, contract, shape, panels, turned), shared_bytes=size)


def _packs_rows(contract: TileContract, shape: TileShape) -> bool:
    """Whether the left operand is packed too: its rows would fall on the same few lines of the first-level cache."""
    fits = isinstance(contract.m, int) and shape.rows <= LANES  # the rows of one k stand in LANES places
    return fits and len(contract.k) == 1 and contract.k[0].lhs_stride == 1


def _pack_all(k: KernelText, contract: TileContract, shape: TileShape, panels: int, turned: int) -> KernelCode:
    """A function of its own that packs every panel, and then the rows of `turned` tiles; an item is one of them."""
    width = shape.vectors * LANES
    packer = KernelText(replace(k.kernel, prologue=(), stages=()), k.machine, k.lines)
    packer.open()
    text, type_ = packer.text, REGISTER[contract.dtype]
    shared = packer.argument(SharedPointer(), "ptr")

    def panel_body(panel: str, carried: list[str]) -> list[str]:
        column = text.mul(panel, width)
        right = text.add(text.mul(column, contract.rhs_n_stride), contract.rhs_offset)
        source = text.pointer(packer.bases[contract.rhs], right, type_)
        target = text.pointer(shared, text.mul(panel, _panel_elements(contract, width)), type_)
        _pack(packer, contract, width, column, source, target)
        return []

    def tile_body(tile: str, carried: list[str]) -> list[str]:
        assert isinstance(contract.m, int)
        start = text.mul(tile, shape.rows)
        row = text.minimum(start, str(max(0, contract.m - shape.rows)))
        left = text.add(text.mul(row, contract.lhs_m_stride), contract.lhs_offset)
        source = text.pointer(packer.bases[contract.lhs], left, type_)
        begin = panels * _panel_elements(contract, width)
        target = text.pointer(shared, text.add(text.mul(tile, _depth(contract) * LANES), begin), type_)
        _turn_rows(packer, contract, min(shape.rows, contract.m), source, target)
        return []

    middle = text.maximum(text.minimum("%end", str(panels)), "%begin")
    with packer.of(contract):
        text.loop("%begin", middle, 1, [], panel_body)
        if turned:
            first = text.let(f"sub i64 {middle}, {panels}")
            last = text.let(f"sub i64 %end, {panels}")
            text.loop(first, last, 1, [], tile_body)
    return packer.close(Items(panels + turned))


def _turn_rows(k: KernelText, contract: TileContract, rows: int, source: str, target: str) -> None:
    """Store `rows` rows so that for each k their elements lie side by side, in LANES places."""
    text, type_, size = k.text, REGISTER[contract.dtype], contract.dtype.size
    vector = f"<{LANES} x {type_}>"
    depth = _depth(contract)

    def block(index: str, carried: list[str]) -> list[str]:
        loaded: list[str] = []
        for lane in range(LANES):
            place = text.pointer(source, text.add(index, min(lane, rows - 1) * contract.lhs_m_stride), type_)
            loaded.append(text.let(f"load {vector}, ptr {place}, align {size}"))
        for lane, row in enumerate(_turned(text, loaded, type_)):
            place = text.pointer(target, text.mul(text.add(index, lane), LANES), type_)
            text.line(f"store {vector} {row}, ptr {place}, align {size}")
        return []

    whole = depth // LANES * LANES
    text.loop("0", str(whole), LANES, [], block)
    if depth % LANES:
        for lane in range(rows):

            def single(index: str, carried: list[str], lane: int = lane) -> list[str]:
                place = text.pointer(source, text.add(index, lane * contract.lhs_m_stride), type_)
                value = text.let(f"load {type_}, ptr {place}, align {size}")
                there = text.pointer(target, text.add(text.mul(index, LANES), lane), type_)
                text.line(f"store {type_} {value}, ptr {there}, align {size}")
                return []

            text.loop(str(whole), str(depth), 1, [], single)


def _items(contract: TileContract, shape: TileShape, panels: int) -> Items:
    outer = 1
    for axis in contract.outer:
        outer *= count(axis.extent)
    if any(isinstance(axis.extent, BatchExtent) for axis in contract.outer):
        assert isinstance(contract.m, int)
        return Items(BatchExtent(outer), 1, -(-contract.m // shape.rows) * panels)
    return Items(contract.m, shape.rows, outer * panels)


class Packing(Enum):
    """Where the panels of the right operand are copied to dense blocks."""

    NONE = "none"  # a single tile of rows reads each panel once
    OWN = "own"  # by each thread, into its scratch, when it comes to a panel
    SHARED = "shared"  # by a function of its own, all of them, for left operands that are walked in blocks


def _packing(contract: TileContract, shape: TileShape, block: int, batch: int) -> Packing:
    is_static = all(isinstance(axis.extent, int) for axis in contract.k)
    if block and is_static and not contract.outer:
        return Packing.SHARED
    if contract.rhs_n_stride != 1 or nominal(contract.m, batch) > shape.rows:
        return Packing.OWN
    return Packing.NONE


def _depth(contract: TileContract) -> int:
    """Summed elements, for `batch = 1`."""
    depth = 1
    for axis in contract.k:
        depth *= count(axis.extent)
    return depth


def _panel_elements(contract: TileContract, width: int) -> int:
    """The room of a packed panel, for `batch = 1`. A turned one is written in whole blocks; batches have that slack."""
    depth = _depth(contract)
    if contract.rhs_n_stride != 1 and all(isinstance(axis.extent, int) for axis in contract.k):
        depth = -(-depth // LANES) * LANES
    return depth * width


def _panel_base(k: KernelText, contract: TileContract, width: int, packing: Packing) -> str:
    """The block of packed panels: the shared one, or the thread's own, behind everything else in its scratch."""
    if packing is Packing.NONE:
        return ""
    if packing is Packing.SHARED:
        return k.argument(SharedPointer(), "ptr")
    size = _panel_elements(contract, width) * contract.dtype.size
    base = k.text.let(f"getelementptr i8, ptr %scratch, i64 {k.scratch_bytes}", "p")
    if any(isinstance(axis.extent, BatchExtent) for axis in contract.k):
        k.scratch_batch_bytes = size
    else:
        k.scratch_bytes += size
    return base


def _packed_axes(contract: TileContract, width: int) -> tuple[ContractedAxis, ...]:
    """The summed axes with the strides that a packed panel has."""
    axes: list[ContractedAxis] = []
    step = width
    for axis in reversed(contract.k):
        axes.append(ContractedAxis(axis.extent, axis.lhs_stride, step))
        step *= count(axis.extent)
    return tuple(reversed(axes))


def _pack(k: KernelText, contract: TileContract, width: int, column: str, source: str, target: str) -> None:
    """Copy a panel so that the `width` columns of one k lie side by side, and the next k behind them."""
    if contract.rhs_n_stride != 1:
        _pack_transposed(k, contract, width, column, source, target)
        return
    text, type_, size = k.text, REGISTER[contract.dtype], contract.dtype.size
    vector = f"<{LANES} x {type_}>"

    def over(axes: Sequence[ContractedAxis], packed: Sequence[ContractedAxis], source: str, target: str) -> None:
        def body(index: str, carried: list[str]) -> list[str]:
            here = text.pointer(source, text.mul(index, axes[0].rhs_stride), type_)
            there = text.pointer(target, text.mul(index, packed[0].rhs_stride), type_)
            if len(axes) > 1:
                over(axes[1:], packed[1:], here, there)
                return []
            for part in range(width // LANES):
                later = text.pointer(here, str(AHEAD * axes[0].rhs_stride + part * LANES), type_)
                text.line(f"call void @llvm.prefetch.p0(ptr {later}, i32 0, i32 3, i32 1)")
                loaded = text.pointer(here, str(part * LANES), type_)
                name = text.let(f"load {vector}, ptr {loaded}, align {size}")
                text.line(f"store {vector} {name}, ptr {text.pointer(there, str(part * LANES), type_)}, align 64")
            return []

        text.loop("0", k.extent(axes[0].extent), 1, [], body)

    over(contract.k, _packed_axes(contract, width), source, target)


def _pack_transposed(k: KernelText, contract: TileContract, width: int, column: str, source: str, target: str) -> None:
    """As `_pack`, from an operand whose k lie side by side: blocks of LANES x LANES turn in registers."""
    text, type_, size = k.text, REGISTER[contract.dtype], contract.dtype.size
    vector = f"<{LANES} x {type_}>"
    (axis,) = contract.k
    depth = k.extent(axis.extent)
    starts = _column_starts(text, contract, width, column)

    def block(index: str, carried: list[str]) -> list[str]:
        for part in range(width // LANES):
            rows: list[str] = []
            for lane in range(LANES):
                place = text.pointer(source, text.add(starts[part * LANES + lane], index), type_)
                rows.append(text.let(f"load {vector}, ptr {place}, align {size}"))
            for lane, row in enumerate(_turned(text, rows, type_)):
                here = text.add(text.mul(text.add(index, lane), width), part * LANES)
                place = text.pointer(target, here, type_)
                text.line(f"store {vector} {row}, ptr {place}, align 64")
        return []

    text.loop("0", _ceil_to(text, depth, LANES), LANES, [], block)


def _column_starts(text: Text, contract: TileContract, width: int, column: str) -> list[str]:
    """Where the columns of a panel start, as offsets from its first; behind the last column, that one again."""
    if contract.n % width == 0:
        return [str(lane * contract.rhs_n_stride) for lane in range(width)]
    last = text.let(f"sub i64 {contract.n - 1}, {column}")
    return [text.mul(text.minimum(str(lane), last), contract.rhs_n_stride) for lane in range(width)]


def _ceil_to(text: Text, number: str, step: int) -> str:
    if not number.startswith("%"):
        return str(-(-int(number) // step) * step)
    return text.let(f"and i64 {text.add(number, step - 1)}, {-step}")


def _turned(text: Text, rows: Sequence[str], type_: str) -> list[str]:
    """The transpose of LANES vectors of LANES elements, in log2(LANES) rounds of two-operand shuffles."""
    vector = f"<{LANES} x {type_}>"
    now = list(rows)
    distance = 1
    while distance < LANES:
        following = list(now)
        for low in range(LANES):
            if low & distance:
                continue
            high = low | distance
            first = [lane if not lane & distance else LANES + (lane ^ distance) for lane in range(LANES)]
            second = [lane | distance if not lane & distance else LANES + lane for lane in range(LANES)]
            for place, picks in ((low, first), (high, second)):
                listed = ", ".join(f"i32 {p}" for p in picks)
                following[place] = text.let(
                    f"shufflevector {vector} {now[low]}, {vector} {now[high]}, <{LANES} x i32> <{listed}>"
                )
        now = following
        distance *= 2
    return now


def _rows_block(contract: TileContract, shape: TileShape, machine: Machine, batch: int) -> int:
    """Tiles of rows whose left operand fits in the second-level cache beside a panel; 0 for all of them."""
    depth = 1
    for axis in contract.k:
        depth *= nominal(axis.extent, batch)
    room = machine.l2_bytes * 3 // 4 - depth * shape.vectors * LANES * contract.dtype.size
    fits = max(2, room // max(1, depth * contract.dtype.size * shape.rows))
    tiles = -(-nominal(contract.m, batch) // shape.rows)
    if tiles <= fits:
        return 0
    return -(-tiles // -(-tiles // fits))  # blocks of equal size


def _ceil(text: Text, number: str, step: int) -> str:
    if not number.startswith("%"):
        return str(-(-int(number) // step))
    return text.let(f"udiv i64 {text.add(number, step - 1)}, {step}")


def _decoded(text: Text, item: str, panels: int, tiles: str, block: int) -> tuple[str, str, str]:
    """The outer index, panel and tile of an item."""
    if tiles == "1" and panels == 1:
        return item, "0", "0"
    each = text.mul(tiles, panels)
    outer = text.let(f"udiv i64 {item}, {each}")
    inside = text.let(f"urem i64 {item}, {each}")
    if not block:
        return outer, text.let(f"udiv i64 {inside}, {tiles}"), text.let(f"urem i64 {inside}, {tiles}")
    group = text.let(f"udiv i64 {inside}, {block * panels}")
    within = text.let(f"urem i64 {inside}, {block * panels}")
    first = text.mul(group, block)
    here = text.minimum(text.let(f"sub i64 {tiles}, {first}"), str(block))
    panel = text.let(f"udiv i64 {within}, {here}")
    return outer, panel, text.add(first, text.let(f"urem i64 {within}, {here}"))


def _outer_offsets(text: Text, contract: TileContract, outer: str, k: KernelText) -> tuple[str, str, str]:
    """Offsets of the outer index in the left operand, the right operand, and the rows of the domain."""
    offsets = ["0", "0", "0"]
    for number, axis in reversed(list(enumerate(contract.outer))):
        index = outer
        if number:
            size = k.extent(axis.extent)
            index = text.let(f"urem i64 {outer}, {size}")
            outer = text.let(f"udiv i64 {outer}, {size}")
        steps = (axis.lhs_stride, axis.rhs_stride, axis.row_step)
        offsets = [_sum(text, o, text.mul(index, s)) for o, s in zip(offsets, steps, strict=True)]
    return offsets[0], offsets[1], offsets[2]


def _sum(text: Text, left: str, right: str) -> str:
    return right if left == "0" else text.add(left, right)


def _multiply(
    k: KernelText, contract: TileContract, shape: TileShape, axes: Sequence[ContractedAxis], lhs: str, rhs: str
) -> None:
    """Run the register tile over k and put it into scratch."""
    text, type_ = k.text, REGISTER[contract.dtype]
    vector = f"<{LANES} x {type_}>"
    zero = f"splat ({type_} {literal(0.0, contract.dtype)})"
    accumulators = [zero] * (shape.rows * shape.vectors)
    accumulators = _sum_over(k, contract, shape, axes, lhs, rhs, accumulators)
    for row in range(shape.rows):
        for part in range(shape.vectors):
            place = text.pointer(k.bases[contract.tile], str((row * shape.vectors + part) * LANES), type_)
            text.line(f"store {vector} {accumulators[row * shape.vectors + part]}, ptr {place}, align 64")


def _prefetch(k: KernelText, contract: TileContract, shape: TileShape, row: str, column: str, base: str) -> None:
    """Ask for what the elementwise stage will read, so that it arrives while the tile is multiplied."""
    text = k.text
    loads = [i for stage in k.kernel.stages for i in stage.body if isinstance(i, Load)]
    dense = (Term(1, None, 1),)
    for load in loads:
        access = load.access
        if access.buffer == contract.tile or access.columns != dense or len(access.rows) != 1 or load.index is not None:
            continue
        (term,) = access.rows
        if (term.divisor, term.modulus) != (1, None):
            continue
        type_ = MEMORY[load.dtype]
        with k.of(load):
            first = text.add(text.mul(row, contract.row_m_step), base)
            start = text.add(text.add(text.mul(first, term.stride), access.offset), column)
            pointer = text.pointer(k.bases[access.buffer], start, type_)
            for i in range(shape.rows):
                for part in range(shape.vectors):
                    place = text.pointer(pointer, str(i * contract.row_m_step * term.stride + part * LANES), type_)
                    text.line(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")


def _sum_over(
    k: KernelText,
    contract: TileContract,
    shape: TileShape,
    axes: Sequence[ContractedAxis],
    lhs: str,
    rhs: str,
    accumulators: list[str],
) -> list[str]:
    text, type_ = k.text, REGISTER[contract.dtype]
    carries = [(f"<{LANES} x {type_}>", a) for a in accumulators]
    axis = axes[0]
    extent = k.extent(axis.extent)
    if len(axes) > 1:

        def outer_body(index: str, carried: list[str]) -> list[str]:
            inner_lhs = text.pointer(lhs, text.mul(index, axis.lhs_stride), type_)
            inner_rhs = text.pointer(rhs, text.mul(index, axis.rhs_stride), type_)
            return _sum_over(k, contract, shape, axes[1:], inner_lhs, inner_rhs, carried)

        return text.loop("0", extent, 1, carries, outer_body)

    unroll = DEEPEST_UNROLL if shape.rows * shape.vectors > 4 else 8
    if not extent.startswith("%") and int(extent) < unroll:
        unroll = 1

    def step(index: str, carried: list[str], times: int) -> list[str]:
        left = text.pointer(lhs, text.mul(index, axis.lhs_stride), type_)
        right = text.pointer(rhs, text.mul(index, axis.rhs_stride), type_)
        for turn in range(times):
            carried = _rank_one(text, contract, shape, axis, left, right, turn, carried)
        return carried

    if unroll == 1:
        return text.loop("0", extent, 1, carries, lambda i, c: step(i, c, 1))
    stop = (
        str(int(extent) // unroll * unroll) if not extent.startswith("%") else text.let(f"and i64 {extent}, {-unroll}")
    )
    values = text.loop("0", stop, unroll, carries, lambda i, c: step(i, c, unroll))
    if stop == extent:
        return values
    rest = [(t, v) for (t, _), v in zip(carries, values, strict=True)]
    return text.loop(stop, extent, 1, rest, lambda i, c: step(i, c, 1))


def _rank_one(
    text: Text,
    contract: TileContract,
    shape: TileShape,
    axis: ContractedAxis,
    left: str,
    right: str,
    turn: int,
    accumulators: list[str],
) -> list[str]:
    """One k: the vectors of the right operand, and one broadcast of the left for each row."""
    type_, size = REGISTER[contract.dtype], contract.dtype.size
    vector = f"<{LANES} x {type_}>"
    suffix = f"v{LANES}{'f32' if type_ == 'float' else 'f64'}"
    columns: list[str] = []
    for part in range(shape.vectors):
        place = text.pointer(right, str(turn * axis.rhs_stride + part * LANES), type_)
        columns.append(text.let(f"load {vector}, ptr {place}, align {size}"))
        is_packed = axis.rhs_stride == shape.vectors * LANES
        if is_packed or shape.rows <= FEW_ROWS:
            later = text.pointer(right, str((turn + AHEAD) * axis.rhs_stride + part * LANES), type_)
            text.line(f"call void @llvm.prefetch.p0(ptr {later}, i32 0, i32 3, i32 1)")
    if contract.lhs_m_stride == 1 and axis.lhs_stride > 2 * LANES:
        for column in (0, shape.rows - 1):
            later = text.pointer(left, str(column + (turn + NEAR) * axis.lhs_stride), type_)
            text.line(f"call void @llvm.prefetch.p0(ptr {later}, i32 0, i32 3, i32 1)")
    following = list(accumulators)
    for row in range(shape.rows):
        place = text.pointer(left, str(row * contract.lhs_m_stride + turn * axis.lhs_stride), type_)
        scalar = text.splat(text.let(f"load {type_}, ptr {place}, align {size}"), type_)
        for part in range(shape.vectors):
            slot = row * shape.vectors + part
            following[slot] = text.let(
                f"call {vector} @llvm.fma.{suffix}"
                f"({vector} {scalar}, {vector} {columns[part]}, {vector} {following[slot]})"
            )
    return following


def _finish(
    k: KernelText, contract: TileContract, shape: TileShape, start: str, first: str, m: str, column: str, base: str
) -> None:
    """The elementwise stage, row by row and vector by vector, on the tile in scratch."""
    text = k.text
    body = [i for stage in k.kernel.stages for i in stage.body]
    skipped = text.let(f"sub i64 {start}, {first}")
    left = text.let(f"sub i64 {m}, {first}")
    rows = text.minimum(left, str(shape.rows))
    width, n = shape.vectors * LANES, contract.n
    type_ = REGISTER[contract.dtype]

    def row_body(row: str, carried: list[str]) -> list[str]:
        place = text.add(text.mul(text.add(row, first), contract.row_m_step), base)
        others = [i for i in body if not (isinstance(i, Load) and i.access.buffer == contract.tile)]
        k.new_row(place, others)
        narrow = [i for i in others if isinstance(i, Load) and not i.access.columns and i.index is None]
        for instruction in narrow:
            k.scalar(instruction, place)
        tile_row = text.pointer(k.bases[contract.tile], text.mul(row, width), type_)

        def vector_body(offset: str, carried: list[str]) -> list[str]:
            here = text.add(offset, column) if column != "0" else offset
            mask = k.mask_below(here, str(n)) if n % LANES else None
            for instruction in body:
                if isinstance(instruction, Load) and instruction.access.buffer == contract.tile:
                    with k.of(instruction):
                        spot = text.pointer(tile_row, offset, type_)
                        name = text.let(f"load <{LANES} x {type_}>, ptr {spot}, align {contract.dtype.size}")
                        k.put(instruction.result, name, type_, wide=True)
                elif instruction not in narrow:
                    k.vector(instruction, place, here, mask)
            return []

        if n % width == 0 and shape.vectors * len(body) <= 64:
            for part in range(shape.vectors):
                vector_body(str(part * LANES), [])
        else:
            stop = text.minimum(text.let(f"sub i64 {n}, {column}"), str(width))
            text.loop("0", stop, LANES, [], vector_body)
        return []

    text.loop(skipped, rows, 1, [], row_body)
