"""Arithmetic of configuration numbers, and formulas over numbers that only a run knows."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import TypeAlias

from compiler.support.record import record

Number: TypeAlias = int | float


@record
class Formula:
    """`operation` of numbers, of names of settings (`total_steps`), or of formulas."""

    operation: str
    operands: tuple[Formula | Number | str, ...]


def value_of(formula: Formula | Number | str, known: Mapping[str, Number]) -> Number | None:
    """The value with the settings that are known, or None where one is missing or there is no such number."""
    if isinstance(formula, str):
        return known.get(formula)
    if not isinstance(formula, Formula):
        return formula
    operands = [value_of(operand, known) for operand in formula.operands]
    numbers = [operand for operand in operands if operand is not None]
    if len(numbers) < len(operands):
        return None
    try:
        if len(numbers) == 2:
            return ARITHMETIC[formula.operation](*numbers)
        return function_of(formula.operation)(*numbers)
    except (ArithmeticError, ValueError):
        return None


def function_of(name: str) -> Callable[[Number], Number]:
    """A function of one number: that of `math`, where it has the name."""
    return _FUNCTIONS.get(name) or getattr(math, name)


def _power(a: Number, b: Number) -> Number:
    if isinstance(a, int) and isinstance(b, int) and b > 0 and abs(a) > 1 and b * math.log2(abs(a)) > 63:
        raise OverflowError
    result = a**b
    if isinstance(result, complex):
        raise ValueError
    return result


ARITHMETIC: Mapping[str, Callable[[Number, Number], Number]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": operator.mod,
    "^": _power,
    "min": min,
    "max": max,
}
_FUNCTIONS: Mapping[str, Callable[[Number], Number]] = {
    "negate": operator.neg,
    "rsqrt": lambda x: 1 / math.sqrt(x),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x)),
    "round": lambda x: round(x),
    "int": int,
    "abs": abs,
}
