"""Rounded factors and products of small matrices as LLVM text: instructions of a device, or what stands for them.

On this processor the threads of a warp leave their elements in its room, behind the memory of the block, and each adds
up its own sums when all have left theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compiler.machine import MultiplyAdd
from compiler.nest import ir, matrices
from compiler.nest.ir import vector
from compiler.nest.lanes import all_statements
from compiler.targets.gpu.device import BLOCK_THREADS, WARP_THREADS
from compiler.targets.llvm.multiply_add import multiply_add
from compiler.targets.llvm.text import Text
from compiler.targets.llvm.to_llvm import Walk, Writers
from compiler.types import DType, Rounding

_INTRINSICS = {Rounding.BF16: "m16n8k16.row.col.bf16", Rounding.TF32: "m16n8k8.row.col.tf32"}
_DROPPED = {Rounding.BF16: 16, Rounding.TF32: 13}  # of the 24 digits of f32
_MOST_SUMMED = max(map(matrices.summed, Rounding))
_ROOM = (matrices.ROWS + matrices.COLUMNS) * _MOST_SUMMED * 4  # bytes of a warp


# a device


def _tf32(text: Text, value: str) -> str:
    return text.let(f"call i32 @llvm.nvvm.f2tf32.rna(float {value})")


def _round_on_device(walk: Walk, statement: ir.RoundFactor) -> str:
    text, value = walk.text, walk.names[statement.value]
    if statement.rounding is Rounding.TF32:  # whose instruction says nothing of the bits that it drops
        word = text.let(f"and i32 {_tf32(text, value)}, {-1 << _DROPPED[Rounding.TF32]}")
    else:
        half = text.let(f"bitcast bfloat {text.let(f'call bfloat @llvm.nvvm.f2bf16.rn(float {value})')} to i16")
        word = text.let(f"shl i32 {text.let(f'zext i16 {half} to i32')}, 16")
    return f"bitcast i32 {word} to float"


def _registers(text: Text, values: Sequence[str], rounding: Rounding) -> list[str]:
    """The operands of the instruction: rounded, and where two are in a register the first one below."""
    if rounding is Rounding.TF32:
        return [_tf32(text, value) for value in values]
    pairs = zip(values[::2], values[1::2], strict=True)
    made = [text.let(f"call <2 x bfloat> @llvm.nvvm.ff2bf16x2.rn(float {high}, float {low})") for low, high in pairs]
    return [text.let(f"bitcast <2 x bfloat> {pair} to i32") for pair in made]


def _multiply_on_device(walk: Walk, statement: ir.MultiplyMatrices) -> None:
    text, names, rounding = walk.text, walk.names, statement.rounding
    factors = [_registers(text, [names[o] for o in side], rounding) for side in (statement.left, statement.right)]
    given = [*(f"i32 {word}" for side in factors for word in side), *(f"float {names[o]}" for o in statement.sums)]
    results = f"{{{', '.join(['float'] * len(statement.results))}}}"
    found = text.let(f"call {results} @llvm.nvvm.mma.{_INTRINSICS[rounding]}({', '.join(given)})")
    for place, result in enumerate(statement.results):
        names[result] = text.let(f"extractvalue {results} {found}, {place}")


DEVICE_WRITERS: Writers = {ir.RoundFactor: ("v", _round_on_device), ir.MultiplyMatrices: ("", _multiply_on_device)}


# this processor


def bytes_of_rooms(nest: ir.Nest) -> int:
    """What a block's warps leave their matrices in."""
    return BLOCK_THREADS // WARP_THREADS * _ROOM if _roundings_in(nest) else 0


def room_lines(nest: ir.Nest, start: int) -> list[str]:
    """The room of the own warp, which begins behind so many bytes of the block."""
    if not _roundings_in(nest):
        return []
    return [
        f"  %warp = lshr i64 %thread, {WARP_THREADS.bit_length() - 1}",
        f"  %warp.bytes = mul i64 %warp, {_ROOM}",
        f"  %rooms = getelementptr i8, ptr %shared, i64 {start}",
        "  %room = getelementptr i8, ptr %rooms, i64 %warp.bytes",
    ]


def functions_of(nest: ir.Nest, way: MultiplyAdd) -> str:
    """The functions that the writers call."""
    return "".join(_chain(rounding, way) for rounding in _roundings_in(nest))


def _roundings_in(nest: ir.Nest) -> list[Rounding]:
    found = (s.rounding for s in all_statements(nest.body) if isinstance(s, ir.MultiplyMatrices))
    return [*dict.fromkeys(found)]


def _chain(rounding: Rounding, way: MultiplyAdd) -> str:
    """A function that adds the products of a row and a column to a sum, one after the other."""
    text, type_, total = Text(way), vector(DType.F32, 1), "%sum"
    for place in range(matrices.summed(rounding)):
        row, column = (text.let(f"getelementptr float, ptr {side}, i64 {place}", "p") for side in ("%row", "%column"))
        left, right = (text.let(f"load float, ptr {pointer}") for pointer in (row, column))
        total = text.let(multiply_add(text, type_, left, right, total))
    head = (
        f"define internal float @KERNEL.chain_{rounding.value}(ptr %row, ptr %column, float %sum) nounwind {{\nentry:"
    )
    return "\n".join([head, *text.lines, f"  ret float {total}\n}}\n"])


def _rounded(text: Text, value: str, rounding: Rounding) -> str:
    """A number with fewer digits; NaN stays as it is."""
    dropped = _DROPPED[rounding]
    bits = text.let(f"bitcast float {value} to i32")
    half = str(1 << dropped - 1)
    if rounding is Rounding.BF16:
        odd = text.let(f"and i32 {text.let(f'lshr i32 {bits}, {dropped}')}, 1")
        half = text.let(f"add i32 {odd}, {(1 << dropped - 1) - 1}")
    kept = text.let(f"and i32 {text.let(f'add i32 {bits}, {half}')}, {-1 << dropped}")
    number, is_nan = text.let(f"bitcast i32 {kept} to float"), text.let(f"fcmp uno float {value}, {value}")
    return f"select i1 {is_nan}, float {value}, float {number}"


def _round_on_host(walk: Walk, statement: ir.RoundFactor) -> str:
    return _rounded(walk.text, walk.names[statement.value], statement.rounding)


def multiply_on_host(wait: Callable[[Walk, ir.Statement], None]) -> Callable[[Walk, ir.MultiplyMatrices], None]:
    """The writer of a product, in which a thread waits for the others of its warp by `wait`."""

    def write(walk: Walk, statement: ir.MultiplyMatrices) -> None:
        text, rounding = walk.text, statement.rounding
        size = matrices.summed(rounding)
        line = text.let(f"lshr i64 {text.let(f'and i64 %thread, {WARP_THREADS - 1}')}, 2")
        within = text.let(f"and i64 %thread, {matrices.QUAD - 1}")
        columns = text.let(f"getelementptr float, ptr %room, i64 {matrices.ROWS * size}", "p")
        _leave(walk, statement.left, matrices.left_fragments(rounding), "%room", (line, within), rounding)
        _leave(walk, statement.right, matrices.right_fragments(rounding), columns, (line, within), rounding)
        wait(walk, statement)
        row = text.let(f"getelementptr float, ptr %room, i64 {text.let(f'mul i64 {line}, {size}')}", "p")
        column = text.let(f"getelementptr float, ptr {columns}, i64 {text.let(f'mul i64 {within}, {2 * size}')}", "p")
        found: list[str] = []
        for (below, behind), total in zip(matrices.SUMS, statement.sums, strict=True):
            own_row = text.let(f"getelementptr float, ptr {row}, i64 {below * size}", "p")
            own_column = text.let(f"getelementptr float, ptr {column}, i64 {behind * size}", "p")
            given = f"ptr {own_row}, ptr {own_column}, float {walk.names[total]}"
            found.append(text.let(f"call float @KERNEL.chain_{rounding.value}({given})"))
        wait(walk, statement)  # until all have read what is there
        walk.names.update(zip(statement.results, found, strict=True))

    return write


def _leave(
    walk: Walk,
    values: Sequence[ir.Operand],
    fragments: Sequence[matrices.Fragment],
    room: str,
    own: tuple[str, str],
    rounding: Rounding,
) -> None:
    """Put the own elements of a matrix, rounded, to their lines."""
    text, size = walk.text, matrices.summed(rounding)
    line = text.let(f"mul i64 {own[0]}, {size}")
    first = text.let(f"add i64 {line}, {text.let(f'mul i64 {own[1]}, {matrices.IN_REGISTER[rounding]}')}")
    for value, fragment in zip(values, fragments, strict=True):
        place = text.let(f"add i64 {first}, {fragment.line * size + fragment.element}")
        pointer = text.let(f"getelementptr float, ptr {room}, i64 {place}", "p")
        text.line(f"store float {text.let(_rounded(text, walk.names[value], rounding))}, ptr {pointer}")


HOST_WRITERS: Writers = {ir.RoundFactor: ("v", _round_on_host)}
