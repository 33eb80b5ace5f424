"""Elementwise mathematical functions: each stands in `FUNCTIONS`, and so in the language, under its name."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, final

from compiler.graph.op import Op
from compiler.ops import rules
from compiler.ops.build import constant_of
from compiler.ops.elementwise import And, Binary, Not, Symbolic, Unary
from compiler.ops.intervals import BOTH_SIDES, LEAST, UNIT, Range, between, divided, guarded, root
from compiler.support.arrays import Array, np


class Function(Unary):
    """A function of a real number, which the language has under the name of the op."""

    document: ClassVar[str]

    @abstractmethod
    def interval(self, x: Range) -> Range:
        """The range of the results for operands of the range `x`."""


@final
class Exp(Function):
    name = "exp"
    document = "e to the power of x."

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return dy * y

    def interval(self, x: Range) -> Range:
        return Range(max(guarded(math.exp, x.low), LEAST), guarded(math.exp, x.high))


@final
class Expm1(Function):
    name = "expm1"
    document = "exp(x) - 1, exact for small x."

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return dy * x.apply(Exp())  # y + 1 would lose the digits of what is far below 0

    def interval(self, x: Range) -> Range:
        return Range(guarded(math.expm1, x.low), guarded(math.expm1, x.high))


@final
class Log(Function):
    name = "log"
    document = "The natural logarithm."

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return dy / x

    def interval(self, x: Range) -> Range:
        low = math.log(x.low) if x.is_positive else -math.inf
        return Range(low, guarded(math.log, x.high) if x.high > 0 else 0.0)


@final
class Log1p(Function):
    name = "log1p"
    document = "log(1 + x), exact for small x."

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return dy / (x + 1)

    def interval(self, x: Range) -> Range:
        low = math.log1p(x.low) if x.low > -1 else -math.inf
        return Range(low, guarded(math.log1p, x.high) if x.high > -1 else 0.0)


@final
class Sqrt(Function):
    name = "sqrt"
    document = "The square root."

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return dy * 0.5 / y

    def interval(self, x: Range) -> Range:
        return root(x)


@final
class Rsqrt(Function):
    name = "rsqrt"
    document = "1 / sqrt(x)."

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return dy * -0.5 * (y * y * y)

    def compute(self, x: Array) -> Array:
        return (1 / np.sqrt(x.astype(np.float64))).astype(x.dtype)

    def interval(self, x: Range) -> Range:
        return divided(Range(1.0, 1.0), root(x))


@final
class Tanh(Function):
    name = "tanh"
    document = "The hyperbolic tangent."

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return dy * (1 - y * y)

    def interval(self, x: Range) -> Range:
        return between(math.tanh, x, BOTH_SIDES)


@final
class Sigmoid(Function):
    name = "sigmoid"
    document = "1 / (1 + exp(-x)), for x of any size."

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return dy * (y * (1 - y))

    def compute(self, x: Array) -> Array:
        small = np.exp(-np.abs(x.astype(np.float64)))  # never overflows
        return (np.where(x < 0, small, 1) / (1 + small)).astype(x.dtype)

    def interval(self, x: Range) -> Range:
        return between(lambda bound: 1 / (1 + guarded(math.exp, -bound)), x, UNIT)


@final
class Erf(Function):
    name = "erf"
    document = "The error function."

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return dy * ((-(x * x)).apply(Exp()) * (2 / math.sqrt(math.pi)))

    def compute(self, x: Array) -> Array:
        return np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype)

    def interval(self, x: Range) -> Range:
        return between(math.erf, x, BOTH_SIDES)


@final
class Sin(Function):
    name = "sin"
    document = "The sine."

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return dy * x.apply(Cos())

    def interval(self, x: Range) -> Range:
        return BOTH_SIDES


@final
class Cos(Function):
    name = "cos"
    document = "The cosine."

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return -(dy * x.apply(Sin()))

    def interval(self, x: Range) -> Range:
        return BOTH_SIDES


@final
class Power(Binary):
    name = "pow"
    numpy = "power"
    accepted = rules.FLOATS

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic | None, Symbolic | None]:
        exponent = constant_of(b.builder, b.value)
        if exponent is not None:
            return _power_slope(a, float(exponent), y, dy), None
        # b = 0: no slope in a, even at a = 0. a = 0 with b >= 0: no slope in b, though log(a) is -inf.
        base = b.equals(0).choose(b.zeros(), b * a.apply(Power(), b - 1))
        flat = a.equals(0).apply(And(), b.less(0).apply(Not()))
        logarithm = flat.choose(a.zeros(), y * a.apply(Log()))
        return dy * base, dy * logarithm


def _power_slope(a: Symbolic, exponent: float, y: Symbolic, dy: Symbolic) -> Symbolic | None:
    """The cotangent of a in y = a ^ exponent, without a logarithm and without 0 * inf."""
    if exponent == 0:
        return None
    if exponent == 1:
        return dy
    if exponent == 2:
        return dy * (a * 2)
    if exponent == 0.5:
        return dy * 0.5 / y
    if exponent == -1:
        return -(dy * (y * y))
    return dy * (a.apply(Power(), exponent - 1) * exponent)


FUNCTIONS: tuple[type[Function], ...] = (Exp, Expm1, Log, Log1p, Sqrt, Rsqrt, Tanh, Sigmoid, Erf, Sin, Cos)
MATHEMATICS: tuple[type[Op], ...] = (*FUNCTIONS, Power)
"""Ops of many instructions, for each of which `targets/llvm/math_single` and `math_double` have a formula."""
