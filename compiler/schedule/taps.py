"""Reductions over the few taps of windows, written out: an elementwise op for each tap, which reads its own view."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Value
from compiler.ops.elementwise import Add, And, Equal, Less, Maximum, Minimum, NotEqual, Or, Where
from compiler.ops.movement import Broadcast, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import Max, Min, Sum
from compiler.ops.sources import Constant
from compiler.ops.window import Window
from compiler.types import BatchExtent, DType

MOST = 25  # taps: windows of 5 x 5
_VIEWS = (Transpose, Broadcast, Reshape, Reverse, Slice, Window)
_STEPS: dict[type[Sum | Max | Min], type[Add | Maximum | Minimum]] = {Sum: Add, Max: Maximum, Min: Minimum}


def reads_windows(builder: GraphBuilder, value: Value, axes: Sequence[int]) -> bool:
    """Whether `value` is a view of windows, and the axes have few elements."""
    extents = [value.type.shape[axis] for axis in axes]
    if (
        any(isinstance(extent, BatchExtent) for extent in extents)
        or prod(e for e in extents if isinstance(e, int)) > MOST
    ):
        return False
    node = builder.definition(value)
    while node is not None and isinstance(node.op, _VIEWS):
        if isinstance(node.op, Window):
            return True
        node = builder.definition(node.operands[0])
    return False


def reduced_taps(builder: GraphBuilder, kind: type[Sum | Max | Min], value: Value, axes: Sequence[int]) -> Value:
    """One tap after the other, in their order."""
    first, *others = _taps(builder, value, axes)
    total = first
    for tap in others:
        total = builder.emit(_STEPS[kind](), total, tap)
    return total


def first_largest_tap(builder: GraphBuilder, value: Value, axis: int) -> Value:
    """The number of the largest tap, or of a NaN: the first of equals."""
    best, *others = _taps(builder, value, (axis,))

    def same(number: int) -> Value:
        constant = builder.emit(Constant(number, DType.I32))
        return builder.emit(Broadcast(best.type.shape, ()), constant) if best.type.shape else constant

    place = same(0)
    for number, tap in enumerate(others, 1):
        better = builder.emit(Less(), best, tap)
        if tap.type.dtype.is_float:
            is_new = builder.emit(And(), builder.emit(NotEqual(), tap, tap), builder.emit(Equal(), best, best))
            better = builder.emit(Or(), better, is_new)
        best = builder.emit(Where(), better, tap, best)
        place = builder.emit(Where(), better, same(number), place)
    return place


def _taps(builder: GraphBuilder, value: Value, axes: Sequence[int]) -> list[Value]:
    """The parts of `value` at each index of `axes`, the last fastest, without these axes."""
    shape = value.type.shape
    left = tuple(extent for axis, extent in enumerate(shape) if axis not in axes)
    found: list[Value] = []

    def visit(starts: dict[int, int], todo: Sequence[int]) -> None:
        if todo:
            extent = shape[todo[0]]
            assert isinstance(extent, int)
            for index in range(extent):
                visit({**starts, todo[0]: index}, todo[1:])
            return
        begin = tuple(starts.get(axis, 0) for axis in range(len(shape)))
        sizes = tuple(1 if axis in starts else extent for axis, extent in enumerate(shape))
        part = builder.emit(Slice(begin, sizes, (1,) * len(shape)), value)
        found.append(builder.emit(Reshape(left), part))

    visit({}, tuple(axes))
    return found
