"""Arithmetic over configuration values: Python's, within 64 bits, with settings of run time carried through."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NoReturn

from compiler.errors.diagnostics import hint
from compiler.frontend.arithmetic import ARITHMETIC, Number, function_of
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.values import (
    BatchValue,
    BuiltinValue,
    FormValue,
    LayerInstance,
    RunTimeNumber,
    TensorValue,
    Value,
    describe,
    is_number,
)

MAXIMUM_INTEGER = 2**63 - 1
MAXIMUM_ITEMS = 100_000

_COMPARISONS: dict[str, Callable[[Number, Number], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def negate(elaborator: Elaborator, value: Value) -> Value:
    if isinstance(value, RunTimeNumber):
        result = None if value.value is None else -value.value
        return RunTimeNumber(f"-{value.name}", result, value.sources, "negate", (value,))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return -value
    elaborator.fail("E0312", f"`-` needs a number or a tensor, not {describe(value)}")


def refuse_operand(elaborator: Elaborator, symbol: str, value: Value) -> NoReturn:
    """`value` is no operand of `symbol`."""
    is_stage = isinstance(value, (FormValue, BuiltinValue, LayerInstance))
    if symbol.isidentifier():
        advice = hint("apply it first: `dense(3)(x) |> relu`, or `x |> dense(3) |> relu`")
    else:
        advice = hint(f"`|>` binds loosest: write `(x |> f) {symbol} y`, or apply it: `f(x)`")
    message = f"`{symbol}` needs numbers or tensors, not {describe(value)}"
    elaborator.fail("E0312", message, *((advice,) if is_stage else ()))


def calculate(elaborator: Elaborator, symbol: str, left: Value, right: Value) -> Value:
    """`left symbol right` where neither is a tensor."""
    if symbol in ("==", "!="):
        return _equal(elaborator, left, right) is (symbol == "==")
    if isinstance(left, BatchValue) or isinstance(right, BatchValue):
        return _with_batch(elaborator, symbol, left, right)
    if symbol == "+" and isinstance(left, (tuple, str)) and isinstance(right, (tuple, str)):
        return _joined(elaborator, left, right)
    if not is_number(left) or not is_number(right):
        wrong = left if not is_number(left) else right
        refuse_operand(elaborator, symbol, wrong)
    if symbol in _COMPARISONS:
        return _COMPARISONS[symbol](decided(elaborator, left), decided(elaborator, right))
    if isinstance(left, RunTimeNumber) or isinstance(right, RunTimeNumber):
        return _at_run_time(elaborator, symbol, left, right)
    assert isinstance(left, (int, float))
    assert isinstance(right, (int, float))
    return _checked(elaborator, symbol, lambda: ARITHMETIC[symbol](left, right), f"{left} {symbol} {right}")


def apply_function(elaborator: Elaborator, name: str, value: Value) -> Value:
    """A function of one configuration number."""
    if isinstance(value, RunTimeNumber):
        known = value.value
        result = None if known is None else _function(elaborator, name, known)
        return RunTimeNumber(f"{name}({value.name})", result, value.sources, name, (value,))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _function(elaborator, name, value)
    elaborator.fail("E0312", f"`{name}` needs a number or a tensor, not {describe(value)}")


def decided(elaborator: Elaborator, value: Value) -> int | float:
    """The number itself, for a place where it decides the form of the program."""
    if isinstance(value, RunTimeNumber):
        if value.value is None:
            elaborator.fail(
                "E0313",
                f"`{value.name}` is known only when a run starts, so it can stand only in the arithmetic of tensors",
                hint("give `steps` in `train` instead of `epochs`, or a number here"),
            )
        elaborator.session.decide(value)
        return value.value
    assert isinstance(value, (int, float))
    return value


def _function(elaborator: Elaborator, name: str, value: Number) -> Number:
    return _checked(elaborator, name, lambda: function_of(name)(value), f"{name}({value})")


def _checked(elaborator: Elaborator, symbol: str, compute: Callable[[], Number], shown: str) -> Number:
    try:
        result = compute()
    except ZeroDivisionError:
        elaborator.fail("E0308", f"division by zero: {shown}")
    except ValueError:
        elaborator.fail("E0308", f"`{shown}` has no real value")
    except OverflowError:
        elaborator.fail("E0308", f"`{shown}` is too large to compute", hint("numbers have 64 bits"))
    if isinstance(result, int) and abs(result) > MAXIMUM_INTEGER:
        elaborator.fail("E0308", f"the result of `{symbol}` does not fit into 64 bits")
    return result


def _at_run_time(elaborator: Elaborator, symbol: str, left: Value, right: Value) -> RunTimeNumber:
    names: list[str] = []
    sources: frozenset[str] = frozenset()
    known: list[Number | None] = []
    for operand in (left, right):
        if isinstance(operand, RunTimeNumber):
            names.append(operand.name)
            sources |= operand.sources
            known.append(operand.value)
        else:
            assert isinstance(operand, (int, float))
            names.append(repr(operand))
            known.append(operand)
    a, b = known
    text = f"{symbol}({names[0]}, {names[1]})" if symbol.isalpha() else f"({names[0]} {symbol} {names[1]})"
    value = None
    if a is not None and b is not None:
        value = _checked(elaborator, symbol, lambda: ARITHMETIC[symbol](a, b), f"{a} {symbol} {b}")
    return RunTimeNumber(text, value, sources, symbol, (left, right))


def _equal(elaborator: Elaborator, left: Value, right: Value) -> bool:
    if isinstance(left, TensorValue) or isinstance(right, TensorValue):
        return False  # the other is `none`: a tensor with anything else is elementwise
    if is_number(left) and is_number(right):
        return decided(elaborator, left) == decided(elaborator, right)
    if isinstance(left, BatchValue) or isinstance(right, BatchValue):
        if left is None or right is None:
            return False
        expect_no_axis_of_rows(elaborator)
        message = "`batch` is known only at run time, so it cannot decide anything"
        elaborator.fail("E0307", message, hint("a comparison of tensors is written with tensors: `where`"))
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(_equal(elaborator, a, b) for a, b in zip(left, right, strict=True))
    return left == right


def _joined(elaborator: Elaborator, left: tuple[Value, ...] | str, right: tuple[Value, ...] | str) -> Value:
    if len(left) + len(right) > MAXIMUM_ITEMS:
        elaborator.fail("E0310", f"a list or string of more than {MAXIMUM_ITEMS} items", hint("it grows in a loop"))
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    if isinstance(left, tuple) and isinstance(right, tuple):
        return (*left, *right)
    wrong = right if isinstance(left, tuple) else left
    elaborator.fail("E0312", f"a list cannot be joined with {describe(wrong)}", hint("put it into brackets: `[ … ]`"))


def expect_no_axis_of_rows(elaborator: Elaborator) -> None:
    """Raise a mistake where a function of the library computes with `batch`: it was given an axis of rows."""
    if elaborator.span is not None and elaborator.span.source.is_library:
        message = "this function needs an axis of known length, and how many rows a batch has is known only at run time"
        elaborator.fail("E0307", message, hint("name another axis: `axis = 1` is the one behind the rows"))


def _with_batch(elaborator: Elaborator, symbol: str, left: Value, right: Value) -> Value:
    """Dimensions that depend on the batch: multiples of it, and what divides out."""
    match symbol, left, right:
        case "*", BatchValue(multiple), int(factor):
            return BatchValue(multiple * factor)
        case "*", int(factor), BatchValue(multiple):
            return BatchValue(multiple * factor)
        case "//" | "/", BatchValue(multiple), BatchValue(other) if multiple % other == 0:
            return multiple // other
        case "//", BatchValue(multiple), int(divisor) if divisor > 0 and multiple % divisor == 0:
            return BatchValue(multiple // divisor)
        case "<" | "<=" | ">" | ">=", _, _:
            expect_no_axis_of_rows(elaborator)
            elaborator.fail("E0307", "`batch` is known only at run time, so it cannot decide anything")
        case _:
            expect_no_axis_of_rows(elaborator)
            other = right if isinstance(left, BatchValue) else left
            message = f"`batch` with `{symbol}` and {describe(other)} is neither a dimension nor tensor arithmetic"
            elaborator.fail("E0410", message, hint("a dimension may be a multiple of `batch`, such as `2 * batch`"))
