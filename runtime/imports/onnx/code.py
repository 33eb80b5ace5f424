"""Expressions of `.dl` text with the tightness of their outermost operator, and the parameters that they own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from compiler.support.record import record
from runtime.imports.onnx.graph import Tensor

PIPE, OR, AND, NOT, COMPARE, SUM, PRODUCT, NEGATIVE, POWER, TIGHT = range(10)
_LEVELS = {
    **{"or": OR, "and": AND, "+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT, "//": PRODUCT, "%": PRODUCT},
    **{"@": PRODUCT, "^": POWER, "==": COMPARE, "!=": COMPARE, "<": COMPARE, "<=": COMPARE},
    **{">": COMPARE, ">=": COMPARE},
}


Number: TypeAlias = float | int | bool | np.number[Any] | np.bool


@record
class Weight:
    """A parameter or state of a layer: its content and the initialisers it was made of."""

    content: Tensor
    origin: tuple[str, ...] = ()


@record
class Code:
    """An expression. `weights` are those that come into being in it, in the order of evaluation.

    `called` is the same text as a call where `text` is a single `x |> f`.
    """

    text: str
    level: int = TIGHT
    weights: tuple[Weight, ...] = ()
    called: str = ""

    def at(self, level: int) -> str:
        """The text as an operand that binds at least so tightly."""
        if self.level >= level:
            return self.text
        return self.called or f"({self.text})"

    @property
    def argument(self) -> str:
        """The text between commas."""
        return self.called or self.text


def name(text: str) -> Code:
    return Code(text)


def number(value: Number) -> Code:
    """A literal; a negative one binds like a minus."""
    text = literal(value)
    return Code(text, NEGATIVE if text.startswith("-") else TIGHT)


def literal(value: Number) -> str:
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if math.isnan(value):
        return "(inf - inf)"
    short = np.format_float_positional(value, trim="0") if isinstance(value, np.floating) else repr(float(value))
    shown = float(value)
    if not 1e-4 <= abs(shown) < 1e7 and shown != 0:
        short = np.format_float_scientific(value, trim="0") if isinstance(value, np.floating) else f"{shown!r}"
        mantissa, _, exponent = short.partition("e")
        if exponent:
            return f"{mantissa.removesuffix('.0') if mantissa != '-' else mantissa}e{int(exponent)}"
    return short


def binary(operator: str, left: Code, right: Code) -> Code:
    """`left operator right`; all but the power are read from the left, and comparisons do not chain."""
    level = _LEVELS[operator]
    left_level = level + 1 if operator == "^" or level == COMPARE else level
    right_level = level if operator == "^" else level + 1
    text = f"{left.at(left_level)} {operator} {right.at(right_level)}"
    return Code(text, level, left.weights + right.weights)


def negative(operand: Code) -> Code:
    return Code(f"-{operand.at(POWER)}", NEGATIVE, operand.weights)


def call(function: str, *operands: Code, **settings: object) -> Code:
    """`function(operands, settings)`."""
    parts = [operand.argument for operand in operands] + [f"{key} = {said(v)}" for key, v in settings.items()]
    return Code(f"{function}({', '.join(parts)})", TIGHT, _weights(operands))


def apply(stage: str, operand: Code, *arguments: object, **settings: object) -> Code:
    """`operand |> stage(arguments)`, for a built-in function whose first parameter is the operand."""
    parts = [said(a) for a in arguments] + [f"{key} = {said(v)}" for key, v in settings.items()]
    inner = ", ".join(parts)
    called = f"{stage}({operand.argument}{', ' if inner else ''}{inner})"
    text = f"{operand.text} |> {stage}({inner})" if inner else f"{operand.text} |> {stage}"
    return Code(text, PIPE, operand.weights, "" if operand.level == PIPE else called)


def layer(stage: str, operand: Code, weights: Sequence[Weight] = ()) -> Code:
    """`operand |> stage`, for a function or layer with its settings: `dense(10)`."""
    called = f"{stage}({operand.argument})"
    return Code(
        f"{operand.text} |> {stage}", PIPE, operand.weights + tuple(weights), "" if operand.level == PIPE else called
    )


def index(operand: Code, items: str) -> Code:
    return Code(f"{operand.at(TIGHT)}[{items}]", TIGHT, operand.weights)


def said(value: object) -> str:
    """A setting as text."""
    if isinstance(value, Code):
        return value.argument
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "[" + ", ".join(said(v) for v in cast("Sequence[object]", value)) + "]"
    return literal(cast("Number", value))


def string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _weights(operands: Sequence[Code]) -> tuple[Weight, ...]:
    return tuple(weight for operand in operands for weight in operand.weights)
