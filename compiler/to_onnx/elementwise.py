"""Ops that compute each element from the elements at the same place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from compiler.graph.ir import Node
from compiler.graph.op import Op
from compiler.ops.elementwise import (
    Abs,
    Add,
    And,
    Cast,
    Divide,
    Equal,
    Floor,
    FloorDivide,
    Flush,
    FusedMultiplyAdd,
    Less,
    LessEqual,
    Maximum,
    Minimum,
    Modulo,
    Multiply,
    Negate,
    Not,
    NotEqual,
    Or,
    Subtract,
    Where,
)
from compiler.ops.mathematics import Cos, Erf, Exp, Expm1, Log, Log1p, Power, Rsqrt, Sigmoid, Sin, Sqrt, Tanh
from compiler.to_onnx.emitter import Emitter, Held
from compiler.types import DType, Extent, Shape

Translation: TypeAlias = Callable[[Emitter, Node], None]
Formula: TypeAlias = Callable[["Numbers", str], str]

_SMALL = 1e-5  # below it, two terms of a series of e^x - 1 or log(1 + x) have all digits of an f32


class Numbers:
    """Arithmetic on names of one element type; Python's numbers become constants."""

    def __init__(self, emitter: Emitter, dtype: DType) -> None:
        self.emitter, self.dtype = emitter, dtype

    def __call__(self, operator: str, *operands: str | float) -> str:
        names = [x if isinstance(x, str) else self.emitter.number(x, self.dtype) for x in operands]
        return self.emitter.emit(operator, *names)


def joint_shape(*shapes: Shape) -> Shape:
    """The shape to which ONNX broadcasts tensors of these shapes."""
    rank = max(map(len, shapes))
    found: list[Extent] = [1] * rank
    for shape in shapes:
        for axis, extent in enumerate(shape, rank - len(shape)):
            if extent != 1:
                found[axis] = extent
    return tuple(found)


def keep_joint(e: Emitter, node: Node, name: str, *operands: Held) -> None:
    """The result of elementwise operators, as far as it was repeated."""
    e.keep(node.results[0], name, joint_shape(*(held.shape for held in operands)))


def _operator(name: str) -> Translation:
    """A single operator, which computes the same."""

    def formula(f: Numbers, *operands: str) -> str:
        return f(name, *operands)

    return _formula(formula)


def _formula(formula: Callable[..., str]) -> Translation:
    """Several operators, of `Numbers` and the names of the operands.

    Those of u8 are computed in i32, of which the lowest bits are the result: few operators of runtimes take u8.
    """

    def translate(e: Emitter, node: Node) -> None:
        operands, dtype = [e.read(operand) for operand in node.operands], node.operands[0].type.dtype
        names = [held.name for held in operands]
        if dtype is DType.U8:
            names, dtype = [e.cast(name, DType.I32) for name in names], DType.I32
        found = formula(Numbers(e, dtype), *names)
        is_narrow = node.results[0].type.dtype is DType.U8
        keep_joint(e, node, e.cast(found, DType.U8) if is_narrow else found, *operands)

    return translate


def _not_equal(f: Numbers, a: str, b: str) -> str:
    return f("Not", f("Equal", a, b))


def _rsqrt(f: Numbers, x: str) -> str:
    return f("Div", 1.0, f("Sqrt", x))


def _cos(f: Numbers, x: str) -> str:
    """In f64, a sine: not every version of ONNX Runtime has a cosine of it."""
    return f("Cos", x) if f.dtype is DType.F32 else f("Sin", f("Add", x, math.pi / 2))


def _fused(f: Numbers, a: str, b: str, c: str) -> str:
    """In f64, where the product of two f32 is exact."""
    if f.dtype is DType.F64:
        return f("Add", f("Mul", a, b), c)
    wide = [f.emitter.cast(x, DType.F64) for x in (a, b, c)]
    return f.emitter.cast(f("Add", f("Mul", *wide[:2]), wide[2]), f.dtype)


def _in_double(formula: Formula) -> Formula:
    """A formula that loses half of its digits: in f64, for results in f32."""

    def wide(f: Numbers, x: str) -> str:
        e = f.emitter
        return e.cast(formula(Numbers(e, DType.F64), e.cast(x, DType.F64)), DType.F32)

    return wide


def _expm1(f: Numbers, x: str) -> str:
    if f.dtype is DType.F32:
        return _in_double(_expm1_by_series)(f, x)
    # Kahan: (u - 1) x / log(u) for u = e^x has all digits where u is neither 1 nor so small that u - 1 is -1.
    u = f("Exp", x)
    less = f("Sub", u, 1.0)
    quotient = f("Div", f("Mul", less, x), f("Log", u))
    is_far = f("Less", 0.5, f("Abs", x))
    return f("Where", is_far, less, f("Where", f("Equal", u, 1.0), x, quotient))


def _expm1_by_series(f: Numbers, x: str) -> str:
    near = f("Add", x, f("Mul", f("Mul", x, x), 0.5))
    return f("Where", f("Less", f("Abs", x), _SMALL), near, f("Sub", f("Exp", x), 1.0))


def _log1p(f: Numbers, x: str) -> str:
    if f.dtype is DType.F32:
        return _in_double(_log1p_by_series)(f, x)
    # Kahan: log(u) x / (u - 1) for u = 1 + x, rounded.
    u = f("Add", x, 1.0)
    log = f("Log", u)
    quotient = f("Div", f("Mul", log, x), f("Sub", u, 1.0))
    is_far = f("Less", 0.5, f("Abs", x))
    return f("Where", is_far, log, f("Where", f("Equal", u, 1.0), x, quotient))


def _log1p_by_series(f: Numbers, x: str) -> str:
    near = f("Sub", x, f("Mul", f("Mul", x, x), 0.5))
    return f("Where", f("Less", f("Abs", x), _SMALL), near, f("Log", f("Add", x, 1.0)))


def _flush(f: Numbers, x: str) -> str:
    smallest_normal = 2.0 ** (-126 if f.dtype is DType.F32 else -1022)
    return f("Where", f("Less", f("Abs", x), smallest_normal), 0.0, x)


def _erf(f: Numbers, x: str) -> str:
    return f("Erf", x) if f.dtype is DType.F32 else _erf_by_integral(f, x)


def _erf_by_integral(f: Numbers, x: str) -> str:
    """In f64, of which ONNX Runtime has no `Erf`: 2 x / sqrt(pi) times the integral of exp(-(x u)^2) for u from 0 to 1.

    Gauss and Legendre's rule of 24 points is off by at most 2e-15 for |x| up to 6, from where on erf(x) is 1.
    """
    e, (points, weights) = f.emitter, np.polynomial.legendre.leggauss(24)
    bounded = f("Min", f("Max", x, -6.0), 6.0)
    scaled = f("Mul", f("Unsqueeze", bounded, e.integers([-1])), e.constant((points + 1) / 2))
    heights = f("Exp", f("Neg", f("Mul", scaled, scaled)))
    area = f("MatMul", heights, e.constant(weights / 2))
    return f("Mul", f("Mul", bounded, 2 / math.sqrt(math.pi)), area)


def _modulo(f: Numbers, a: str, b: str) -> str:
    if not f.dtype.is_float:
        return f("Where", f("Equal", b, 0), 0, f("Mod", a, _divisor(f, b)))
    rest = f.emitter.emit("Mod", a, b, fmod=1)
    return f("Where", _has_other_sign(f, rest, b), f("Add", rest, b), rest)


def _divisor(f: Numbers, b: str) -> str:
    """A divisor without 0, and without -1, by which the least integer overflows in a processor. Modulo 1, all are 0."""
    is_special = f("Or", f("Equal", b, 0), f("Equal", b, -1))
    return f("Where", is_special, 1, b)


def _has_other_sign(f: Numbers, rest: str, b: str) -> str:
    signs_differ = f("Xor", f("Less", rest, 0), f("Less", b, 0))
    return f("And", signs_differ, f("Not", f("Equal", rest, 0)))


def _floor_divide(f: Numbers, a: str, b: str) -> str:
    if f.dtype.is_float:
        return _float_floor_divide(f, a, b)
    divisor = _divisor(f, b)
    rest = f.emitter.emit("Mod", a, divisor, fmod=1)
    quotient = f("Div", f("Sub", a, rest), divisor)  # without a remainder, so that no rounding decides
    quotient = f("Where", _has_other_sign(f, rest, divisor), f("Sub", quotient, 1), quotient)
    return f("Where", f("Equal", b, 0), 0, f("Where", f("Equal", b, -1), f("Neg", a), quotient))


def _float_floor_divide(f: Numbers, a: str, b: str) -> str:
    """As NumPy has it: the quotient without the remainder, which is nearly whole, and then rounded."""
    rest = f.emitter.emit("Mod", a, b, fmod=1)
    near = f("Div", f("Sub", a, rest), b)
    near = f("Where", _has_other_sign(f, rest, b), f("Sub", near, 1.0), near)
    down = f("Floor", near)
    rounded = f("Where", f("Less", 0.5, f("Sub", near, down)), f("Add", down, 1.0), down)
    return f("Where", f("Equal", b, 0.0), f("Div", a, b), rounded)


def _where(e: Emitter, node: Node) -> None:
    operands = [e.read(operand) for operand in node.operands]
    condition, a, b = (held.name for held in operands)
    keep_joint(e, node, chosen(e, condition, a, b, node.results[0].type.dtype), *operands)


def chosen(e: Emitter, condition: str, a: str, b: str, dtype: DType) -> str:
    """a where the condition is true, else b; ONNX Runtime has no such operator for booleans."""
    if dtype is not DType.BOOL:
        return e.moved(dtype, (a, b), lambda a, b: e.emit("Where", condition, a, b))
    return e.emit("Or", e.emit("And", condition, a), e.emit("And", e.emit("Not", condition), b))


def _cast(e: Emitter, node: Node) -> None:
    held, target = e.read(node.operands[0]), node.results[0].type.dtype
    source = node.operands[0].type.dtype
    if source is target:
        name = held.name
    elif source is DType.F64 and target is DType.F16:
        name = _half_of_double(Numbers(e, DType.F64), held.name)
    elif source.is_float and not target.is_float and target is not DType.BOOL:
        name = _saturated(Numbers(e, DType.F64), held.name, target)
    else:
        name = e.cast(held.name, target)
    keep_joint(e, node, name, held)


def _saturated(f: Numbers, x: str, target: DType) -> str:
    """A float as an integer, computed in f64: the nearest one that there is, and 0 for NaN."""
    e, (least, greatest) = f.emitter, target.limits
    x = e.cast(x, DType.F64)
    x = f("Where", f("IsNaN", x), 0.0, x)
    low, high = float(least), float(greatest)
    if target not in (DType.I64, DType.U64):
        return e.cast(f("Min", f("Max", x, low), high), target)
    # The greatest i64 and u64 are no f64: `high` is one more.
    is_above, is_below = f("LessOrEqual", high, x), f("LessOrEqual", x, low)
    inner = e.cast(f("Where", f("Or", is_above, is_below), 0.0, x), target)
    above, below = (e.number(number, target) for number in (greatest, least))
    return chosen(e, is_above, above, chosen(e, is_below, below, inner, target), target)


def _half_of_double(f: Numbers, x: str) -> str:
    """f16 by way of f32, which would round twice: next to the middle of two f16, x is moved to the nearer one first.

    `Where` chooses among factors, since ONNX Runtime's loses the sign of a zero.
    """
    e = f.emitter

    def half(y: str) -> str:
        return e.cast(e.cast(y, DType.F32), DType.F16)

    def distance(factor: float) -> str:
        return f("Abs", f("Sub", x, e.cast(half(f("Mul", x, factor)), DType.F64)))

    below, above = 1 - 2.0**-20, 1 + 2.0**-20
    from_below, from_above = distance(below), distance(above)
    factor = f("Where", f("Less", from_below, from_above), below, 1.0)
    factor = f("Where", f("Less", from_above, from_below), above, factor)
    is_finite = f("Less", f("Abs", x), 65520.0)
    return half(f("Mul", x, f("Where", is_finite, factor, 1.0)))


ELEMENTWISE: dict[type[Op], Translation] = {
    Negate: _operator("Neg"),
    Add: _operator("Add"),
    Subtract: _operator("Sub"),
    Multiply: _operator("Mul"),
    Divide: _operator("Div"),
    FusedMultiplyAdd: _formula(_fused),
    Equal: _operator("Equal"),
    NotEqual: _formula(_not_equal),
    Less: _operator("Less"),
    LessEqual: _operator("LessOrEqual"),
    Maximum: _operator("Max"),
    Minimum: _operator("Min"),
    Abs: _operator("Abs"),
    Floor: _operator("Floor"),
    Flush: _formula(_flush),
    FloorDivide: _formula(_floor_divide),
    Modulo: _formula(_modulo),
    Not: _operator("Not"),
    And: _operator("And"),
    Or: _operator("Or"),
    Where: _where,
    Cast: _cast,
    Exp: _operator("Exp"),
    Expm1: _formula(_expm1),
    Log: _operator("Log"),
    Log1p: _formula(_log1p),
    Sqrt: _operator("Sqrt"),
    Rsqrt: _formula(_rsqrt),
    Tanh: _operator("Tanh"),
    Sigmoid: _operator("Sigmoid"),
    Erf: _formula(_erf),
    Sin: _operator("Sin"),
    Cos: _formula(_cos),
    Power: _operator("Pow"),
}
