"""A value against the type of the setting that takes it."""

from __future__ import annotations

from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.values import (
    AxisName,
    BatchValue,
    BuiltinValue,
    ExceptAxes,
    FormValue,
    LayerInstance,
    Poison,
    RunTimeNumber,
    Value,
    describe,
    holds_tensor,
    is_number,
)
from compiler.syntax import tree

_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "`true` or `false`",
    "string": "a string",
    "axis": "an axis",
    "fn": "a function",
    "layer": "a layer",
    "init": "an initialiser",
    "schedule": "a schedule",
}


def coerce_setting(
    elaborator: Elaborator, owner: str, parameter: tree.Parameter, kind: str, value: Value, span: Span
) -> Value:
    """The value as the setting holds it."""
    if isinstance(value, Poison):
        return value
    name = parameter.name
    if holds_tensor(value):
        elaborator.fail(
            "E0306",
            f"`{name}` of `{owner}` is a setting, and settings are known before any tensor exists; this is "
            f"{describe(value)}",
            hint(f"tensors are given in their own group, after the settings: `{owner}(…)(x)`"),
            span=span,
        )
    if isinstance(value, BatchValue):
        elaborator.fail(
            "E0307",
            f"`batch` is known only at run time, so it cannot be the setting `{name}` of `{owner}`",
            span=span,
        )
    accepted = _accepted(kind, value)
    if accepted is None:
        elaborator.fail(
            "E0304",
            f"`{name}` of `{owner}` is {_NAMES[kind]}, not {describe(value)}",
            *_advice(kind, value),
            *_declared(parameter),
            span=span,
        )
    return accepted[0]


def _accepted(kind: str, value: Value) -> tuple[Value] | None:
    """The accepted value, or None."""
    match kind:
        case "":
            return (value,)
        case "int":
            return _whole(value)
        case "float":
            if isinstance(value, RunTimeNumber):
                return (value,)
            return (float(value),) if isinstance(value, (int, float)) and is_number(value) else None
        case "bool":
            return (value,) if isinstance(value, bool) else None
        case "string":
            return (value,) if isinstance(value, str) else None
        case "axis":
            is_axis = isinstance(value, AxisName | ExceptAxes | tuple | None) or _whole(value) is not None
            return (value,) if is_axis else None
        case "fn":
            is_function = isinstance(value, (BuiltinValue, LayerInstance)) or (
                isinstance(value, FormValue) and value.declaration.keyword == "fn"
            )
            return (value,) if is_function else None
        case "layer":
            return (value,) if isinstance(value, LayerInstance) else _function_as_layer(value)
        case _:
            return (value,) if isinstance(value, FormValue) and value.declaration.keyword == kind else None


def _function_as_layer(value: Value) -> tuple[Value] | None:
    """A function serves as a layer without parameters."""
    is_function = isinstance(value, BuiltinValue) or (
        isinstance(value, FormValue) and value.declaration.keyword == "fn"
    )
    return (value,) if is_function else None


def _whole(value: Value) -> tuple[Value] | None:
    if isinstance(value, RunTimeNumber):
        return (value,) if value.value is None or float(value.value).is_integer() else None
    return (value,) if isinstance(value, int) and not isinstance(value, bool) else None


def _advice(kind: str, value: Value) -> tuple[Note, ...]:
    if kind == "int" and isinstance(value, float):
        return (hint("round it with `int(…)`, or divide with `//`"),)
    if kind == "string" and not isinstance(value, str):
        return (hint("a string stands in double quotes"),)
    return ()


def _declared(parameter: tree.Parameter) -> tuple[Note, ...]:
    return () if parameter.span.source.is_library else (Note("declared here", parameter.span),)
