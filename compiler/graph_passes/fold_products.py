"""Turns the fold of a product, the input gradient of a convolution, into a convolution with the taps in reverse.

An element of the result was read at the taps of one residue modulo the stride. So each residue class is a convolution
of stride 1 over the cotangent, with every stride-th tap, and the classes are then interleaved.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import gcd

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value
from compiler.graph_passes.interleave import interleaved
from compiler.graph_passes.rewrite import Rewriting
from compiler.ops.contraction import Contraction, Labels
from compiler.ops.movement import Broadcast, Pad, Reverse, Slice
from compiler.ops.sources import Constant
from compiler.ops.window import Fold, Window
from compiler.support.record import record
from compiler.types import Extent, Shape


def fold_products(graph: Graph) -> Graph:
    """fold(y @ w), where w has the taps, becomes windows of y @ the taps of w in reverse; so does a part of a fold."""
    if not any(isinstance(node.op, Fold) for node in graph.nodes):
        return graph
    rewriting = Rewriting(graph)
    folded: dict[int, _FoldedProduct] = {}

    def convolution(node: Node) -> Value | None:
        if isinstance(node.op, Fold) and (found := _found(rewriting.builder, node, node.op)) is not None:
            value = found.part((0,) * len(node.op.axes), node.op.extents)
            folded[value.index] = found
            return value
        whole = folded.get(node.operands[0].index) if isinstance(node.op, Slice) else None
        return whole.sliced(node.op) if whole is not None and isinstance(node.op, Slice) else None

    return rewriting.each(convolution)


def _found(builder: GraphBuilder, node: Node, op: Fold) -> _FoldedProduct | None:
    """The fold of a product of which one operand has the places of the windows, and the other their taps."""
    maker = builder.definition(node.operands[0])
    if maker is None or not isinstance(maker.op, Contraction):
        return None
    (left, right), (lhs, rhs, out) = maker.operands, (maker.op.lhs, maker.op.rhs, maker.op.out)
    places, taps = {out[axis] for axis in op.axes}, {*out[len(out) - len(op.axes) :]}
    for y, has, w, others in ((left, lhs, right, rhs), (right, rhs, left, lhs)):
        if places <= {*has} and taps <= {*others} and not places & {*others} and not taps & {*has}:
            return _FoldedProduct(builder, op, y, has, w, others, out)
    return None


@record
class _Read:
    """Elements of a residue class along an axis, `count` of them: `taps` meet y from `first` on, `step` apart."""

    count: int
    taps: list[int]
    step: int
    first: int
    length: int


@record
class _FoldedProduct:
    """`places` are those of y with its labels, `w` has the taps; `out` are the labels of the folded operand."""

    builder: GraphBuilder
    op: Fold
    y: Value
    y_labels: Labels
    w: Value
    w_labels: Labels
    out: Labels

    def sliced(self, op: Slice) -> Value | None:
        shape = self.op.folded(self.product_shape())
        for axis, extent in enumerate(shape):
            if op.steps[axis] != 1 or (axis not in self.op.axes and op.sizes[axis] != extent):
                return None
        sizes = tuple(size for axis in self.op.axes if isinstance(size := op.sizes[axis], int))
        return self.part(tuple(op.starts[axis] for axis in self.op.axes), sizes)

    def product_shape(self) -> Shape:
        extents: dict[int, Extent] = dict(zip(self.w_labels, self.w.type.shape, strict=True))
        extents.update(zip(self.y_labels, self.y.type.shape, strict=True))
        return tuple(extents[label] for label in self.out)

    def part(self, starts: Sequence[int], sizes: Sequence[int]) -> Value:
        """The elements from `starts` on along the folded axes."""
        strides = self.op.strides
        reads = [
            [self.read(k, start + r, -(-size // strides[k])) for r in range(strides[k])]
            for k, (start, size) in enumerate(zip(starts, sizes, strict=True))
        ]
        given = [[read for read in axis if read.taps] for axis in reads]
        firsts = [min((read.first for read in axis), default=0) for axis in given]
        ends = [max((read.first + read.length for read in axis), default=0) for axis in given]
        y = self.stretched(firsts, ends) if all(given) else self.y
        classes = [self.residue(y, firsts, choice) for choice in product(*reads)]
        return interleaved(self.builder, classes, self.op.axes, strides, self.shape_with(sizes))

    def read(self, k: int, position: int, count: int) -> _Read:
        """How elements `position + j * stride`, for j up to `count`, come from y along axis k."""
        stride, dilation = self.op.strides[k], self.op.dilations[k]
        taps = [tap for tap in range(self.op.sizes[k]) if (position - tap * dilation) % stride == 0]
        step = dilation // gcd(stride, dilation)
        first = (position - taps[-1] * dilation) // stride if taps else 0
        return _Read(count, taps, step, first, count + (len(taps) - 1) * step)

    def stretched(self, firsts: Sequence[int], ends: Sequence[int]) -> Value:
        """The elements of y from `firsts` to `ends` along the folded axes, with zeros where there are none."""
        y, low, high = self.y, [0] * self.y.type.rank, [0] * self.y.type.rank
        for axis, first, end in zip(self.places(), firsts, ends, strict=True):
            y, low[axis], high[axis] = _stretch(self.builder, y, axis, first, end - first)
        return self.builder.emit(Pad(tuple(low), tuple(high), 0.0), y) if any(low) or any(high) else y

    def places(self) -> list[int]:
        """The axes of y that are folded, in the order of the fold."""
        return [self.y_labels.index(self.out[axis]) for axis in self.op.axes]

    def residue(self, y: Value, firsts: Sequence[int], reads: Sequence[_Read]) -> Value:
        """The elements of one residue class, from y as it is from `firsts` on."""
        builder, w, places, count = self.builder, self.w, self.places(), len(reads)
        if not all(read.taps for read in reads):
            return self.zeros([read.count for read in reads])
        labels = self.out[len(self.out) - count :]
        for axis, label, first, read in zip(places, labels, firsts, reads, strict=True):
            y = _cut(builder, y, axis, read.first - first, read.length)
            step = read.taps[1] - read.taps[0] if len(read.taps) > 1 else 1  # they are equally far apart
            w = _cut(builder, w, self.w_labels.index(label), read.taps[0], len(read.taps), step)
        order = sorted(range(count), key=lambda k: places[k])
        window = Window(
            tuple(places[k] for k in order),
            tuple(len(reads[k].taps) for k in order),
            (1,) * count,
            tuple(reads[k].step for k in order),
        )
        w = builder.emit(Reverse(tuple(sorted(self.w_labels.index(label) for label in labels))), w)
        lhs = (*self.y_labels, *(labels[k] for k in order))
        whole = Contraction(lhs, self.w_labels, self.out[: len(self.out) - count])
        return builder.emit(whole, builder.emit(window, y), w)

    def shape_with(self, lengths: Sequence[int]) -> Shape:
        """The shape of a fold with those extents along the folded axes."""
        found = dict(zip(self.op.axes, lengths, strict=True))
        kept = self.product_shape()[: len(self.out) - len(lengths)]
        return tuple(found.get(axis, extent) for axis, extent in enumerate(kept))

    def zeros(self, lengths: Sequence[int]) -> Value:
        zero = self.builder.emit(Constant(0.0, self.y.type.dtype))
        return self.builder.emit(Broadcast(self.shape_with(lengths), ()), zero)


def _stretch(builder: GraphBuilder, value: Value, axis: int, first: int, length: int) -> tuple[Value, int, int]:
    """The `length` elements along an axis from `first` on, and the numbers of zeros before and behind the real ones."""
    extent = value.type.shape[axis]
    assert isinstance(extent, int)
    start, end = max(0, first), min(extent, first + length)
    if end <= start:  # all of it lies outside
        start, end = 0, 0
    value = _cut(builder, value, axis, start, end - start)
    low = min(length, start - first) if end > start else length
    return value, low, length - (end - start) - low


def _cut(builder: GraphBuilder, value: Value, axis: int, start: int, length: int, step: int = 1) -> Value:
    """`length` elements along an axis, `step` apart."""
    shape = value.type.shape
    if shape[axis] == length:
        return value
    starts, steps = [0] * len(shape), [1] * len(shape)
    starts[axis], steps[axis] = start, step
    return builder.emit(Slice(tuple(starts), (*shape[:axis], length, *shape[axis + 1 :]), tuple(steps)), value)
