"""Whether a scalar is a mean: the same for rows that are all taken twice as for the rows once."""

from __future__ import annotations

from fractions import Fraction
from typing import TypeAlias

from compiler.graph.ir import Graph, Node, Value
from compiler.graph.op import Op
from compiler.ops.elementwise import (
    COMPARISONS,
    Abs,
    Add,
    Cast,
    Divide,
    Maximum,
    Minimum,
    Multiply,
    Negate,
    Subtract,
    Where,
)
from compiler.ops.mathematics import Rsqrt, Sqrt
from compiler.ops.movement import Concat, Reverse, Slice, Transpose
from compiler.ops.reduction import Max, Min, Moments
from compiler.ops.sources import Constant
from compiler.ops.spreading import Broadcast, Reshape, Sum
from compiler.ops.totals import Total, TotalKind, split

# By which power of the number of rows a value grows: that of a sum of rows is 1, that of a mean 0. A zero has any.
_Degree: TypeAlias = Fraction | str | None
_ANY, _ONE = "any", Fraction(1)
_SAME = (Abs, Broadcast, Cast, Max, Min, Negate, Reshape, Reverse, Slice, Sum, Transpose)
_ALIKE = (Add, Concat, *COMPARISONS, Maximum, Minimum, Subtract)


def is_mean(graph: Graph, scalar: Value) -> bool:
    """Of a scalar that follows from totals alone. `graph` holds no ops that steer differentiation."""
    found = split(graph, (scalar,))
    if found.others:
        return False
    degrees: dict[int, _Degree] = {}
    ones: set[int] = set()
    for step in found.steps:
        if isinstance(step, Total):
            is_sum = step.kind in (TotalKind.SUM, TotalKind.ROWS) or not isinstance(step.node.op, (Max, Min, Moments))
            degrees.update((result.index, _ONE if is_sum else Fraction(0)) for result in step.node.results)
            continue
        if _is_one(step, ones):
            ones.update(result.index for result in step.results)
        operands = [degrees.get(operand.index, Fraction(0)) for operand in step.operands]
        if isinstance(step.op, (Maximum, Where)):
            # `max(count, 1)` and `where(count == 0, 1, count)` stand for a count that nothing is divided by at 0.
            operands = [_ANY if o.index in ones else d for o, d in zip(step.operands, operands, strict=True)]
        degree = _of_node(step, operands)
        degrees.update((result.index, degree) for result in step.results)
    return degrees.get(scalar.index, Fraction(0)) in (0, _ANY)


def _is_one(node: Node, ones: set[int]) -> bool:
    match node.op:
        case Constant(number):
            return number == 1
        case Broadcast() | Reshape() | Cast():
            return node.operands[0].index in ones
        case _:
            return False


def _of_node(node: Node, operands: list[_Degree]) -> _Degree:
    op = node.op
    match op:
        case Constant(number):
            return _ANY if number == 0 else Fraction(0)
        case Multiply():
            return _ANY if _ANY in operands else _combined(operands, 1)
        case Divide():
            return _ANY if operands[0] == _ANY else _combined(operands, -1)
        case Where():
            return _alike(operands[1:]) if operands[0] in (0, _ANY) else None
        case Sqrt() | Rsqrt():
            half = Fraction(1, 2) if isinstance(op, Sqrt) else Fraction(-1, 2)
            return operands[0] * half if isinstance(operands[0], Fraction) else operands[0]
        case _:
            return _of_others(op, operands)


def _of_others(op: Op, operands: list[_Degree]) -> _Degree:
    if isinstance(op, _SAME):
        return operands[0]
    if isinstance(op, _ALIKE):
        degree = _alike(operands)
        return Fraction(0) if isinstance(op, COMPARISONS) and degree is not None else degree
    return Fraction(0) if all(degree in (0, _ANY) for degree in operands) else None


def _combined(operands: list[_Degree], sign: int) -> _Degree:
    first, second = operands
    return first + sign * second if isinstance(first, Fraction) and isinstance(second, Fraction) else None


def _alike(operands: list[_Degree]) -> _Degree:
    """The degree that all have; zeros have any."""
    found = {degree for degree in operands if degree != _ANY}
    return _ANY if not found else found.pop() if len(found) == 1 else None
