"""Traversal of the syntax: the parts of an expression and the statements of a block, written once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from compiler.frontend import syntax


def parts_of(expression: syntax.IndexItem) -> Iterator[syntax.Expression]:
    """The expressions directly inside an expression, in the order of the text; the body of a `scan` is not entered."""
    match expression:
        case (
            syntax.Number()
            | syntax.Boolean()
            | syntax.Text()
            | syntax.NoneLiteral()
            | syntax.Name()
            | syntax.EllipsisItem()
            | syntax.NewAxis()
        ):
            return
        case syntax.ListLiteral(items) | syntax.TupleLiteral(items):
            yield from items
        case syntax.Range(start, stop):
            yield from (start, stop)
        case syntax.Unary():
            yield expression.operand
        case syntax.Binary():
            yield from (expression.left, expression.right)
        case syntax.Pipe(value, stage):
            yield from (value, stage)
        case syntax.Call(function, positional, keywords):
            yield function
            yield from positional
            yield from (keyword.value for keyword in keywords)
        case syntax.Attribute(value):
            yield value
        case syntax.SliceItem(start, stop, step):
            yield from (part for part in (start, stop, step) if part is not None)
        case syntax.Index(value, items):
            yield value
            for item in items:
                yield from parts_of(item) if isinstance(item, syntax.SliceItem) else _expressions(item)
        case syntax.Scan():
            yield from (scanned.value for scanned in expression.inputs)
            yield expression.axis
            yield from (option.value for option in expression.options)
            yield from (carry.initial for carry in expression.carries)
        case _:
            assert_never(expression)


def _expressions(item: syntax.IndexItem) -> Iterator[syntax.Expression]:
    if not isinstance(item, (syntax.EllipsisItem, syntax.NewAxis, syntax.SliceItem)):
        yield item


def expressions_in(expression: syntax.Expression) -> Iterator[syntax.Expression]:
    """An expression and all inside it, outer ones first."""
    yield expression
    for part in parts_of(expression):
        yield from expressions_in(part)


def is_requirement(expression: syntax.Expression) -> bool:
    """Whether it is `require(…)`, which stands in a line of its own."""
    match expression:
        case syntax.Call(syntax.Name("require")):
            return True
        case _:
            return False


def statements_of(block: syntax.Block) -> Iterator[syntax.Statement]:
    """All statements of a block and of the blocks in it, in the order of the text."""
    for statement in block.statements:
        yield statement
        match statement:
            case syntax.If():
                yield from statements_of(statement.then)
                if statement.otherwise is not None:
                    yield from statements_of(statement.otherwise)
            case syntax.For():
                yield from statements_of(statement.body)
            case _:
                pass


def statements_within(block: syntax.Block) -> Iterator[syntax.Statement]:
    """As `statements_of`, with those of the bodies of scans."""
    for statement in statements_of(block):
        yield statement
        for scan in scans_in(statement):
            yield from statements_within(scan.body)


def scans_in(statement: syntax.Statement) -> Iterator[syntax.Scan]:
    """The scans in what a statement evaluates, without those in their bodies."""
    for value in values_of(statement):
        for part in expressions_in(value):
            if isinstance(part, syntax.Scan):
                yield part


def values_of(statement: syntax.Statement) -> tuple[syntax.Expression, ...]:
    """The expressions that a statement evaluates itself, without those of blocks in it."""
    match statement:
        case (
            syntax.Assign()
            | syntax.StateUpdate()
            | syntax.Return()
            | syntax.ExpressionStatement()
            | syntax.OutputDeclaration()
        ):
            return (statement.value,)
        case syntax.ParamDeclaration() | syntax.StateDeclaration():
            annotation = statement.annotation
            return (*(() if annotation is None else dimensions_of(annotation)), statement.initializer)
        case syntax.Emit():
            return statement.values
        case syntax.If():
            return (statement.condition,)
        case syntax.For():
            return (statement.iterable,)
        case syntax.InputDeclaration():
            return () if statement.range is None else (statement.range,)
        case _:
            assert_never(statement)


def dimensions_of(annotation: syntax.TensorAnnotation) -> tuple[syntax.Expression, ...]:
    """The dimensions of a type, without `...`."""
    dimensions = annotation.dimensions or ()
    return tuple(d for d in dimensions if not isinstance(d, syntax.EllipsisItem))
