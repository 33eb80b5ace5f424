"""The one generator of matrix products: a register tile over all of k, then the fused elementwise stage on the tile.

An item is one tile. Items run panel by panel (a panel is a block of columns), so a thread keeps to its columns and a
panel of the right operand stays in cache; where the left operand is too large for that, its rows are taken in
blocks. The bits of an element do not depend on the tile: each is one chain of fused multiply-adds in the order of k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compiler.loops.ir import ContractedAxis, Instruction, Load, Position, Store, TileContract
from compiler.schedule.access import count
from compiler.targets.cpu.kernel_text import Items, KernelCode, KernelText
from compiler.targets.cpu.machine import Machine
from compiler.targets.cpu.text import LANES, REGISTER, Text, literal
from compiler.types import BatchExtent, Extent

DEEPEST_UNROLL = 4


@dataclass(frozen=True, slots=True)
class TileShape:
    """Rows and vectors of columns of a register tile."""

    rows: int
    vectors: int


def tile_shape(contract: TileContract, machine: Machine, batch: int) -> TileShape:
    """A tile that fills the registers: wide for many rows, wider for few, with the rows balanced."""
    registers = max(1, LANES * contract.dtype.size * 8 // machine.vector_bits)
    budget = (machine.registers - 4) // registers
    wanted = -(-contract.n // LANES)
    rows = nominal(contract.m, batch)
    vectors = min(wanted, 2 if budget >= 12 else 1)
    if rows * vectors < budget:
        vectors = min(wanted, max(vectors, budget // max(rows, 1)), 8)
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
    m = k.extent(contract.m)
    tiles = _ceil(text, m, shape.rows)
    block = _rows_block(contract, shape, k.machine, batch)

    def item_body(item: str, carried: list[str]) -> list[str]:
        outer, panel, tile = _decoded(text, item, panels, tiles, block)
        start = text.mul(tile, shape.rows)
        last = text.maximum(text.let(f"sub i64 {m}, {shape.rows}"), "0")
        row = text.minimum(start, last)  # the last tile is moved back over rows that are done already
        column = text.mul(panel, width)
        lhs, rhs, base = _outer_offsets(text, contract, outer, k)
        left = text.add(text.add(text.mul(row, contract.lhs_m_stride), lhs), contract.lhs_offset)
        right = text.add(text.add(column, rhs), contract.rhs_offset)
        _multiply(k, contract, shape, left, right)
        _finish(k, contract, shape, start, row, m, column, base)
        return []

    text.loop("%begin", "%end", 1, [], item_body)
    return k.close(_items(contract, shape, panels))


def _items(contract: TileContract, shape: TileShape, panels: int) -> Items:
    outer = 1
    for axis in contract.outer:
        outer *= count(axis.extent)
    if any(isinstance(axis.extent, BatchExtent) for axis in contract.outer):
        assert isinstance(contract.m, int)
        return Items(BatchExtent(outer), 1, -(-contract.m // shape.rows) * panels)
    return Items(contract.m, shape.rows, outer * panels)


def _rows_block(contract: TileContract, shape: TileShape, machine: Machine, batch: int) -> int:
    """Tiles of rows whose left operand fits in half of the second-level cache; 0 for all of them."""
    depth = 1
    for axis in contract.k:
        depth *= nominal(axis.extent, batch)
    fits = machine.l2_bytes // 2 // max(1, depth * contract.dtype.size * shape.rows)
    rows = -(-nominal(contract.m, batch) // shape.rows)
    return 0 if rows <= max(1, fits) else max(1, fits)


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


def _multiply(k: KernelText, contract: TileContract, shape: TileShape, left: str, right: str) -> None:
    """Run the register tile over k and put it into scratch."""
    text, type_ = k.text, REGISTER[contract.dtype]
    vector = f"<{LANES} x {type_}>"
    lhs = text.pointer(k.bases[contract.lhs], left, type_)
    rhs = text.pointer(k.bases[contract.rhs], right, type_)
    zero = f"splat ({type_} {literal(0.0, contract.dtype)})"
    accumulators = [zero] * (shape.rows * shape.vectors)
    accumulators = _sum_over(k, contract, shape, list(contract.k), lhs, rhs, accumulators)
    for row in range(shape.rows):
        for part in range(shape.vectors):
            place = text.pointer(k.bases[contract.tile], str((row * shape.vectors + part) * LANES), type_)
            text.line(f"store {vector} {accumulators[row * shape.vectors + part]}, ptr {place}, align 64")


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
    following = list(accumulators)
    for row in range(shape.rows):
        place = text.pointer(left, str(row * contract.lhs_m_stride + turn * axis.lhs_stride), type_)
        scalar = text.splat(text.let(f"load {type_}, ptr {place}, align {size}"), type_)
        for part in range(shape.vectors):
            slot = row * shape.vectors + part
            following[slot] = text.let(
                f"call {vector} @llvm.fma.{suffix}({vector} {scalar}, {vector} {columns[part]}, {vector} {following[slot]})"
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


_ = (Instruction, Position, Store)
