"""Elementwise ops with steps or corners: logic, comparisons, extremes, rounding."""

from __future__ import annotations

from typing import final

from compiler.ops.arithmetic import Binary, Comparison, Symbolic, Unary
from compiler.ops.rules import BOOLEANS, EVERY, NUMBERS
from compiler.support.arrays import Array, np
from compiler.support.record import record


class _Logical(Binary):
    """A binary op on booleans."""

    accepted = BOOLEANS

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[None, None]:
        return None, None


@final
@record
class Not(Unary):
    name = "not"
    accepted = BOOLEANS

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> None:
        return None

    def compute(self, x: Array) -> Array:
        return np.logical_not(x)


@final
@record
class And(_Logical):
    name = "and"

    def compute(self, a: Array, b: Array) -> Array:
        return np.logical_and(a, b)


@final
@record
class Or(_Logical):
    name = "or"

    def compute(self, a: Array, b: Array) -> Array:
        return np.logical_or(a, b)


@final
@record
class NotEqual(Comparison):
    name = "ne"
    accepted = EVERY

    def compute(self, a: Array, b: Array) -> Array:
        return np.not_equal(a, b)


@final
@record
class LessEqual(Comparison):
    name = "le"

    def compute(self, a: Array, b: Array) -> Array:
        return np.less_equal(a, b)


def _tied(first: Symbolic, second: Symbolic, dy: Symbolic) -> Symbolic:
    """dy where `first` is less, half of it where both are equal, else 0."""
    return first.less(second).choose(dy, first.equals(second).choose(dy * 0.5, dy.zeros()))


@final
@record
class Maximum(Binary):
    """The larger of two; NaN if either is. Ties share the cotangent equally."""

    name = "maximum"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        return _tied(b, a, dy), _tied(a, b, dy)

    def compute(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)


@final
@record
class Minimum(Binary):
    """The smaller of two; NaN if either is. Ties share the cotangent equally."""

    name = "minimum"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        return _tied(a, b, dy), _tied(b, a, dy)

    def compute(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)


@final
@record
class Abs(Unary):
    name = "abs"
    accepted = NUMBERS

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        at_or_above = x.zeros().less(x).choose(dy, dy.zeros())  # the subgradient at 0 is 0
        return x.less(0).choose(-dy, at_or_above)

    def compute(self, x: Array) -> Array:
        return np.abs(x)


@final
@record
class Floor(Unary):
    name = "floor"

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> None:
        return None

    def compute(self, x: Array) -> Array:
        return np.floor(x)


@final
@record
class FloorDivide(Binary):
    """floor(a / b) of the exact quotient, as Python and NumPy have it; on integers, division by 0 gives 0."""

    name = "floordiv"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[None, None]:
        return None, None

    def compute(self, a: Array, b: Array) -> Array:
        return np.floor_divide(a, b)


@final
@record
class Modulo(Binary):
    """a - b * floor(a / b), the exact remainder, with the sign of b; on integers, modulo 0 gives 0."""

    name = "mod"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        return dy, -(dy * a.apply(FloorDivide(), b))

    def compute(self, a: Array, b: Array) -> Array:
        return np.mod(a, b)
