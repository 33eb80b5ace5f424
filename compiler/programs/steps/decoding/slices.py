"""The slice of each operand that a value at one position needs, and ops on these slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.causality.rules import carried_axes, gathered_axes
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Category
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Cast
from compiler.ops.indexing import Gather
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments, Sum
from compiler.ops.rules import other_axes
from compiler.ops.sources import Iota
from compiler.types import Extent, Shape


def is_sliceable(node: Node, axis: int) -> bool:
    """Whether the part of a result at one position along `axis` needs no more than parts of what has this axis."""
    op = node.op
    shape = node.operands[0].type.shape if node.operands else ()
    match op:
        case _ if op.category is Category.ELEMENTWISE:
            return True
        case Iota() | Transpose() | Broadcast() | Sum() | Max() | Min() | Moments() | ArgMax() | Contraction():
            return True
        case Reshape():
            return axis in carried_axes(shape, op.shape).values()
        case Slice():
            return op.starts[axis] == 0 and op.steps[axis] == 1
        case Pad():
            return op.low[axis] == op.high[axis] == 0
        case Concat():
            return op.axis != axis
        case CumulativeSum():
            return op.axis != axis
        case Reverse():
            return axis not in op.axes
        case Gather():
            return not (op.by_row and axis == 0)
        case _:
            return False


def operand_axes(node: Node, axis: int) -> list[int | None]:
    """The axis of each operand along which its part at the same position serves; None where it must be whole."""
    op = node.op
    shape = node.operands[0].type.shape if node.operands else ()
    match op:
        case _ if op.category is Category.ELEMENTWISE:
            return [axis] * len(node.operands)
        case Transpose():
            return [op.permutation[axis]]
        case Broadcast():
            own = op.axes.index(axis) if axis in op.axes else None
            return [own if own is not None and shape[own] == op.shape[axis] else None]
        case Reshape():
            return [next(a for a, place in carried_axes(shape, op.shape).items() if place == axis)]
        case Sum(axes=axes) | Max(axes=axes) | Min(axes=axes) | Moments(axes=axes):
            return [other_axes(len(shape), axes)[axis]]
        case ArgMax():
            return [other_axes(len(shape), (op.axis,))[axis]]
        case Contraction():
            label = op.out[axis]
            return [labels.index(label) if label in labels else None for labels in (op.lhs, op.rhs)]
        case Gather():
            maps = gathered_axes(op, *(operand.type.rank for operand in node.operands))
            return [next((a for a, place in own.items() if place == axis), None) for own in maps]
        case Iota():
            return []
        case _:
            return [axis] * len(node.operands)


def sliced(
    builder: GraphBuilder, node: Node, axis: int, operands: Sequence[Value], position: Value
) -> tuple[Value, ...]:
    """The parts of a node's results at `position` along `axis`, from those parts of its operands."""
    op = node.op
    match op:
        case Iota() if op.axis == axis:
            number = builder.emit(Cast(op.dtype), position)
            return (builder.emit(Broadcast(_single(op.shape, axis), ()), number),)
        case Iota() | Broadcast() | Reshape():
            return builder.emit_all(replace(op, shape=_single(op.shape, axis)), *operands)
        case Slice():
            return builder.emit_all(replace(op, sizes=_single(op.sizes, axis)), *operands)
        case _:
            return builder.emit_all(op, *operands)


def _single(shape: Shape, axis: int) -> tuple[Extent, ...]:
    return (*shape[:axis], 1, *shape[axis + 1 :])
