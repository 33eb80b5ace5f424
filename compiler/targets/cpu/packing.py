"""Panels: blocks of columns of a right operand, copied so that a register tile reads them in one stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from compiler.loops.ir import ContractedAxis, TileContract
from compiler.schedule.access import count
from compiler.targets.cpu.kernel_code import Items, KernelCode, SharedPointer
from compiler.targets.cpu.kernel_text import KernelText
from compiler.targets.cpu.text import LANES, REGISTER, Text
from compiler.targets.cpu.tiles import TileShape, Tiling, depth_of, nominal, nominal_rows
from compiler.targets.cpu.turning import move_turned
from compiler.types import BatchExtent

AHEAD = 8  # how many steps of k before its use a vector is asked for; more may fall on the same lines of a cache


class Packing(Enum):
    """Where the panels of the right operand are copied to dense blocks."""

    NONE = "none"  # a single tile of rows reads each panel once
    OWN = "own"  # by each thread, into its scratch, when it comes to a panel
    SHARED = "shared"  # by a function of its own, all of them, where they last over calls


def packing_of(contract: TileContract, cut: Tiling, batch: int, lasts: bool) -> Packing:
    """Where to pack the panels; the right operand `lasts` where it is the same from call to call."""
    if is_packed(contract, cut.shape):
        return Packing.NONE
    is_static = all(isinstance(axis.extent, int) for axis in contract.k)
    if lasts and is_static and not any(axis.rhs_stride for axis in contract.outer):
        return Packing.SHARED
    rows = nominal(cut.walk.extent, batch) * cut.walk.unit
    if cut.turns_outside:
        rows *= nominal_rows(cut.walk.outer, batch)
    if contract.rhs_n_stride != 1 or rows > cut.shape.rows:
        return Packing.OWN
    return Packing.NONE


def is_packed(contract: TileContract, shape: TileShape) -> bool:
    """Whether the right operand lies as a single panel would."""
    axes = packed_axes(contract, shape.width)
    return contract.rhs_n_stride == 1 and contract.n == shape.width and axes == contract.k


def pack_all(k: KernelText, contract: TileContract, shape: TileShape, panels: int) -> KernelCode:
    """A function of its own that packs every panel; an item is one of them."""
    width = shape.vectors * LANES
    packer = KernelText(replace(k.kernel, prologue=(), stages=()), k.machine, k.lines)
    packer.open()
    text, type_ = packer.text, REGISTER[contract.dtype]
    shared = packer.argument(SharedPointer(), "ptr")

    def panel_body(panel: str, carried: list[str]) -> list[str]:
        column = text.mul(panel, width)
        right = text.add(text.mul(column, contract.rhs_n_stride), contract.rhs_offset)
        source = text.pointer(packer.bases[contract.rhs], right, type_)
        target = text.pointer(shared, text.mul(panel, panel_elements(contract, width)), type_)
        pack(packer, contract, width, column, source, target)
        return []

    with packer.of(contract):
        text.loop("%begin", "%end", 1, [], panel_body)
    return packer.close(Items(panels))


def panel_elements(contract: TileContract, width: int) -> int:
    """The room of a packed panel, for `batch = 1`. A turned one is written in whole blocks; batches have that slack."""
    depth = depth_of(contract)
    if contract.rhs_n_stride != 1 and all(isinstance(axis.extent, int) for axis in contract.k):
        depth = -(-depth // LANES) * LANES
    return depth * width


def panel_base(k: KernelText, contract: TileContract, width: int, packing: Packing) -> str:
    """The block of packed panels: the shared one, or the thread's own, behind everything else in its scratch."""
    if packing is Packing.NONE:
        return ""
    if packing is Packing.SHARED:
        return k.argument(SharedPointer(), "ptr")
    size = panel_elements(contract, width) * contract.dtype.size
    base = k.text.let(f"getelementptr i8, ptr %scratch, i64 {k.scratch_bytes}", "p")
    if any(isinstance(axis.extent, BatchExtent) for axis in contract.k):
        k.scratch_batch_bytes = size
    else:
        k.scratch_bytes += size
    return base


def packed_axes(contract: TileContract, width: int) -> tuple[ContractedAxis, ...]:
    """The summed axes with the strides that a packed panel has."""
    axes: list[ContractedAxis] = []
    step = width
    for axis in reversed(contract.k):
        axes.append(ContractedAxis(axis.extent, axis.lhs_stride, step))
        step *= count(axis.extent)
    return tuple(reversed(axes))


def pack(k: KernelText, contract: TileContract, width: int, column: str, source: str, target: str) -> None:
    """Copy a panel so that the `width` columns of one k lie side by side, and the next k behind them."""
    if contract.rhs_n_stride != 1:
        (axis,) = contract.k
        pack_transposed(k, contract, width, column, source, target, k.extent(axis.extent))
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

    over(contract.k, packed_axes(contract, width), source, target)


def pack_transposed(
    k: KernelText, contract: TileContract, width: int, column: str, source: str, target: str, depth: str
) -> None:
    """As `pack`, from an operand whose k lie side by side: blocks of LANES x LANES turn in registers."""
    text, type_ = k.text, REGISTER[contract.dtype]
    starts = _column_starts(text, contract, width, column)

    def block(index: str, carried: list[str]) -> list[str]:
        for part in range(width // LANES):
            rows, columns = list[str](), list[str]()
            for lane in range(LANES):
                rows.append(text.pointer(source, text.add(starts[part * LANES + lane], index), type_))
                here = text.add(text.mul(text.add(index, lane), width), part * LANES)
                columns.append(text.pointer(target, here, type_))
            move_turned(text, k.machine, contract.dtype, rows, columns)
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
