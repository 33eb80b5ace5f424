"""A tuple or list taken apart: `a, b = value`."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.failures import failure
from compiler.frontend.values import POISON, Poison, TensorValue, TupleValue, Value, describe


def unpacked(value: Value, count: int, span: Span, of_scan: bool = False) -> Sequence[Value]:
    """The items of a tuple or list for that many names. `of_scan`: the value is what a `scan` gives."""
    items: Sequence[Value]
    match value:
        case TupleValue(items):
            pass
        case tuple():
            items = value
        case Poison():
            return (POISON,) * count
        case _:
            raise failure(
                "E0309", f"{count} names are given, but the value is {describe(value)}", span, *_hint(value, of_scan)
            )
    if len(items) != count:
        raise failure("E0309", f"{count} names are given for {len(items)} values", span, *_hint(value, of_scan))
    return items


def _hint(value: Value, of_scan: bool) -> tuple[Note, ...]:
    if of_scan:
        return (hint("a `scan` gives a stack for each value that it emits, then its last carries"),)
    return (hint("`split(x, n)` cuts a tensor into parts"),) if isinstance(value, TensorValue) else ()
