"""The correspondence between the axes of an op's result and of its operand, and the op with its axes permuted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from compiler.graph.ir import Node
from compiler.graph.op import Category, Op
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import ArgMax, Max, Min, Moments, Sum
from compiler.ops.window import Fold, Window
from compiler.types import BatchExtent, Extent, Shape

AxisGroup: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
Groups: TypeAlias = list[AxisGroup]  # axes of the operand, and the axes of the result that hold the same elements


def axis_groups(node: Node, number: int) -> Groups | None:
    """The axes of operand `number` beside those of the first result; None for ops that do not keep axes."""
    operand, result = node.operands[number].type.shape, node.results[0].type.shape
    match node.op:
        case Transpose(permutation=permutation):
            return [((axis,), (place,)) for place, axis in enumerate(permutation)]
        case Broadcast(axes=axes):
            return [((axis,), (place,)) for axis, place in enumerate(axes)]
        case Pad() | Slice() | Reverse() | Concat():
            return [((axis,), (axis,)) for axis in range(len(operand))]
        case Window(axes=axes) | Fold(axes=axes):
            return [((axis,), (axis,)) for axis in range(min(len(operand), len(result))) if axis not in axes]
        case Sum(axes=axes) | Max(axes=axes) | Min(axes=axes) | Moments(axes=axes):
            kept = [axis for axis in range(len(operand)) if axis not in axes]
            return [((axis,), (place,)) for place, axis in enumerate(kept)]
        case ArgMax(axis=reduced):
            kept = [axis for axis in range(len(operand)) if axis != reduced]
            return [((axis,), (place,)) for place, axis in enumerate(kept)]
        case Reshape():
            return _reshape_groups(operand, result)
        case op if op.category is Category.ELEMENTWISE and operand == result:
            return [((axis,), (axis,)) for axis in range(len(operand))]
        case _:
            return None


def _reshape_groups(operand: Shape, result: Shape) -> Groups:
    """The smallest runs of axes with as many elements on both sides; axes of extent 1 stand alone."""
    groups: Groups = []
    left = [axis for axis, extent in enumerate(operand) if extent != 1]
    right = [axis for axis, extent in enumerate(result) if extent != 1]
    while left and right:
        here, there = [left.pop(0)], [right.pop(0)]
        while (sizes := (_size(operand, here), _size(result, there))) and sizes[0] != sizes[1]:
            if sizes[0] < sizes[1] if left and right else bool(left):
                here.append(left.pop(0))
            elif right:
                there.append(right.pop(0))
            else:
                return []
        groups.append((tuple(here), tuple(there)))
    return groups


def _size(shape: Shape, axes: Sequence[int]) -> tuple[int, int]:
    """The elements of some axes, for `batch = 1`, behind how many of them are the batch's."""
    product = batches = 1
    for axis in axes:
        extent: Extent = shape[axis]
        product *= extent.multiple if isinstance(extent, BatchExtent) else extent
        batches += isinstance(extent, BatchExtent)
    return product, batches


def turned(op: Op, order: Sequence[int]) -> Op | None:
    """The op on operands and a result whose axis i is axis `order[i]` of its own; None where it has no such form."""
    match op:
        case Pad(low=low, high=high, value=value):
            return Pad(tuple(low[a] for a in order), tuple(high[a] for a in order), value)
        case Slice(starts=starts, sizes=sizes, steps=steps):
            return Slice(
                tuple(starts[a] for a in order), tuple(sizes[a] for a in order), tuple(steps[a] for a in order)
            )
        case Reverse(axes=axes):
            return Reverse(tuple(sorted(order.index(a) for a in axes)))
        case Concat(axis=axis):
            return Concat(order.index(axis))
        case _:
            return op if op.category is Category.ELEMENTWISE else None
