"""Laws of sums over axes."""

from __future__ import annotations

from compiler.graph.ir import Value
from compiler.graph_passes.law import Workbench
from compiler.graph_passes.movement_laws import wide_axes, wide_extents
from compiler.ops.elementwise import Multiply, Negate
from compiler.ops.movement import Broadcast, Reshape, Transpose
from compiler.ops.reduction import Sum, element_count
from compiler.ops.rules import other_axes, without_axes


def sum_over_units(bench: Workbench, op: Sum, x: Value) -> Value | None:
    """A sum over axes of extent 1 is a reshape."""
    axes = tuple(axis for axis in op.axes if x.type.shape[axis] != 1)
    if axes == op.axes and axes:
        return None
    total = bench.emit(Sum(axes), x) if axes else x
    return bench.emit(Reshape(without_axes(x.type.shape, op.axes)), total)


def sum_of_sum(bench: Workbench, op: Sum, x: Value) -> Value | None:
    """sum(sum(x)) -> sum(x), but for a sum of rows: over the last axes, with a further sum over axes before them.

    Such a sum goes into the kernel that makes its rows, as in the cross-entropy of each word of a sentence.
    """
    inner = bench.made(x, Sum)
    if inner is None:
        return None
    first, (source,) = inner
    rank = source.type.rank
    kept = other_axes(rank, first.axes)
    if kept and first.axes == tuple(range(len(kept), rank)):
        return None
    axes = tuple(sorted((*first.axes, *(kept[axis] for axis in op.axes))))
    return bench.emit(Sum(axes), source)


def sum_of_broadcast(bench: Workbench, op: Sum, x: Value) -> Value | None:
    """sum(broadcast(x)) over n new axes -> broadcast(x) * n."""
    inner = bench.made(x, Broadcast)
    if inner is None:
        return None
    spread, (small,) = inner
    new = tuple(axis for axis in op.axes if axis not in spread.axes)
    if not new:
        return None
    old = tuple(spread.axes.index(axis) for axis in op.axes if axis in spread.axes)
    total = bench.emit(Sum(old), small) if old else small
    count = element_count(bench.builder, spread.shape, new, total.type.dtype)
    scaled = bench.emit(Multiply(), total, bench.emit(Broadcast(total.type.shape, ()), count))
    left = other_axes(len(spread.shape), op.axes)
    axes = tuple(left.index(axis) for axis in spread.axes if axis not in op.axes)
    return bench.emit(Broadcast(without_axes(spread.shape, op.axes), axes), scaled)


def sum_of_transpose(bench: Workbench, op: Sum, x: Value) -> Value | None:
    """sum(transpose(x)) -> transpose(sum(x))."""
    inner = bench.made(x, Transpose)
    if inner is None:
        return None
    order = inner[0].permutation
    axes = tuple(sorted(order[axis] for axis in op.axes))
    left = [order[axis] for axis in range(len(order)) if axis not in op.axes]
    total = bench.emit(Sum(axes), *inner[1])
    return bench.emit(Transpose(tuple(sorted(left).index(axis) for axis in left)), total)


def sum_of_reshape(bench: Workbench, op: Sum, reshaped: Value) -> Value | None:
    """sum(reshape(x)) -> reshape(sum(x)), where the reshape only puts in or takes out unit axes."""
    inner = bench.made_by(reshaped, Reshape)
    if inner is None:
        return None
    (x,), shape = inner.operands, reshaped.type.shape
    if wide_extents(x.type.shape) != wide_extents(shape):
        return None
    places = dict(zip(wide_axes(shape), wide_axes(x.type.shape), strict=True))
    total = bench.emit(Sum(tuple(places[axis] for axis in op.axes if axis in places)), x)
    return bench.emit(Reshape(without_axes(shape, op.axes)), total)


def sum_of_negation(bench: Workbench, op: Sum, x: Value) -> Value | None:
    """sum(-x) -> -sum(x)."""
    inner = bench.made_by(x, Negate)
    return None if inner is None else bench.emit(Negate(), bench.emit(op, inner.operands[0]))


def sum_of_product(bench: Workbench, op: Sum, multiplied: Value) -> Value | None:
    """sum(x * broadcast(s)) -> sum(x) * broadcast(s), where s is repeated along all summed axes."""
    inner = bench.made_by(multiplied, Multiply)
    if inner is None:
        return None
    for x, factor in (inner.operands, inner.operands[::-1]):
        found = bench.made(factor, Broadcast)
        if found is None:
            continue
        spread, (small,) = found
        if not small.type.shape or {*spread.axes} & {*op.axes}:
            continue
        left = other_axes(x.type.rank, op.axes)
        axes = tuple(left.index(axis) for axis in spread.axes)
        total = bench.emit(op, x)
        return bench.emit(Multiply(), total, bench.emit(Broadcast(total.type.shape, axes), small))
    return None


def sum_of_scaled(bench: Workbench, op: Sum, multiplied: Value) -> Value | None:
    """sum(x * c) -> sum(x) * c, for a constant c that is neither huge nor tiny."""
    inner = bench.made_by(multiplied, Multiply)
    if inner is None:
        return None
    x, factor = inner.operands
    c = bench.number(factor)
    if c is None or not 1e-6 < abs(c) < 1e6:
        return None
    total = bench.emit(op, x)
    return bench.emit(Multiply(), total, bench.filled_like(total, c))
