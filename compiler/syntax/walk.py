"""Traversal of the syntax: the parts of an expression and the statements of a block, written once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from compiler.syntax import tree


def parts_of(expression: tree.IndexItem) -> Iterator[tree.Expression]:
    """The expressions directly inside an expression, in the order of the text; the body of a `scan` and its `until`
    are not entered.
    """
    match expression:
        case (
            tree.Number()
            | tree.Boolean()
            | tree.Text()
            | tree.NoneLiteral()
            | tree.Name()
            | tree.EllipsisItem()
            | tree.NewAxis()
        ):
            return
        case tree.ListLiteral(items) | tree.TupleLiteral(items):
            yield from items
        case tree.ByName(items):
            yield from (item.value for item in items)
        case tree.Range(start, stop):
            yield from (start, stop)
        case tree.Unary():
            yield expression.operand
        case tree.Binary():
            yield from (expression.left, expression.right)
        case tree.Pipe(value, stage):
            yield from (value, stage)
        case tree.Call(function, positional, keywords):
            yield function
            yield from positional
            yield from (keyword.value for keyword in keywords)
        case tree.Attribute(value):
            yield value
        case tree.SliceItem(start, stop, step):
            yield from (part for part in (start, stop, step) if part is not None)
        case tree.Index(value, items):
            yield value
            for item in items:
                yield from parts_of(item) if isinstance(item, tree.SliceItem) else _expressions(item)
        case tree.Scan():
            yield from (scanned.value for scanned in expression.inputs)
            yield expression.axis
            yield from (option.value for option in expression.options)
            yield from (carry.initial for carry in expression.carries)
        case _:
            assert_never(expression)


def _expressions(item: tree.IndexItem) -> Iterator[tree.Expression]:
    if not isinstance(item, (tree.EllipsisItem, tree.NewAxis, tree.SliceItem)):
        yield item


def expressions_in(expression: tree.Expression) -> Iterator[tree.Expression]:
    """An expression and all inside it, outer ones first."""
    yield expression
    for part in parts_of(expression):
        yield from expressions_in(part)


def is_requirement(expression: tree.Expression) -> bool:
    """Whether it is `require(…)`, which stands in a line of its own."""
    match expression:
        case tree.Call(tree.Name("require")):
            return True
        case _:
            return False


def first_name(expression: tree.Expression) -> tree.Name | None:
    """The name that stands first in an expression as its first operand: `image` in `image / 255 |> flip`."""
    match expression:
        case tree.Name():
            return expression
        case tree.Pipe(first) | tree.Binary(_, first) | tree.Index(first) | tree.Attribute(first):
            return first_name(first)
        case tree.Call(_, (first, *_)):
            return first_name(first)
        case _:
            return None


def statements_of(block: tree.Block) -> Iterator[tree.Statement]:
    """All statements of a block and of the blocks in it, in the order of the text."""
    for statement in block.statements:
        yield statement
        if isinstance(statement, tree.If):
            yield from statements_of(statement.then)
            if statement.otherwise is not None:
                yield from statements_of(statement.otherwise)
        elif isinstance(statement, tree.For):
            yield from statements_of(statement.body)


def statements_within(block: tree.Block) -> Iterator[tree.Statement]:
    """As `statements_of`, with those of the bodies of scans."""
    for statement in statements_of(block):
        yield statement
        for scan in scans_in(statement):
            yield from statements_within(scan.body)


def scans_in(statement: tree.Statement) -> Iterator[tree.Scan]:
    """The scans in the expressions of a statement, without those in their bodies."""
    for value in values_of(statement):
        for part in expressions_in(value):
            if isinstance(part, tree.Scan):
                yield part


def values_of(statement: tree.Statement) -> tuple[tree.Expression, ...]:
    """The expressions that a statement evaluates itself, without those of blocks in it."""
    match statement:
        case (
            tree.Assign()
            | tree.StateUpdate()
            | tree.Return()
            | tree.ExpressionStatement()
            | tree.OutputDeclaration()
            | tree.LossDeclaration()
            | tree.View()
        ):
            return (statement.value,)
        case tree.ParamDeclaration() | tree.StateDeclaration():
            annotation = statement.annotation
            return (*(() if annotation is None else dimensions_of(annotation)), statement.initializer)
        case tree.Emit():
            return statement.values
        case tree.If():
            return (statement.condition,)
        case tree.For():
            return (statement.iterable,)
        case tree.InputDeclaration():
            return () if statement.range is None else (statement.range,)
        case _:
            assert_never(statement)


def dimensions_of(annotation: tree.TensorAnnotation) -> tuple[tree.Expression, ...]:
    """The dimensions of a type, without `...`."""
    dimensions = annotation.dimensions or ()
    return tuple(d for d in dimensions if not isinstance(d, tree.EllipsisItem))
