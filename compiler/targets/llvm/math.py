"""The elementary functions of the vector code: LLVM text for a function, an element type and a number of lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TypeAlias

from compiler.errors.diagnostics import CompilerBug
from compiler.machine import Machine
from compiler.targets.llvm import math_assembler, math_double, math_single
from compiler.targets.llvm.math_assembler import Block, Kind, Unary, Value
from compiler.types import DType

Binary: TypeAlias = Callable[[Value, Value], Value]

_OF_EVERY_TYPE: Mapping[str, Unary] = {
    "sqrt": math_assembler.square_root,
    "rsqrt": math_assembler.reciprocal_square_root,
    "floor": math_assembler.floor,
    "abs": math_assembler.absolute,
}
_UNARY: Mapping[DType, Mapping[str, Unary]] = {
    DType.F32: {**math_single.FUNCTIONS, **_OF_EVERY_TYPE},
    DType.F64: {**math_double.FUNCTIONS, **_OF_EVERY_TYPE},
}
_BINARY: Mapping[DType, Mapping[str, Binary]] = {
    DType.F32: {"pow": math_single.power},
    DType.F64: {"pow": math_double.power},
}
_KINDS: dict[DType, Kind] = {DType.F32: "float", DType.F64: "double"}

FUNCTIONS: tuple[str, ...] = (*_UNARY[DType.F32], *_BINARY[DType.F32])


def expand(
    function: str,
    operands: Sequence[str],
    dtype: DType,
    lanes: int,
    machine: Machine,
    fresh: Callable[[], str],
) -> tuple[list[str], str]:
    """The instructions to paste into a basic block, without indentation, and the name of their result.

    `operands` are values of `lanes` elements, with their `%`; `fresh` gives unused names, also with a `%`. The text is
    the same for all machines so far, which keeps their results the same as well.
    """
    block = Block(lanes, fresh, [])
    values = [Value(block, _KINDS[dtype], operand) for operand in operands]
    return block.lines, _formula(function, dtype, values).text


def _formula(function: str, dtype: DType, values: Sequence[Value]) -> Value:
    match values:
        case [x] if function in _UNARY[dtype]:
            return _UNARY[dtype][function](x)
        case [x, y] if function in _BINARY[dtype]:
            return _BINARY[dtype][function](x, y)
        case _:
            raise CompilerBug("math", f"there is no '{function}' of {len(values)} operands of type {dtype.value}")


def name_of(function: str, dtype: DType, lanes: int) -> str:
    """The LLVM name of the function that `definition` defines: `@dlc_exp_f32x16`."""
    return f"@dlc_{function}_{dtype.value}x{lanes}"


def definition(function: str, dtype: DType, lanes: int, machine: Machine) -> str:
    """The function as LLVM text. The code generator inlines nothing by itself: prefer `expand` in inner loops."""
    of_type = Block(lanes, str, []).type_of(_KINDS[dtype])
    operands = ["%x", "%y"] if function in _BINARY[dtype] else ["%x"]
    numbers = count()
    lines, result = expand(function, operands, dtype, lanes, machine, lambda: f"%v{next(numbers)}")
    parameters = ", ".join(f"{of_type} {operand}" for operand in operands)
    body = "".join(f"  {line}\n" for line in (*lines, f"ret {of_type} {result}"))
    attributes = "alwaysinline nounwind"
    return f"define internal {of_type} {name_of(function, dtype, lanes)}({parameters}) {attributes} {{\n{body}}}\n"
