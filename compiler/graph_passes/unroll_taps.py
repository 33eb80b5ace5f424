"""Goes through the taps of windows one by one, where nothing but taps is summed: pooling, depthwise convolution.

What comes out is elementwise on strided slices, so it fuses with its neighbours, and no window is ever gathered. An
expression over windows is read at one tap: the tap axes disappear, and windows become strided slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import TypeAlias, TypeVar

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value
from compiler.graph.op import Category
from compiler.graph_passes.axis_groups import axis_groups
from compiler.graph_passes.interleave import interleaved
from compiler.graph_passes.law import Workbench
from compiler.graph_passes.rewrite import Rewriting
from compiler.graph_passes.simplify import LAWS
from compiler.ops.contraction import Contraction, Labels
from compiler.ops.elementwise import (
    Add,
    And,
    Cast,
    Divide,
    Equal,
    LessEqual,
    Maximum,
    Minimum,
    Multiply,
    Negate,
    Not,
    Subtract,
    Where,
)
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Slice, Transpose
from compiler.ops.reduction import ArgMax, Max, Min, Sum
from compiler.ops.sources import Constant, Iota
from compiler.ops.window import Fold, Window, folded_axes
from compiler.support import numerics
from compiler.support.record import record
from compiler.types import BatchExtent, DType, Shape, TensorType, depends_on_batch

_NONE: frozenset[int] = frozenset()
_ZERO_WHERE_OPERANDS_ARE = (Add, Subtract, Negate, Multiply, Cast)


@record
class PaddedStretch:
    """`length` elements from `first` on, which may reach `low` elements before and `high` behind: zeros stand there."""

    first: int
    length: int
    low: int
    high: int


Numbers: TypeAlias = Mapping[int, int]  # axes that go, and the element of each that is meant
PaddedStretches: TypeAlias = Mapping[int, PaddedStretch]  # axes of which other elements than their own are meant


class WindowTaps:
    """The axes along which values hold the taps of windows; asked about operands before results, it goes no deeper."""

    def __init__(self, builder: GraphBuilder) -> None:
        self._builder = builder
        self._known: dict[int, frozenset[int]] = {}

    def of(self, value: Value) -> frozenset[int]:
        if value.index not in self._known:
            node = self._builder.definition(value)
            self._known[value.index] = _NONE if node is None else self._made_by(node, value)
        return self._known[value.index]

    def _made_by(self, node: Node, value: Value) -> frozenset[int]:
        match node.op:
            case Window(axes=axes):
                rank = node.operands[0].type.rank
                inner = (axis for axis in self.of(node.operands[0]) if axis not in axes)
                return frozenset((*inner, *range(rank, value.type.rank)))
            case Transpose() | Broadcast() | Reshape():
                inner = self.of(node.operands[0])
                groups = axis_groups(node, 0) if inner else None
                return frozenset(axis for here, there in groups or () if inner.issuperset(here) for axis in there)
            case op if op.category is Category.ELEMENTWISE:
                return _NONE.union(*map(self.of, node.operands))
            case _:
                return _NONE


def at_tap(bench: Workbench, value: Value, numbers: Numbers, stretches: PaddedStretches) -> Value | None:
    """`value` at those numbers of tap axes; None where that would have to compute the whole of it all the same."""
    return _Reader(bench).read(value, numbers, stretches, exact=any(s.low or s.high for s in stretches.values()))


def cut(bench: Workbench, value: Value, numbers: Numbers) -> Value:
    """`value` at those numbers of some axes, as a slice of it."""
    shape = value.type.shape
    sizes = tuple(1 if axis in numbers else extent for axis, extent in enumerate(shape))
    piece = bench.emit(Slice(tuple(numbers.get(a, 0) for a in range(len(shape))), sizes, (1,) * len(shape)), value)
    return bench.emit(Reshape(_left(shape, numbers, {})), piece)


def _left(shape: Shape, numbers: Numbers, stretches: PaddedStretches) -> Shape:
    return tuple(
        stretches[axis].length if axis in stretches else extent
        for axis, extent in enumerate(shape)
        if axis not in numbers
    )


class _Reader:
    """`exact`: elements outside of a stretch must be zero; otherwise they may be any number."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench

    def read(self, value: Value, numbers: Numbers, stretches: PaddedStretches, exact: bool) -> Value | None:
        number = self._bench.number(value)
        if number is not None and (number == 0 or not exact):
            constant = self._bench.emit(Constant(number, value.type.dtype))
            return self._bench.emit(Broadcast(_left(value.type.shape, numbers, stretches), ()), constant)
        if not numbers:
            return self._stretched(value, stretches)
        node = self._bench.builder.definition(value)
        if node is not None:
            match node.op:
                case Broadcast():
                    return self._broadcast(node, node.op, numbers, stretches, exact)
                case Reshape() | Transpose():
                    return self._moved(node, numbers, stretches, exact)
                case Window():
                    return self._windowed(node, node.op, numbers, stretches, exact)
                case Iota(shape=shape, axis=axis, dtype=dtype) if axis in numbers:
                    constant = self._bench.emit(Constant(numbers[axis], dtype))
                    return (
                        None if exact else self._bench.emit(Broadcast(_left(shape, numbers, stretches), ()), constant)
                    )
                case op if op.category is Category.ELEMENTWISE:
                    return self._elementwise(node, numbers, stretches, exact)
                case _:
                    pass
        # A parameter, as a rule.
        is_small = not stretches and not depends_on_batch(value.type.shape)
        return cut(self._bench, value, numbers) if is_small else None

    def _stretched(self, value: Value, stretches: PaddedStretches) -> Value:
        """A value that has no taps: with zeros around it, as far as any tap reaches, cut to the stretches."""
        shape, none = value.type.shape, PaddedStretch(0, 0, 0, 0)
        reach = [stretches.get(axis, none) for axis in range(len(shape))]
        padded = self._bench.emit(Pad(tuple(s.low for s in reach), tuple(s.high for s in reach), 0.0), value)
        starts = tuple(s.low + s.first for s in reach)
        return self._bench.emit(Slice(starts, _left(shape, {}, stretches), (1,) * len(shape)), padded)

    def _broadcast(
        self, node: Node, op: Broadcast, numbers: Numbers, stretches: PaddedStretches, exact: bool
    ) -> Value | None:
        (small,) = node.operands
        own = {axis: i for i, axis in enumerate(op.axes) if small.type.shape[i] == op.shape[axis]}
        if exact and any(axis not in own and (s.low or s.high) for axis, s in stretches.items()):
            return None  # zeros cannot be told from what is repeated
        units = {i: 0 for i, axis in enumerate(op.axes) if axis in numbers and axis not in own}
        inner = {own[axis]: number for axis, number in numbers.items() if axis in own} | units
        read = self.read(small, inner, {own[a]: s for a, s in stretches.items() if a in own}, exact)
        if read is None:
            return None
        places = tuple(_renumbered(axis, numbers) for axis in op.axes if axis not in numbers)
        return self._bench.emit(Broadcast(_left(op.shape, numbers, stretches), places), read)

    def _moved(self, node: Node, numbers: Numbers, stretches: PaddedStretches, exact: bool) -> Value | None:
        (operand,), result = node.operands, node.results[0].type.shape
        inner: dict[int, int] = {}
        reached: dict[int, PaddedStretch] = {}
        known = {axis for axis in numbers if result[axis] == 1}
        for here, there in axis_groups(node, 0) or []:
            if {*there} <= {*numbers}:
                inner.update(_split(here, operand.type.shape, there, result, numbers))
                known |= {*there}
            elif len(here) == len(there) == 1 and there[0] in stretches:
                reached[here[0]] = stretches[there[0]]
                known.add(there[0])
        if known != {*numbers, *stretches}:
            return None
        read = self.read(operand, inner, reached, exact)
        if read is None:
            return None
        if isinstance(node.op, Transpose):
            kept = [axis for axis in node.op.permutation if axis not in inner]
            return self._bench.emit(Transpose(tuple(sorted(kept).index(axis) for axis in kept)), read)
        return self._bench.emit(Reshape(_left(result, numbers, stretches)), read)

    def _windowed(
        self, node: Node, op: Window, numbers: Numbers, stretches: PaddedStretches, exact: bool
    ) -> Value | None:
        (operand,), shape = node.operands, node.results[0].type.shape
        rank = operand.type.rank
        places = tuple(numbers.get(rank + place, 0) for place in range(len(op.axes)))
        if min(numbers) < rank or any(e != 1 for axis, e in enumerate(shape[rank:], rank) if axis not in numbers):
            return None
        starts, steps = [0] * rank, [1] * rank
        for axis, number, stride, dilation in zip(op.axes, places, op.strides, op.dilations, strict=True):
            starts[axis], steps[axis] = number * dilation, stride
        piece = self._bench.emit(Slice(tuple(starts), shape[:rank], tuple(steps)), operand)
        return self.read(self._bench.emit(Reshape(_left(shape, numbers, {})), piece), {}, stretches, exact)

    def _elementwise(self, node: Node, numbers: Numbers, stretches: PaddedStretches, exact: bool) -> Value | None:
        loose = [exact and self._is_repeated(operand, stretches) for operand in node.operands]
        match node.op:
            case _ if not exact:
                needed = [False] * len(node.operands)
            case Where():
                needed = [False, True, True]
            case Divide() if loose[1]:
                needed = [True, False]
            case op if isinstance(op, _ZERO_WHERE_OPERANDS_ARE):
                needed = [not (isinstance(op, Multiply) and is_loose) for is_loose in loose]
            case _:
                return None
        if exact and not any(needed):
            return None
        operands: list[Value] = []
        for operand, is_exact in zip(node.operands, needed, strict=True):
            read = self.read(operand, numbers, stretches, is_exact)
            if read is None:
                return None
            operands.append(read)
        return self._bench.emit(node.op, *operands)

    def _is_repeated(self, value: Value, stretches: PaddedStretches) -> bool:
        """Whether all elements along those axes are the same."""
        node = self._bench.made_by(value, Broadcast)
        if node is None:
            return False
        assert isinstance(node.op, Broadcast)
        return not {*stretches} & {*node.op.axes}


def _renumbered(axis: int, numbers: Numbers) -> int:
    return axis - sum(gone < axis for gone in numbers)


def _split(
    here: tuple[int, ...], operand: Shape, there: tuple[int, ...], result: Shape, numbers: Numbers
) -> dict[int, int]:
    """The element of the axes `here` that is that of the axes `there`."""

    def extents(shape: Shape, axes: tuple[int, ...]) -> list[int]:
        return [extent for axis in axes if isinstance(extent := shape[axis], int)]

    flat = 0
    for axis, extent in zip(there, extents(result, there), strict=True):
        flat = flat * extent + numbers[axis]
    found: dict[int, int] = {}
    for axis, extent in zip(reversed(here), reversed(extents(operand, here)), strict=True):
        flat, found[axis] = divmod(flat, extent)
    return found


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
