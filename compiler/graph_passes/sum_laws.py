"""Laws of sums over axes."""

from __future__ import annotations

from compiler.graph.ir import Node, Value
from compiler.graph_passes.law import Workbench
from compiler.graph_passes.movement_laws import wide_axes, wide_extents
from compiler.ops.elementwise import Multiply, Negate
from compiler.ops.movement import Broadcast, Reshape, Transpose
from compiler.ops.reduction import Sum, element_count
from compiler.ops.rules import other_axes


def sum_over_units(bench: Workbench, node: Node) -> Value | None:
    """A sum over axes of extent 1 is a reshape."""
    op, (x,) = node.op, node.operands
    assert isinstance(op, Sum)
    axes = tuple(axis for axis in op.axes if x.type.shape[axis] != 1)
    if axes == op.axes and axes:
        return None
    total = bench.emit(Sum(axes), x) if axes else x
    return bench.emit(Reshape(node.results[0].type.shape), total)


def sum_of_sum(bench: Workbench, node: Node) -> Value | None:
    """sum(sum(x)) -> sum(x), but for a sum of rows: over the last axes, with a further sum over axes before them.

    Such a sum goes into the kernel that makes its rows, as in the cross-entropy of each word of a sentence.
    """
    op, inner = node.op, bench.made_by(node.operands[0], Sum)
    if inner is None:
        return None
    assert isinstance(op, Sum)
    assert isinstance(inner.op, Sum)
    rank = inner.operands[0].type.rank
    kept = other_axes(rank, inner.op.axes)
    if kept and inner.op.axes == tuple(range(len(kept), rank)):
        return None
    axes = tuple(sorted((*inner.op.axes, *(kept[axis] for axis in op.axes))))
    return bench.emit(Sum(axes), inner.operands[0])


def sum_of_broadcast(bench: Workbench, node: Node) -> Value | None:
    """sum(broadcast(x)) over n new axes -> broadcast(x) * n."""
    op, inner = node.op, bench.made_by(node.operands[0], Broadcast)
    if inner is None:
        return None
    assert isinstance(op, Sum)
    assert isinstance(inner.op, Broadcast)
    new = tuple(axis for axis in op.axes if axis not in inner.op.axes)
    if not new:
        return None
    builder, shape = bench.builder, inner.op.shape
    old = tuple(inner.op.axes.index(axis) for axis in op.axes if axis in inner.op.axes)
    total = bench.emit(Sum(old), inner.operands[0]) if old else inner.operands[0]
    count = element_count(builder, shape, new, total.type.dtype)
    scaled = bench.emit(Multiply(), total, bench.emit(Broadcast(total.type.shape, ()), count))
    left = other_axes(len(shape), op.axes)
    axes = tuple(left.index(axis) for axis in inner.op.axes if axis not in op.axes)
    return bench.emit(Broadcast(node.results[0].type.shape, axes), scaled)


def sum_of_transpose(bench: Workbench, node: Node) -> Value | None:
    """sum(transpose(x)) -> transpose(sum(x))."""
    op, inner = node.op, bench.made_by(node.operands[0], Transpose)
    if inner is None:
        return None
    assert isinstance(op, Sum)
    assert isinstance(inner.op, Transpose)
    order = inner.op.permutation
    axes = tuple(sorted(order[axis] for axis in op.axes))
    left = [order[axis] for axis in range(len(order)) if axis not in op.axes]
    total = bench.emit(Sum(axes), inner.operands[0])
    return bench.emit(Transpose(tuple(sorted(left).index(axis) for axis in left)), total)


def sum_of_reshape(bench: Workbench, node: Node) -> Value | None:
    """sum(reshape(x)) -> reshape(sum(x)), where the reshape only puts in or takes out unit axes."""
    op, inner = node.op, bench.made_by(node.operands[0], Reshape)
    if inner is None:
        return None
    assert isinstance(op, Sum)
    (x,), shape = inner.operands, node.operands[0].type.shape
    if wide_extents(x.type.shape) != wide_extents(shape):
        return None
    places = dict(zip(wide_axes(shape), wide_axes(x.type.shape), strict=True))
    total = bench.emit(Sum(tuple(places[axis] for axis in op.axes if axis in places)), x)
    return bench.emit(Reshape(node.results[0].type.shape), total)


def sum_of_negation(bench: Workbench, node: Node) -> Value | None:
    """sum(-x) -> -sum(x)."""
    inner = bench.made_by(node.operands[0], Negate)
    return None if inner is None else bench.emit(Negate(), bench.emit(node.op, inner.operands[0]))


def sum_of_product(bench: Workbench, node: Node) -> Value | None:
    """sum(x * broadcast(s)) -> sum(x) * broadcast(s), where s is repeated along all summed axes."""
    op, inner = node.op, bench.made_by(node.operands[0], Multiply)
    if inner is None:
        return None
    assert isinstance(op, Sum)
    for x, factor in (inner.operands, inner.operands[::-1]):
        spread = bench.made_by(factor, Broadcast)
        if spread is None:
            continue
        assert isinstance(spread.op, Broadcast)
        (small,) = spread.operands
        if not small.type.shape or {*spread.op.axes} & {*op.axes}:
            continue
        left = other_axes(x.type.rank, op.axes)
        axes = tuple(left.index(axis) for axis in spread.op.axes)
        total = bench.emit(op, x)
        return bench.emit(Multiply(), total, bench.emit(Broadcast(total.type.shape, axes), small))
    return None


def sum_of_scaled(bench: Workbench, node: Node) -> Value | None:
    """sum(x * c) -> sum(x) * c, for a constant c that is neither huge nor tiny."""
    inner = bench.made_by(node.operands[0], Multiply)
    if inner is None:
        return None
    x, factor = inner.operands
    c = bench.number(factor)
    if c is None or not 1e-6 < abs(c) < 1e6:
        return None
    total = bench.emit(node.op, x)
    return bench.emit(Multiply(), total, bench.filled_like(total, c))
