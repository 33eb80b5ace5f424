"""Literals, names, operators and calls: the expressions of `compiler/syntax/tree`, through which others name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compiler.errors.diagnostics import Span
from compiler.support.record import record

if TYPE_CHECKING:
    from compiler.syntax.tree import Expression


@record
class Number:
    value: int | float
    span: Span


@record
class Boolean:
    value: bool
    span: Span


@record
class Text:
    value: str
    span: Span


@record
class NoneLiteral:
    """`none`, an absent optional value; in an index, `None` is `NewAxis`."""

    span: Span


@record
class Name:
    """A variable, setting, declaration, or one of the constants `inf` and `pi`."""

    id: str
    span: Span


@record
class ListLiteral:
    items: tuple[Expression, ...]
    span: Span


@record
class ByName:
    """`{name: value, …}` after a key of `train`."""

    items: tuple[Keyword, ...]
    span: Span


@record
class TupleLiteral:
    """`a, b` after `return` or `=`, or `(a, b)` before `|>`."""

    items: tuple[Expression, ...]
    span: Span


@record
class Range:
    """`start..stop`, the end excluded."""

    start: Expression
    stop: Expression
    span: Span


@record
class Unary:
    """`operator` is `-` or `not`."""

    operator: str
    operand: Expression
    span: Span


@record
class Binary:
    """`operator` is one of `+ - * / // % @ ^ == != < <= > >= and or`."""

    operator: str
    left: Expression
    right: Expression
    span: Span


@record
class Pipe:
    """`value |> stage`."""

    value: Expression
    stage: Expression
    span: Span


@record
class Keyword:
    name: str
    value: Expression
    span: Span


@record
class Call:
    function: Expression
    positional: tuple[Expression, ...]
    keywords: tuple[Keyword, ...]
    span: Span


@record
class Attribute:
    """`value.name`: `x.T`, or a dotted key such as `optimizer.lr`."""

    value: Expression
    name: str
    span: Span
