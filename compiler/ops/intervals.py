"""Interval arithmetic: the ranges in which results lie whose operands lie in ranges."""

from __future__ import annotations

import math
from collections.abc import Callable

from compiler.support.record import record

LEAST = 5e-324
"""The least number above 0: the lower bound of positive numbers."""


@record
class Range:
    """All numbers from `low` to `high`. A finite bound is one that values come near to, not a mere estimate."""

    low: float
    high: float

    def reaches(self, bound: float) -> bool:
        """Whether a value can be `bound`, as far as that is known: nothing is known of what can be anything."""
        is_inside = math.isfinite(self.low) and math.isfinite(self.high) and self.low < bound < self.high
        return is_inside or bound in (self.low, self.high)

    def falls_to(self, bound: float) -> bool:
        """Whether a value can be `bound` or less, as far as that is known."""
        return math.isfinite(self.low) and self.low <= bound

    @property
    def is_positive(self) -> bool:
        return self.low > 0

    def without_zero(self) -> Range:
        return Range(LEAST if self.low == 0 else self.low, -LEAST if self.high == 0 else self.high)


EVERY = Range(-math.inf, math.inf)
UNIT = Range(0.0, 1.0)
BOTH_SIDES = Range(-1.0, 1.0)
NOT_NEGATIVE = Range(0.0, math.inf)
POSITIVE = Range(LEAST, math.inf)


def joined(*ranges: Range) -> Range:
    """The least range that contains all of these."""
    return Range(min(r.low for r in ranges), max(r.high for r in ranges))


def negated(a: Range) -> Range:
    return Range(-a.high, -a.low)


def added(a: Range, b: Range) -> Range:
    return Range(_sum(a.low, b.low, -math.inf), _sum(a.high, b.high, math.inf))


def multiplied(a: Range, b: Range) -> Range:
    corners = [_product(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    low = LEAST if a.is_positive and b.is_positive else min(corners)
    return Range(max(low, min(corners)), max(corners))


def remainder(a: Range, b: Range, is_whole: bool) -> Range:
    """a % b, which has the sign of b."""
    if not b.is_positive or math.isinf(b.high):
        return EVERY
    if a.low >= 0 and a.high < b.low:
        return a
    return Range(0.0, b.high - 1 if is_whole else b.high)


def squared(a: Range) -> Range:
    bounds = sorted((_product(a.low, a.low), _product(a.high, a.high)))
    return Range(0.0 if a.low <= 0 <= a.high else max(bounds[0], LEAST), bounds[1])


def divided(a: Range, b: Range) -> Range:
    if b.is_positive:
        low = LEAST if math.isinf(b.high) else 1 / b.high
        return multiplied(a, Range(low, math.inf if b.low < 1e-300 else 1 / b.low))
    if a.low >= 0 and b.low >= 0:
        return POSITIVE if a.is_positive else NOT_NEGATIVE
    return EVERY


def raised(a: Range, b: Range) -> Range:
    """a ^ b."""
    if b.low != b.high:
        return POSITIVE if a.is_positive else NOT_NEGATIVE if a.low >= 0 else EVERY
    exponent = b.low
    if exponent == 2:
        return squared(a)
    if exponent < 0:
        return divided(Range(1.0, 1.0), raised(a, negated(b)))
    if exponent % 2 == 0 and a.low < 0:
        return NOT_NEGATIVE
    if a.low >= 0:
        low, high = (guarded(lambda x: x**exponent, bound) for bound in (a.low, a.high))
        return Range(max(low, LEAST) if a.is_positive else low, high)
    return EVERY


def maximum(a: Range, b: Range) -> Range:
    return Range(max(a.low, b.low), max(a.high, b.high))


def minimum(a: Range, b: Range) -> Range:
    return Range(min(a.low, b.low), min(a.high, b.high))


def total(a: Range, count: int | None) -> Range:
    """The sum of `count` values, or of one or more where it is None."""
    low = a.low if a.low >= 0 else -math.inf if count is None else _product(a.low, count)
    high = a.high if a.high <= 0 else math.inf if count is None else _product(a.high, count)
    return Range(low, high)


def root(a: Range) -> Range:
    if math.isinf(a.low):
        return EVERY  # an operand that must not be negative is not known to come near to 0
    return Range(math.sqrt(max(a.low, 0.0)), guarded(math.sqrt, max(a.high, 0.0)))


def magnitude(a: Range) -> Range:
    if a.low >= 0:
        return a
    return negated(a) if a.high <= 0 else Range(0.0, max(-a.low, a.high))


def rounded_down(a: Range) -> Range:
    return Range(*(bound if math.isinf(bound) else float(math.floor(bound)) for bound in (a.low, a.high)))


def guarded(function: Callable[[float], float], x: float) -> float:
    """The function at `x`; infinity where that is too large for a float."""
    try:
        return function(x)
    except OverflowError:
        return math.inf


def between(function: Callable[[float], float], a: Range, limits: Range) -> Range:
    """A rising function that comes to its limits, in floats, where its operand is large."""
    ends = (a.low, limits.low), (a.high, limits.high)
    return Range(*(limit if math.isinf(x) else function(x) for x, limit in ends))


def _sum(x: float, y: float, otherwise: float) -> float:
    result = x + y
    return otherwise if math.isnan(result) else result


def _product(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y
