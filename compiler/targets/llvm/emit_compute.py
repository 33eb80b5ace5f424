"""One elementwise op becomes LLVM instructions, on a vector or a scalar, with the same bits."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.op import Op
from compiler.machine import Machine
from compiler.ops.elementwise import Cast
from compiler.ops.mathematics import MATHEMATICS
from compiler.targets.llvm import math
from compiler.targets.llvm.float_division import float_division
from compiler.targets.llvm.text import REGISTER, SUFFIX, Text, literal, splat_of, vector
from compiler.targets.llvm.threefry import drawn
from compiler.types import DType

FLOAT_BINARY = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
INTEGER_BINARY = {"add": "add", "sub": "sub", "mul": "mul"}
FLOAT_RELATION = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole"}
SIGNED_RELATION = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle"}
UNSIGNED_RELATION = {"eq": "eq", "ne": "ne", "lt": "ult", "le": "ule"}


def compute(
    text: Text, machine: Machine, op: Op, operands: Sequence[str], dtypes: Sequence[DType], dtype: DType, lanes: int
) -> str:
    """Append the instructions of `op`; the name of the result. All operands have `lanes` lanes."""
    name, kind = op.name, dtypes[0]
    type_ = vector(REGISTER[kind], lanes)
    if isinstance(op, Cast):
        return cast(text, operands[0], kind, op.dtype, lanes)
    if isinstance(op, MATHEMATICS):
        lines, result = math.expand(name, list(operands), kind, lanes, machine, lambda: text.fresh("m"))
        text.lines.extend(f"  {line.strip()}{text.location}" for line in lines)
        return result
    match name:
        case "threefry":
            return drawn(text, operands, dtype, lanes)
        case "add" | "sub" | "mul" | "div":
            table = FLOAT_BINARY if kind.is_float else INTEGER_BINARY
            return text.let(f"{table[name]} {type_} {operands[0]}, {operands[1]}")
        case "fma":
            listed = ", ".join(f"{type_} {o}" for o in operands)
            return text.let(f"call {type_} @llvm.fma.{_suffix(kind, lanes)}({listed})")
        case "eq" | "ne" | "lt" | "le":
            return text.let(f"{_relation(name, kind)} {type_} {operands[0]}, {operands[1]}")
        case "where":
            chosen = vector(REGISTER[dtype], lanes)
            test = vector("i1", lanes)
            return text.let(f"select {test} {operands[0]}, {chosen} {operands[1]}, {chosen} {operands[2]}")
        case "and" | "or":
            return text.let(f"{name} {type_} {operands[0]}, {operands[1]}")
        case "not":
            return text.let(f"xor {type_} {operands[0]}, {splat_of('i1', 'true', lanes)}")
        case "neg":
            zero = splat_of(REGISTER[kind], "0", lanes)
            return text.let(f"fneg {type_} {operands[0]}" if kind.is_float else f"sub {type_} {zero}, {operands[0]}")
        case "abs":
            return _absolute(text, operands, kind, lanes)
        case "floor":
            return _intrinsic(text, "floor", operands, kind, lanes)
        case "maximum" | "minimum":
            return extreme(text, name, operands[0], operands[1], kind, lanes)
        case "floordiv" | "mod":
            divide = float_division if kind.is_float else _integer_division
            return divide(text, name, operands, kind, lanes)
        case _:
            raise CompilerBug("emit", f"no instructions for the op '{name}'")


def extreme(text: Text, name: str, left: str, right: str, kind: DType, lanes: int) -> str:
    """The greater or lesser of two; NaN where either is NaN."""
    type_ = vector(REGISTER[kind], lanes)
    if not kind.is_float:
        sign = "u" if _unsigned(kind) or kind is DType.BOOL else "s"
        listed = f"{type_} {left}, {type_} {right}"
        return text.let(f"call {type_} @llvm.{sign}{name[:3]}.{_suffix(kind, lanes)}({listed})")
    relation = "ogt" if name == "maximum" else "olt"
    test = vector("i1", lanes)
    wins = text.let(f"fcmp {relation} {type_} {left}, {right}")
    chosen = text.let(f"select {test} {wins}, {type_} {left}, {type_} {right}")
    broken = text.let(f"fcmp uno {type_} {left}, {left}")
    return text.let(f"select {test} {broken}, {type_} {left}, {type_} {chosen}")


def cast(text: Text, value: str, source: DType, target: DType, lanes: int) -> str:
    """A conversion as NumPy's `astype`: floats truncate, anything but zero is true."""
    if source is target:
        return value
    old, new = vector(REGISTER[source], lanes), vector(REGISTER[target], lanes)
    if target is DType.BOOL:
        zero = splat_of(REGISTER[source], literal(0, source), lanes)
        return text.let(f"{'fcmp une' if source.is_float else 'icmp ne'} {old} {value}, {zero}")
    if source.is_float and target.is_float:
        return text.let(f"{'fpext' if target is DType.F64 else 'fptrunc'} {old} {value} to {new}")
    if source.is_float:
        sign = "ui" if _unsigned(target) else "si"
        name = f"llvm.fpto{sign}.sat.{_suffix(target, lanes)}.{_suffix(source, lanes)}"
        return text.let(f"call {new} @{name}({old} {value})")
    unsigned = _unsigned(source) or source is DType.BOOL
    if target.is_float:
        return text.let(f"{'ui' if unsigned else 'si'}tofp {old} {value} to {new}")
    if source.size > target.size:
        return text.let(f"trunc {old} {value} to {new}")
    if source.size == target.size and source is not DType.BOOL:
        return value
    return text.let(f"{'zext' if unsigned else 'sext'} {old} {value} to {new}")


def _relation(name: str, kind: DType) -> str:
    if kind.is_float:
        return f"fcmp {FLOAT_RELATION[name]}"
    return f"icmp {(UNSIGNED_RELATION if _unsigned(kind) else SIGNED_RELATION)[name]}"


def _absolute(text: Text, operands: Sequence[str], kind: DType, lanes: int) -> str:
    if kind.is_float:
        return _intrinsic(text, "fabs", operands, kind, lanes)
    if _unsigned(kind):
        return operands[0]
    type_ = vector(REGISTER[kind], lanes)
    return text.let(f"call {type_} @llvm.abs.{_suffix(kind, lanes)}({type_} {operands[0]}, i1 false)")


def _unsigned(dtype: DType) -> bool:
    return dtype in (DType.U8, DType.BOOL)


def _suffix(dtype: DType, lanes: int) -> str:
    suffix = SUFFIX[REGISTER[dtype]]
    return suffix if lanes == 1 else f"v{lanes}{suffix}"


def _intrinsic(text: Text, name: str, operands: Sequence[str], kind: DType, lanes: int) -> str:
    type_ = vector(REGISTER[kind], lanes)
    listed = ", ".join(f"{type_} {o}" for o in operands)
    return text.let(f"call {type_} @llvm.{name}.{_suffix(kind, lanes)}({listed})")


def _integer_division(text: Text, name: str, operands: Sequence[str], kind: DType, lanes: int) -> str:
    """Flooring division; a zero divisor gives 0 (NumPy's answer), and never traps."""
    type_, test = vector(REGISTER[kind], lanes), vector("i1", lanes)
    zero, one = splat_of(REGISTER[kind], "0", lanes), splat_of(REGISTER[kind], "1", lanes)
    none = text.let(f"icmp eq {type_} {operands[1]}, {zero}")
    divisor = text.let(f"select {test} {none}, {type_} {one}, {type_} {operands[1]}")
    if _unsigned(kind):
        result = text.let(f"{'udiv' if name == 'floordiv' else 'urem'} {type_} {operands[0]}, {divisor}")
        return text.let(f"select {test} {none}, {type_} {zero}, {type_} {result}")
    minus = splat_of(REGISTER[kind], "-1", lanes)
    flips = text.let(f"icmp eq {type_} {divisor}, {minus}")
    safe = text.let(f"select {test} {flips}, {type_} {one}, {type_} {divisor}")
    remainder = text.let(f"srem {type_} {operands[0]}, {safe}")
    signs = text.let(f"xor {type_} {remainder}, {safe}")
    differs = text.let(f"icmp slt {type_} {signs}, {zero}")
    inexact = text.let(f"icmp ne {type_} {remainder}, {zero}")
    low = text.let(f"and {test} {differs}, {inexact}")
    if name == "mod":
        moved = text.let(f"add {type_} {remainder}, {safe}")
        result = text.let(f"select {test} {low}, {type_} {moved}, {type_} {remainder}")
    else:
        quotient = text.let(f"sdiv {type_} {operands[0]}, {safe}")
        lower = text.let(f"sub {type_} {quotient}, {one}")
        whole = text.let(f"select {test} {low}, {type_} {lower}, {type_} {quotient}")
        negated = text.let(f"sub {type_} {zero}, {operands[0]}")
        result = text.let(f"select {test} {flips}, {type_} {negated}, {type_} {whole}")
    return text.let(f"select {test} {none}, {type_} {zero}, {type_} {result}")
