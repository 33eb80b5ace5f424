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
from compiler.record import record
from compiler.types import Extent, Shape


def fold_products(graph: Graph) -> Graph:
    """fold(y @ w), where w has the taps, becomes windows of y @ the taps of w in reverse; so does a part of a fold."""
    if not any(isinstance(node.op, Fold) for node in graph.nodes):
        return graph
    rewriting = Rewriting(graph)
    folded: dict[int, _FoldedProduct] = {}
    for node in map(rewriting.current, graph.nodes):
        value = None
        if isinstance(node.op, Fold) and (found := _found(rewriting.builder, node, node.op)) is not None:
            value = found.part((0,) * len(node.op.axes), node.op.extents)
            folded[value.index] = found
        elif isinstance(node.op, Slice) and (whole := folded.get(node.operands[0].index)) is not None:
            value = whole.sliced(node.op)
        if value is None:
            rewriting.keep(node)
        else:
            rewriting.replace(node, (value,))
    return rewriting.finish()


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
class _FoldedProduct:
    """`places` are those of y with its labels, `w` has the taps; `out` are the labels of what is folded."""

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
        classes = [self.residue(offsets, starts, sizes) for offsets in product(*(range(s) for s in strides))]
        return interleaved(self.builder, classes, self.op.axes, strides, self.shape_with(sizes))

    def residue(self, offsets: Sequence[int], starts: Sequence[int], sizes: Sequence[int]) -> Value:
        """The elements `starts + offsets + j * strides`, for j up to sizes / strides, rounded up."""
        builder, y, w = self.builder, self.y, self.w
        count = len(offsets)
        dilations: list[int] = []
        taps: list[int] = []
        lengths: list[int] = []
        low, high = [0] * y.type.rank, [0] * y.type.rank
        for k, (offset, start, size) in enumerate(zip(offsets, starts, sizes, strict=True)):
            stride, dilation = self.op.strides[k], self.op.dilations[k]
            length = -(-size // stride)
            met = [t for t in range(self.op.sizes[k]) if (start + offset - t * dilation) % stride == 0]
            lengths.append(length)
            taps.append(len(met))
            dilations.append(dilation // gcd(stride, dilation))
            if not met:
                continue
            lowest = (start + offset - met[-1] * dilation) // stride
            label = self.out[self.op.axes[k]]
            axis = self.y_labels.index(label)
            y, low[axis], high[axis] = _stretch(builder, y, axis, lowest, length + (len(met) - 1) * dilations[-1])
            w = _every(builder, w, self.w_labels.index(self.out[len(self.out) - count + k]), met)
        if not all(taps):
            return self.zeros(lengths)
        y = builder.emit(Pad(tuple(low), tuple(high), 0.0), y) if any(low) or any(high) else y
        labels = self.out[len(self.out) - count :]
        axes = {self.y_labels.index(self.out[axis]): k for k, axis in enumerate(self.op.axes)}
        order = [axes[axis] for axis in sorted(axes)]
        window = Window(
            tuple(sorted(axes)), tuple(taps[k] for k in order), (1,) * count, tuple(dilations[k] for k in order)
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
    """What there is of `length` elements along an axis from `first` on, and how many zeros go before and behind it."""
    rank, extent = value.type.rank, value.type.shape[axis]
    assert isinstance(extent, int)
    start, end = max(0, first), min(extent, first + length)
    if end <= start:  # all of it lies outside
        start, end = 0, 0

    def along(number: int) -> tuple[int, ...]:
        return tuple(number if k == axis else 0 for k in range(rank))

    if (start, end) != (0, extent):
        sizes = tuple(end - start if k == axis else e for k, e in enumerate(value.type.shape))
        value = builder.emit(Slice(along(start), sizes, (1,) * rank), value)
    low = min(length, start - first) if end > start else length
    return value, low, length - (end - start) - low


def _every(builder: GraphBuilder, value: Value, axis: int, kept: Sequence[int]) -> Value:
    """The elements `kept` along an axis, which are equally far apart."""
    rank = value.type.rank
    step = kept[1] - kept[0] if len(kept) > 1 else 1
    if len(kept) == value.type.shape[axis]:
        return value
    starts = tuple(kept[0] if k == axis else 0 for k in range(rank))
    sizes = tuple(len(kept) if k == axis else e for k, e in enumerate(value.type.shape))
    return builder.emit(Slice(starts, sizes, tuple(step if k == axis else 1 for k in range(rank))), value)
