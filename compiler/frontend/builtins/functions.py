"""BUILTINS: every function that the compiler provides itself; everything else is `.dl` text of the library."""

from __future__ import annotations

import math
from collections.abc import Mapping

from compiler.errors.diagnostics import hint
from compiler.frontend.builtins.checks import CHECKS
from compiler.frontend.builtins.movement import MOVEMENT, SOURCES
from compiler.frontend.builtins.reductions import REDUCTIONS
from compiler.frontend.builtins.requirements import require
from compiler.frontend.builtins.table import Arguments, Builtin, BuiltinParameter
from compiler.frontend.builtins.windows import WINDOWS
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.failures import nearest
from compiler.frontend.tensors.binding import expect_tensor
from compiler.frontend.tensors.numbers import MAXIMUM_ITEMS, apply_function, calculate
from compiler.frontend.tensors.operators import cast, choose, function, scalar
from compiler.frontend.tensors.shapes import resolve_axis
from compiler.frontend.values import (
    BatchValue,
    ExceptAxes,
    RunTimeNumber,
    TensorValue,
    TupleValue,
    Value,
    describe,
)
from compiler.ops import mathematics
from compiler.ops.control import StopGradient
from compiler.types import BatchExtent, DType

_X = BuiltinParameter("x")


def _elementwise(name: str, document: str) -> Builtin:
    def evaluate(elaborator: Elaborator, arguments: Arguments) -> Value:
        value = arguments["x"]
        if isinstance(value, BatchValue):
            value = scalar(elaborator, value, DType.F32)
        return (
            function(elaborator, name, value)
            if isinstance(value, TensorValue)
            else apply_function(elaborator, name, value)
        )

    return Builtin(name, (_X,), document, evaluate)


def _where(elaborator: Elaborator, arguments: Arguments) -> Value:
    condition, a, b = arguments["condition"], arguments["a"], arguments["b"]
    if isinstance(condition, bool):
        return a if condition else b
    if not isinstance(condition, TensorValue):
        elaborator.fail("E0312", f"the condition of `where` is a tensor of bool, not {describe(condition)}")
    return choose(elaborator, condition, a, b)


def _stop_gradient(elaborator: Elaborator, arguments: Arguments) -> Value:
    value = arguments["x"]
    if not isinstance(value, TensorValue):
        return value
    return TensorValue(elaborator.emit(StopGradient(), value.value), value.axes)


def _direction(name: str, document: str) -> Builtin:
    def evaluate(elaborator: Elaborator, arguments: Arguments) -> Value:
        value = expect_tensor(elaborator, arguments["x"], f"`x` of `{name}`")
        elaborator.directions[value.value.index] = name == "maximise"
        return value

    return Builtin(name, (_X,), document, evaluate)


def _cast(elaborator: Elaborator, arguments: Arguments) -> Value:
    value, dtype = arguments["x"], arguments["dtype"]
    if isinstance(dtype, TensorValue):
        dtype = dtype.dtype.value
    if not isinstance(dtype, str) or dtype not in _ELEMENT_TYPES:
        elaborator.fail(
            "E0416", f"{describe(dtype)} is not an element type", hint(f"one of {', '.join(_ELEMENT_TYPES)}")
        )
    wanted = DType(dtype)
    if wanted is DType.BF16:
        elaborator.fail("E0907", "tensors of bf16 are not compiled yet", hint("use f32"))
    return cast(elaborator, value, wanted) if isinstance(value, TensorValue) else scalar(elaborator, value, wanted)


_ELEMENT_TYPES = tuple(dtype.value for dtype in DType)
ELEMENT_TYPES: Mapping[str, str] = {name: name for name in _ELEMENT_TYPES}
"""The names of element types, which stand for themselves as the second argument of `cast`."""


def _len(elaborator: Elaborator, arguments: Arguments) -> Value:
    value = arguments["x"]
    if isinstance(value, tuple | str | range):
        return len(value)
    if isinstance(value, TupleValue):
        return len(value.items)
    elaborator.fail("E0312", f"`len` counts the items of a list, not of {describe(value)}")


def _except(elaborator: Elaborator, arguments: Arguments) -> Value:
    axes = arguments["axes"]
    assert isinstance(axes, tuple)
    return ExceptAxes(axes)


def _has_dtype(name: str, document: str) -> Builtin:
    def evaluate(elaborator: Elaborator, arguments: Arguments) -> Value:
        value = arguments["x"]
        if isinstance(value, TensorValue):
            is_integer = not value.dtype.is_float and value.dtype is not DType.BOOL
            return is_integer if name == "is_integer" else value.dtype.is_float
        if isinstance(value, RunTimeNumber):
            value = value.value
        return isinstance(value, int if name == "is_integer" else float) and not isinstance(value, bool)

    return Builtin(name, (_X,), document, evaluate)


def _rank(elaborator: Elaborator, arguments: Arguments) -> Value:
    value = arguments["x"]
    return value.rank if isinstance(value, TensorValue) else 0


def _per_axis(elaborator: Elaborator, arguments: Arguments) -> Value:
    value, count = arguments["value"], arguments["count"]
    if not isinstance(count, int) or isinstance(count, bool):
        elaborator.fail("E0312", f"`count` of `per_axis` is a whole number, not {describe(count)}")
    if count > MAXIMUM_ITEMS:
        elaborator.fail("E0310", f"a list of more than {MAXIMUM_ITEMS} items")
    if not isinstance(value, tuple | range):
        return (value,) * count
    if len(value) != count:
        elaborator.fail("E0309", f"a list of {len(value)} values is given, but {count} are asked for")
    return tuple(value)


def _extent(elaborator: Elaborator, arguments: Arguments) -> Value:
    tensor = expect_tensor(elaborator, arguments["x"], "`x` of `extent`")
    extent = tensor.shape[resolve_axis(elaborator, tensor, arguments["axis"])]
    return BatchValue(extent.multiple) if isinstance(extent, BatchExtent) else extent


def _one_of(elaborator: Elaborator, arguments: Arguments) -> Value:
    value, known = arguments["value"], arguments["known"]
    assert isinstance(known, tuple)
    if any(calculate(elaborator, "==", value, option) is True for option in known):
        return value
    names = [option for option in known if isinstance(option, str)]
    listed = ", ".join(f'"{option}"' if isinstance(option, str) else describe(option) for option in known)
    shown = f'"{value}"' if isinstance(value, str) else describe(value)
    notes = nearest(value, names) if isinstance(value, str) else ()
    elaborator.fail("E0314", f"{shown} is none of {listed}", *notes)


def _fresh(elaborator: Elaborator, arguments: Arguments) -> Value:
    elaborator.fail("E0312", f"`fresh` makes a new instance of a layer, not of {describe(arguments['layer'])}")


FUNCTIONS: tuple[Builtin, ...] = (
    *(_elementwise(op.name, op.document) for op in mathematics.FUNCTIONS),
    _elementwise("floor", "The largest whole number that is not above x."),
    _elementwise("ceil", "The smallest whole number that is not below x."),
    _elementwise("round", "The nearest whole number; of two, the even one."),
    _elementwise("int", "x without its fractional part."),
    _elementwise("abs", "The absolute value."),
    Builtin(
        "where",
        (BuiltinParameter("condition"), BuiltinParameter("a"), BuiltinParameter("b")),
        "a where the condition is true, else b, element by element.",
        _where,
    ),
    Builtin("stop_gradient", (_X,), "x itself, through which no gradient flows.", _stop_gradient),
    _direction("maximise", "x itself, a metric of which a larger value is better."),
    _direction("minimise", "x itself, a metric of which a smaller value is better."),
    Builtin(
        "cast",
        (_X, BuiltinParameter("dtype", "element type")),
        "x in another element type, `cast(x, f32)`, or in that of a tensor, `cast(x, y)`.",
        _cast,
    ),
    _has_dtype("is_integer", "Whether x holds integers; known when the program is elaborated."),
    _has_dtype("is_float", "Whether x holds floats; known when the program is elaborated."),
    Builtin("rank", (_X,), "The number of axes; known when the program is elaborated.", _rank),
    Builtin(
        "per_axis",
        (BuiltinParameter("value"), BuiltinParameter("count")),
        "A list of `count` items: `value` if it is a list, which must have that many, otherwise `value` each time.",
        _per_axis,
    ),
    Builtin(
        "extent",
        (_X, BuiltinParameter("axis", "axis")),
        "The size of an axis; known when the program is elaborated.",
        _extent,
    ),
    Builtin(
        "one_of",
        (BuiltinParameter("value"), BuiltinParameter("known", is_variadic=True)),
        "The value itself, a setting that must be one of those that follow.",
        _one_of,
    ),
    Builtin(
        "require",
        (BuiltinParameter("condition"), BuiltinParameter("message", is_variadic=True)),
        "In a line of its own: a mistake if the condition is false, with a message of all that follows it.",
        require,
    ),
    Builtin("len", (_X,), "The number of items in a list.", _len),
    Builtin(
        "except",
        (BuiltinParameter("axes", "axis", is_variadic=True),),
        "For `axis`: all axes but those.",
        _except,
    ),
    Builtin("fresh", (BuiltinParameter("layer"),), "A new instance of the same kind of layer.", _fresh),
)

BUILTINS: Mapping[str, Builtin] = {b.name: b for b in (*FUNCTIONS, *REDUCTIONS, *MOVEMENT, *WINDOWS, *SOURCES, *CHECKS)}
CONSTANTS: Mapping[str, Value] = {"inf": math.inf, "pi": math.pi}
