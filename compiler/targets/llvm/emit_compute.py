"""One elementwise op becomes LLVM instructions, on a vector or a scalar, with the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from compiler.errors.diagnostics import CompilerBug
from compiler.nest.ir import Type, vector
from compiler.targets.llvm.assembler import Formula, Value, absolute, call, floor, fma, select
from compiler.targets.llvm.text import NAMES, REGISTER, SUFFIXES, Text
from compiler.targets.llvm.threefry import drawn
from compiler.types import DType

_OF_FLOATS = {
    **{"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"},
    **{"eq": "fcmp oeq", "ne": "fcmp une", "lt": "fcmp olt", "le": "fcmp ole"},
}
_OF_INTEGERS = {
    **{"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or"},
    **{"eq": "icmp eq", "ne": "icmp ne", "lt": "icmp slt", "le": "icmp sle"},
}
_OF_UNSIGNED = {**_OF_INTEGERS, "lt": "icmp ult", "le": "icmp ule"}
_INSTRUCTIONS: Mapping[DType, Mapping[str, str]] = {
    dtype: _OF_FLOATS if dtype.is_float else _OF_UNSIGNED if dtype.is_unsigned else _OF_INTEGERS for dtype in DType
}
_FORMULAS: Mapping[str, Formula] = {
    "fma": fma,
    "where": select,
    "not": Value.__invert__,
    "neg": Value.__neg__,
    "floor": floor,
}


def compute(text: Text, name: str, operands: Sequence[tuple[Type, str]], result: DType) -> str:
    """Append the instructions of the op `name`; the name of their result. All operands have equally many lanes."""
    type_, first = operands[0]
    assert type_.dtype is not None
    instruction = _INSTRUCTIONS[type_.dtype].get(name)
    if instruction is not None:
        return text.let(f"{instruction} {NAMES[type_]} {first}, {operands[1][1]}")
    stem, formula = _formula(name, type_.dtype, result)
    return formula(*[Value(text, of, operand, stem) for of, operand in operands]).name


def _formula(name: str, dtype: DType, result: DType) -> tuple[str, Formula]:
    """The formula of an op whose first operand has elements of `dtype`, and what the names of its values begin with."""
    match name:
        case "cast":
            return "v", partial(cast, target=result)
        case "threefry":
            return "v", partial(drawn, dtype=result)
        case "abs":
            return "v", absolute if dtype.is_float else _absolute_integer
        case "maximum" | "minimum":
            return "v", partial(_extreme, name)
        case "floordiv" | "mod" if dtype.is_float:
            from compiler.targets.llvm.float_division import float_division  # few programs divide so

            return "m", partial(float_division, name)
        case "floordiv" | "mod":
            return "v", partial(_integer_division, name)
        case "flush":
            return "v", _without_subnormals
        case _ if name in _FORMULAS:
            return "v", _FORMULAS[name]
        case _ if dtype.is_float and name in (functions := functions_of(dtype)):
            return "m", functions[name]
        case _:
            raise CompilerBug("emit", f"no instructions for the op '{name}' of {dtype.value}")


def functions_of(dtype: DType) -> Mapping[str, Formula]:
    """The formulas of `ops/mathematics.py` in a float type, the same for all machines."""
    if dtype is DType.F64:
        from compiler.targets.llvm.math_double import FUNCTIONS  # few programs compute in f64
    else:
        from compiler.targets.llvm.math_single import FUNCTIONS
    return FUNCTIONS


def cast(value: Value, target: DType) -> Value:
    """A conversion as NumPy's `astype`: floats truncate, anything but zero is true."""
    source = value.dtype
    if source is target:
        return value
    if DType.F16 in (source, target):
        from compiler.targets.llvm.half import from_half, to_half  # few programs have f16

        return cast(from_half(value), target) if source is DType.F16 else to_half(value)
    if target is DType.BOOL:
        return value.compared("une", "ne", 0)
    if source.is_float and target.is_float:
        return value.widened() if target is DType.F64 else value.narrowed()
    if source.is_float:
        type_ = vector(target, value.type.lanes)
        name = f"llvm.fpto{'ui' if target.is_unsigned else 'si'}.sat.{SUFFIXES[type_]}.{SUFFIXES[value.type]}"
        return value.written(f"call {NAMES[type_]} @{name}({value.typed})", type_)
    if target.is_float:
        return value.converted("uitofp" if source.is_unsigned else "sitofp", target)
    if REGISTER[source] == REGISTER[target]:
        return value.relabelled(target)
    if source.size > target.size:
        return value.converted("trunc", target)
    return value.converted("zext" if source.is_unsigned else "sext", target)


def _without_subnormals(x: Value) -> Value:
    exponent = 0x7FF << 52 if x.dtype is DType.F64 else 0xFF << 23
    return select((x.bits() & exponent).equals(0), 0.0, x)


def _absolute_integer(x: Value) -> Value:
    if x.dtype.is_unsigned:
        return x
    return x.written(f"call {NAMES[x.type]} @llvm.abs.{SUFFIXES[x.type]}({x.typed}, i1 false)")


def _extreme(name: str, x: Value, y: Value) -> Value:
    """The greater or lesser of two; NaN where either is NaN."""
    if not x.dtype.is_float:
        return call(f"{'u' if x.dtype.is_unsigned else 's'}{name[:3]}", x, y)
    chosen = select(x > y if name == "maximum" else x < y, x, y)
    return select(x.is_nan(), x, chosen)


def _integer_division(name: str, x: Value, y: Value) -> Value:
    """Flooring division; a zero divisor gives 0 (NumPy's answer), and never traps."""
    none = y.equals(0)
    divisor = select(none, 1, y)
    if x.dtype.is_unsigned:
        return select(none, 0, x.binary("udiv" if name == "floordiv" else "urem", divisor))
    flips = divisor.equals(-1)
    safe = select(flips, 1, divisor)
    remainder = x.binary("srem", safe)
    low = ((remainder ^ safe) < 0) & remainder.differs(0)
    if name == "mod":
        return select(none, 0, select(low, remainder + safe, remainder))
    quotient = x.binary("sdiv", safe)
    whole = select(low, quotient - 1, quotient)
    return select(none, 0, select(flips, -x, whole))
