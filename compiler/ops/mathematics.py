"""Elementwise mathematical functions."""

from __future__ import annotations

import math
from typing import final

from compiler.arrays import Array, np
from compiler.ops.arithmetic import Binary, Term, Unary
from compiler.ops.build import constant_of
from compiler.ops.rules import FLOATS
from compiler.ops.stepwise import And, Not
from compiler.record import record


@final
@record
class Exp(Unary):
    name = "exp"

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * y

    def compute(self, x: Array) -> Array:
        return np.exp(x)


@final
@record
class Expm1(Unary):
    """exp(x) - 1, with all its digits near 0."""

    name = "expm1"

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * x.apply(Exp())  # y + 1 would lose the digits of what is far below 0

    def compute(self, x: Array) -> Array:
        return np.expm1(x)


@final
@record
class Log(Unary):
    name = "log"
    domain = (0.3, 3.0)

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy / x

    def compute(self, x: Array) -> Array:
        return np.log(x)


@final
@record
class Log1p(Unary):
    name = "log1p"
    domain = (-0.7, 3.0)

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy / (x + 1)

    def compute(self, x: Array) -> Array:
        return np.log1p(x)


@final
@record
class Sqrt(Unary):
    name = "sqrt"
    domain = (0.3, 3.0)

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * 0.5 / y

    def compute(self, x: Array) -> Array:
        return np.sqrt(x)


@final
@record
class Rsqrt(Unary):
    """1 / sqrt(x)."""

    name = "rsqrt"
    domain = (0.3, 3.0)

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * -0.5 * (y * y * y)

    def compute(self, x: Array) -> Array:
        return (1 / np.sqrt(x.astype(np.float64))).astype(x.dtype)


@final
@record
class Tanh(Unary):
    name = "tanh"

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * (1 - y * y)

    def compute(self, x: Array) -> Array:
        return np.tanh(x)


@final
@record
class Sigmoid(Unary):
    """1 / (1 + exp(-x))."""

    name = "sigmoid"

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * (y * (1 - y))

    def compute(self, x: Array) -> Array:
        small = np.exp(-np.abs(x.astype(np.float64)))  # never overflows
        return (np.where(x < 0, small, 1) / (1 + small)).astype(x.dtype)


@final
@record
class Erf(Unary):
    name = "erf"

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * ((-(x * x)).apply(Exp()) * (2 / math.sqrt(math.pi)))

    def compute(self, x: Array) -> Array:
        return np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype)


@final
@record
class Sin(Unary):
    name = "sin"

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * x.apply(Cos())

    def compute(self, x: Array) -> Array:
        return np.sin(x)


@final
@record
class Cos(Unary):
    name = "cos"

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return -(dy * x.apply(Sin()))

    def compute(self, x: Array) -> Array:
        return np.cos(x)


@final
@record
class Power(Binary):
    name = "pow"
    accepted = FLOATS
    domains = ((0.3, 2.0), (-2.0, 2.0))

    def backward(self, a: Term, b: Term, y: Term, dy: Term) -> tuple[Term | None, Term | None]:
        exponent = constant_of(b.builder, b.value)
        if exponent is not None:
            return _power_slope(a, float(exponent), y, dy), None
        # b = 0: no slope in a, even at a = 0. a = 0 with b >= 0: no slope in b, though log(a) is -inf.
        base = b.equals(0).choose(b.zeros(), b * a.apply(Power(), b - 1))
        flat = a.equals(0).apply(And(), b.less(0).apply(Not()))
        logarithm = flat.choose(a.zeros(), y * a.apply(Log()))
        return dy * base, dy * logarithm

    def compute(self, a: Array, b: Array) -> Array:
        return np.power(a, b)


def _power_slope(a: Term, exponent: float, y: Term, dy: Term) -> Term | None:
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
