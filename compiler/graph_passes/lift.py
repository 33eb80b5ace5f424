"""One op for many steps at once: operands that differ from step to step have an axis of steps in front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Category
from compiler.ops.contraction import Contraction
from compiler.ops.control import StopGradient
from compiler.ops.indexing import Gather
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments, Sum
from compiler.ops.window import Window

_ALONG_AXES = (Sum, Max, Min, Moments, Reverse, Window)
_ALONG_AXIS = (ArgMax, CumulativeSum)
_OTHERS = (Broadcast, Concat, Contraction, Pad, Reshape, Slice, StopGradient, Transpose)


def is_liftable(node: Node, stacked: Sequence[bool]) -> bool:
    """Whether `lift` knows the op; `stacked` says which operands differ from step to step."""
    if isinstance(node.op, Gather):
        return not node.op.by_row and not all(stacked)
    return node.op.category is Category.ELEMENTWISE or isinstance(node.op, (*_ALONG_AXES, *_ALONG_AXIS, *_OTHERS))


def lift(
    builder: GraphBuilder, node: Node, operands: Sequence[Value], stacked: Sequence[bool], steps: int
) -> tuple[Value, ...]:
    """The results of `node` for all steps, stacked in front. `operands`: those of the node, some of them `stacked`."""
    op = node.op
    match op:
        case Contraction(lhs=lhs, rhs=rhs, out=out):
            step = max((*lhs, *rhs)) + 1
            left, right = (((step,) if s else ()) for s in stacked)
            return builder.emit_all(Contraction((*left, *lhs), (*right, *rhs), (step, *out)), *operands)
        case Gather(axis=axis) if stacked[1]:  # the steps stand where the indices do
            (found,) = builder.emit_all(op, *operands)
            rank = found.type.rank
            order = (axis, *(k for k in range(rank) if k != axis))
            return (builder.emit(Transpose(order), found),)
        case Gather(axis=axis):
            return builder.emit_all(replace(op, axis=axis + 1), *operands)
        case Transpose(permutation=permutation):
            return builder.emit_all(Transpose((0, *(axis + 1 for axis in permutation))), *operands)
        case Broadcast(shape=shape, axes=axes):
            return builder.emit_all(Broadcast((steps, *shape), (0, *(axis + 1 for axis in axes))), *operands)
        case Reshape(shape=shape):
            return builder.emit_all(Reshape((steps, *shape)), *operands)
        case Slice(starts=starts, sizes=sizes, steps=strides):
            return builder.emit_all(Slice((0, *starts), (steps, *sizes), (1, *strides)), *operands)
        case Pad(low=low, high=high, value=value):
            return builder.emit_all(Pad((0, *low), (0, *high), value), *operands)
        case Sum() | Max() | Min() | Moments() | Reverse() | Window():
            return builder.emit_all(replace(op, axes=tuple(axis + 1 for axis in op.axes)), *operands)
        case ArgMax() | CumulativeSum():
            return builder.emit_all(replace(op, axis=op.axis + 1), *operands)
        case _:
            every = (o if s else repeated(builder, o, steps) for o, s in zip(operands, stacked, strict=True))
            return builder.emit_all(Concat(op.axis + 1) if isinstance(op, Concat) else op, *every)


def repeated(builder: GraphBuilder, value: Value, steps: int) -> Value:
    """The same value at each step."""
    shape = value.type.shape
    return builder.emit(Broadcast((steps, *shape), tuple(range(1, len(shape) + 1))), value)
