"""Goes through the taps of windows one by one, where nothing but taps is summed: pooling, depthwise convolution.

What comes out is elementwise on strided slices, so it fuses with its neighbours, and no window is ever gathered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import TypeVar

from compiler.graph.ir import Graph, Node, Value
from compiler.graph_passes.interleave import interleaved
from compiler.graph_passes.law import Workbench
from compiler.graph_passes.read_taps import PaddedStretch, WindowTaps, at_tap, cut
from compiler.graph_passes.rewrite import Rewriting
from compiler.graph_passes.simplify import LAWS
from compiler.ops.contraction import Contraction, Labels
from compiler.ops.elementwise import Add, And, Equal, LessEqual, Maximum, Minimum, Multiply, Not, Where
from compiler.ops.movement import Broadcast, Concat, Reshape, Transpose
from compiler.ops.reduction import ArgMax, Max, Min, Sum
from compiler.ops.sources import Constant
from compiler.ops.window import Fold, Window, folded_axes
from compiler.support import numerics
from compiler.types import BatchExtent, DType, Shape, TensorType

_Item = TypeVar("_Item")


_PAIRWISE = {Sum: Add, Max: Maximum, Min: Minimum}


def unroll_taps(graph: Graph) -> Graph:
    """sum(window(x)) -> x[0:] + x[1:] + …; max, argmax, fold and products over one tap after the other likewise."""
    if not any(isinstance(node.op, (Window, Fold)) for node in graph.nodes):
        return graph
    rewriting = Rewriting(graph)
    return rewriting.each(_Unrolling(Workbench(rewriting.builder, LAWS)).unrolled)


class _Unrolling:
    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._windows = WindowTaps(bench.builder)

    def unrolled(self, node: Node) -> Value | None:
        for operand in node.operands:
            self._windows.of(operand)
        match node.op:
            case Sum(axes=axes) | Max(axes=axes) | Min(axes=axes):
                return self._reduced(node, axes)
            case ArgMax(axis=axis):
                return self._first_largest(node.operands[0], axis)
            case Fold():
                return self._folded(node, node.op)
            case Contraction(lhs=lhs, rhs=rhs, out=out):
                left, right = node.operands
                return self._product(left, lhs, right, rhs, out) or self._product(right, rhs, left, lhs, out)
            case _:
                return None

    def _taps(self, value: Value, axes: Sequence[int]) -> list[Value] | None:
        """The value at each tap, where those axes hold nothing but taps of windows."""
        shape = value.type.shape
        if not {*axes} <= self._windows.of(value) or _count(shape, axes) > numerics.MOST_TAPS:
            return None
        found: list[Value] = []
        for numbers in _numbers(shape, axes):
            tap = at_tap(self._bench, value, dict(zip(axes, numbers, strict=True)), {})
            if tap is None:
                return None
            found.append(tap)
        return found

    def _reduced(self, node: Node, axes: Sequence[int]) -> Value | None:
        taps = self._taps(node.operands[0], axes)
        if taps is None:
            return None
        total = taps[0]
        for tap in taps[1:]:
            total = self._bench.emit(_PAIRWISE[type(node.op)](), total, tap)  # type: ignore[index]
        return total

    def _first_largest(self, value: Value, axis: int) -> Value | None:
        """The number of the first tap that is the largest, or NaN."""
        taps = self._taps(value, (axis,))
        if taps is None:
            return None
        bench, best = self._bench, taps[0]
        type_ = TensorType(DType.I32, best.type.shape)
        number = self._filled(0, type_)
        for position, tap in enumerate(taps[1:], 1):
            # `not <=` is also true of a NaN; one that was found before stays.
            is_better = bench.emit(
                And(), bench.emit(Not(), bench.emit(LessEqual(), tap, best)), bench.emit(Equal(), best, best)
            )
            number = bench.emit(Where(), is_better, self._filled(position, type_), number)
            best = bench.emit(Where(), is_better, tap, best)
        return number

    def _filled(self, number: float, type_: TensorType) -> Value:
        return self._bench.emit(Broadcast(type_.shape, ()), self._bench.emit(Constant(number, type_.dtype)))

    def _folded(self, node: Node, op: Fold) -> Value | None:
        """A sum over the taps of each residue class, of the operand where a window of that tap read the element."""
        (operand,) = node.operands
        if math.prod(op.sizes) > numerics.MOST_TAPS:
            return None
        axes, result = folded_axes(op, operand.type.shape), node.results[0].type
        positions = {axis.axis: axis.positions for axis in axes}
        zeros = TensorType(result.dtype, tuple(positions.get(i, e) for i, e in enumerate(result.shape)))
        classes: list[Value] = []
        for residues in product(*(range(axis.stride) for axis in axes)):
            total: Value | None = None
            for taps in product(*(axis.classes[r] for axis, r in zip(axes, residues, strict=True))):
                numbers = {len(result.shape) + place: tap.number for place, tap in enumerate(taps)}
                stretches = {
                    axis.axis: PaddedStretch(tap.shift, axis.positions, axis.low, axis.high)
                    for axis, tap in zip(axes, taps, strict=True)
                }
                piece = at_tap(self._bench, operand, numbers, stretches)
                if piece is None:
                    return None
                total = piece if total is None else self._bench.emit(Add(), total, piece)
            classes.append(self._filled(0.0, zeros) if total is None else total)
        return interleaved(self._bench.builder, classes, op.axes, op.strides, result.shape)

    def _product(self, windows: Value, has: Labels, other: Value, others: Labels, out: Labels) -> Value | None:
        """A product in which each channel stays by itself, and either the taps are summed or everything else is."""
        taps = {has[axis] for axis in self._windows.of(windows)}
        summed = {label for label in has if label not in out}
        if not {*others} <= {*has} or not {*others} & {*out}:
            return None
        axes = [axis for axis, label in enumerate(has) if label in taps and (label in summed) is bool(summed & taps)]
        if not axes or _count(windows.type.shape, axes) > numerics.MOST_TAPS:
            return None
        if summed <= taps:
            return self._over_taps(windows, has, other, others, out, axes)
        if {*out} - {*others} == {has[axis] for axis in axes} and not summed & taps:
            return self._tap_by_tap(windows, has, other, others, out, axes)
        return None

    def _over_taps(
        self, windows: Value, has: Labels, other: Value, others: Labels, out: Labels, axes: Sequence[int]
    ) -> Value | None:
        """The convolution of each channel with its own kernel."""
        total: Value | None = None
        kept = _without(has, axes)
        for numbers in _numbers(windows.type.shape, axes):
            place = dict(zip(axes, numbers, strict=True))
            tap = at_tap(self._bench, windows, place, {})
            if tap is None:
                return None
            own = {others.index(has[axis]): number for axis, number in place.items() if has[axis] in others}
            factor = self._aligned(cut(self._bench, other, own), _without(others, own), kept, tap.type.shape)
            term = self._bench.emit(Multiply(), tap, factor)
            total = term if total is None else self._bench.emit(Add(), total, term)
        assert total is not None
        return self._bench.emit(Transpose(tuple(kept.index(label) for label in out)), total)

    def _tap_by_tap(
        self, windows: Value, has: Labels, other: Value, others: Labels, out: Labels, axes: Sequence[int]
    ) -> Value | None:
        """The gradient of those kernels: for each tap a sum over positions, then over the batch.

        They are joined at the very end, so that one kernel may find the sums over positions of all taps.
        """
        kept = _without(has, axes)
        extents = _without(windows.type.shape, axes)
        summed = [place for place, label in enumerate(kept) if label not in out]
        batch = [place for place in summed if isinstance(extents[place], BatchExtent) and len(summed) > 1]
        inner = tuple(place for place in summed if place not in batch)
        left = _without(kept, inner)
        sums: list[Value] = []
        for numbers in _numbers(windows.type.shape, axes):
            tap = at_tap(self._bench, windows, dict(zip(axes, numbers, strict=True)), {})
            if tap is None:
                return None
            factor = self._aligned(other, others, kept, tap.type.shape)
            total = self._bench.emit(Sum(inner), self._bench.emit(Multiply(), tap, factor))
            for place in batch:
                total = self._bench.emit(Sum((left.index(kept[place]),)), total)
            sums.append(self._bench.emit(Reshape((1, *total.type.shape)), total))
        together = self._bench.emit(Concat(0), *sums)
        sizes = tuple(windows.type.shape[axis] for axis in axes)
        split = self._bench.emit(Reshape((*sizes, *together.type.shape[1:])), together)
        labels = (*(has[axis] for axis in axes), *(label for label in kept if label in out))
        return self._bench.emit(Transpose(tuple(labels.index(label) for label in out)), split)

    def _aligned(self, value: Value, labels: Labels, wanted: Labels, shape: Shape) -> Value:
        """`value` turned and repeated to the labels `wanted`."""
        order = sorted(range(len(labels)), key=lambda axis: wanted.index(labels[axis]))
        turned = self._bench.emit(Transpose(tuple(order)), value)
        return self._bench.emit(Broadcast(shape, tuple(wanted.index(labels[axis]) for axis in order)), turned)


def _count(shape: Shape, axes: Sequence[int]) -> int:
    return math.prod(extent for axis in axes if isinstance(extent := shape[axis], int))


def _numbers(shape: Shape, axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The elements of those axes, the last axis's fastest."""
    return product(*(range(extent) for axis in axes if isinstance(extent := shape[axis], int)))


def _without(items: tuple[_Item, ...], axes: Iterable[int]) -> tuple[_Item, ...]:
    gone = {*axes}
    return tuple(item for axis, item in enumerate(items) if axis not in gone)
