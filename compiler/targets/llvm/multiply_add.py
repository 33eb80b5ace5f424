"""A multiply-add that is rounded once, as LLVM text: an intrinsic, or pieces of the registers that have one."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.machine import MultiplyAdd
from compiler.nest.ir import Type, vector
from compiler.targets.llvm.text import NAMES, SUFFIXES, Text
from compiler.types import DType

_REGISTER_BYTES = 16  # of WebAssembly


def multiply_add(text: Text, type_: Type, left: str, right: str, addend: str) -> str:
    """The instruction for `left * right + addend` of a type; what it needs stands before it."""
    operands = (left, right, addend)
    assert type_.dtype is not None
    calls = calls_function(text.multiply_add, type_.dtype)
    if text.multiply_add is not MultiplyAdd.RELAXED and not calls:
        return _call(f"llvm.fma.{SUFFIXES[type_]}", type_, operands)
    lanes = _REGISTER_BYTES // type_.dtype.size
    register = vector(type_.dtype, lanes)
    name = f"{'dlc_fma_' if calls else 'llvm.wasm.relaxed.madd.'}{SUFFIXES[register]}"
    if type_.name == type_.dtype.value:
        vectors = [text.let(f"insertelement {NAMES[register]} poison, {NAMES[type_]} {x}, i64 0") for x in operands]
        return f"extractelement {NAMES[register]} {text.let(_call(name, register, vectors))}, i64 0"
    if type_.lanes == lanes:
        return _call(name, register, operands)
    if type_.lanes < lanes:
        vectors = [text.let(_lanes(type_, x, range(type_.lanes), lanes)) for x in operands]
        return _lanes(register, text.let(_call(name, register, vectors)), range(type_.lanes), type_.lanes)
    pieces: list[str] = []
    for first in range(0, type_.lanes, lanes):
        vectors = [text.let(_lanes(type_, x, range(first, first + lanes), lanes)) for x in operands]
        pieces.append(text.let(_call(name, register, vectors)))
    return _joined(text, register, pieces)


def _call(function: str, type_: Type, operands: Sequence[str]) -> str:
    name = NAMES[type_]
    return f"call {name} @{function}({', '.join([f'{name} {operand}' for operand in operands])})"


def _lanes(type_: Type, value: str, lanes: range, width: int) -> str:
    """Some lanes of a vector, in one of so many, whose others hold anything."""
    picks = [f"i32 {lane}" for lane in lanes] + ["i32 poison"] * (width - len(lanes))
    return f"shufflevector {NAMES[type_]} {value}, {NAMES[type_]} poison, <{width} x i32> <{', '.join(picks)}>"


def _joined(text: Text, piece: Type, pieces: Sequence[str]) -> str:
    """The instruction that joins two pieces or more, pair by pair; the pairs before it are written."""
    assert piece.dtype is not None
    name, lanes = NAMES[piece], 2 * piece.lanes
    picks = ", ".join([f"i32 {lane}" for lane in range(lanes)])
    joins = [
        f"shufflevector {name} {low}, {name} {high}, <{lanes} x i32> <{picks}>"
        for low, high in zip(pieces[::2], pieces[1::2], strict=True)
    ]
    if len(joins) == 1:
        return joins[0]
    return _joined(text, vector(piece.dtype, lanes), [text.let(join) for join in joins])


def calls_function(way: MultiplyAdd, dtype: DType) -> bool:
    """Whether a multiply-add of elements of this type is a call of a function of the library."""
    return way is MultiplyAdd.FUNCTIONS or (way is MultiplyAdd.SINGLE and dtype is DType.F64)


def declarations(text: Text) -> list[str]:
    """The functions of the library that may be called."""
    registers = ((DType.F32, "<4 x float>", "v4f32"), (DType.F64, "<2 x double>", "v2f64"))
    return [
        f"declare {type_} @dlc_fma_{suffix}({type_}, {type_}, {type_}) nounwind memory(none)"
        for dtype, type_, suffix in registers
        if calls_function(text.multiply_add, dtype)
    ]
