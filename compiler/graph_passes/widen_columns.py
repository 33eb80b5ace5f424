"""Convolutions with few channels compute several neighbouring pixels in one vector.

With f channels in the result, q pixels along the last axis of the image become q * f columns: windows are q - 1 taps
wider and q apart, and the weights stand q times side by side, each time one tap further, with zeros around them. The
gradient of the weights is found in the same way, from the wider product.
"""

from __future__ import annotations

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value
from compiler.graph_passes.rewrite import Rewriting
from compiler.ops.contraction import Contraction, Labels
from compiler.ops.elementwise import Add
from compiler.ops.movement import Concat, Pad, Reshape, Slice, Transpose
from compiler.ops.window import Window
from compiler.support.numerics import LANES
from compiler.support.record import record


def widen_columns(graph: Graph) -> Graph:
    """x @ w -> reshape(wider windows of x @ shifted w), and so for the gradient of w, where few columns result."""
    if not any(isinstance(node.op, Window) for node in graph.nodes):
        return graph
    rewriting = Rewriting(graph)

    def wider(node: Node) -> Value | None:
        found = _found(rewriting.builder, node, node.op) if isinstance(node.op, Contraction) else None
        if found is None:
            return None
        value = found.product() if found.place in found.op.out else found.weight_gradient()
        return value if value.type == node.results[0].type else None

    return rewriting.each(wider)


def _found(builder: GraphBuilder, node: Node, op: Contraction) -> _Narrow | None:
    """The product of windows, on the left, with few columns."""
    labels: list[int | None] = [*op.lhs]
    views: list[Node] = []
    maker = builder.definition(node.operands[0])
    while maker is not None and isinstance(maker.op, (Transpose, Reshape)):
        inner = _labels_inside(maker, labels)
        if inner is None:
            return None
        labels = inner
        views.append(maker)
        maker = builder.definition(maker.operands[0])
    if maker is None or not isinstance(maker.op, Window):
        return None
    window = maker.op
    place, tap = labels[window.axes[-1]], labels[-1]
    columns = [label for label in op.out if label not in op.lhs]
    shared = {*op.lhs} & {*op.rhs} & {*op.out}
    if len(columns) != 1 or op.out[-1] != columns[0] or shared or (window.strides[-1], window.dilations[-1]) != (1, 1):
        return None
    pixels = maker.results[0].type.shape[window.axes[-1]]
    width = node.results[0].type.shape[-1]
    if not isinstance(pixels, int) or not isinstance(width, int) or window.sizes[-1] == 1:
        return None
    times = max(q for q in range(1, LANES // width + 1 if width <= LANES else 2) if pixels % q == 0)
    if times == 1 or place is None or tap is None:
        return None
    if place in op.out and (tap in op.out or tap not in op.rhs or op.out[-2] != place):
        return None
    if place not in op.out and (place not in op.rhs or tap not in op.out):
        return None
    return _Narrow(builder, op, node.operands[1], maker.operands[0], window, tuple(views), times, place, tap)


def _labels_inside(view: Node, labels: list[int | None]) -> list[int | None] | None:
    """The labels of a view's axes; None stands for an axis of extent 1 that a reshape drops."""
    shape = view.operands[0].type.shape
    if isinstance(view.op, Transpose):
        return [labels[view.op.permutation.index(axis)] for axis in range(len(shape))]
    if tuple(extent for extent in shape if extent != 1) != view.results[0].type.shape:
        return None
    rest = iter(labels)
    return [None if extent == 1 else next(rest) for extent in shape]


@record
class _Narrow:
    """`views` lead from the windows of `image` to the operand, the last first.

    `place` is the pixel along the last axis, `tap` its tap.
    """

    builder: GraphBuilder
    op: Contraction
    other: Value
    image: Value
    window: Window
    views: tuple[Node, ...]
    times: int
    place: int
    tap: int

    @property
    def fresh(self) -> int:
        return 1 + max(*self.op.lhs, *self.op.rhs)

    @property
    def column(self) -> int:
        return self.op.out[-1]

    def wider(self) -> tuple[Value, Labels]:
        """The windows, in the order of the labels of the product."""
        window, more = self.window, self.times - 1
        sizes, strides = window.sizes, window.strides
        wide = Window(window.axes, (*sizes[:-1], sizes[-1] + more), (*strides[:-1], self.times), window.dilations)
        value = self.builder.emit(wide, self.image)
        for view in reversed(self.views):
            if isinstance(view.op, Transpose):
                value = self.builder.emit(view.op, value)
            else:
                kept = [axis for axis, extent in enumerate(view.operands[0].type.shape) if extent != 1]
                value = self.builder.emit(Reshape(tuple(value.type.shape[axis] for axis in kept)), value)
        return value, self.op.lhs

    def product(self) -> Value:
        builder, labels = self.builder, self.op.rhs
        shape, axis, tap = self.other.type.shape, labels.index(self.column), labels.index(self.tap)
        shifted: list[Value] = []
        for pixel in range(self.times):
            low = tuple(pixel if k == tap else 0 for k in range(len(shape)))
            high = tuple(self.times - 1 - pixel if k == tap else 0 for k in range(len(shape)))
            moved = builder.emit(Pad(low, high, 0.0), self.other)
            whole = moved.type.shape
            shifted.append(builder.emit(Reshape((*whole[:axis], 1, *whole[axis:])), moved))
        weights = builder.emit(Concat(axis), *shifted)
        windows, lhs = self.wider()
        out = (*self.op.out[:-1], self.fresh, self.column)
        found = builder.emit(Contraction(lhs, (*labels[:axis], self.fresh, *labels[axis:]), out), windows, weights)
        *outer, pixels, times, columns = found.type.shape
        assert isinstance(pixels, int)
        assert isinstance(times, int)
        return builder.emit(Reshape((*outer, pixels * times, columns)), found)

    def weight_gradient(self) -> Value:
        builder, labels = self.builder, self.op.rhs
        shape, axis = self.other.type.shape, labels.index(self.place)
        pixels = shape[axis]
        assert isinstance(pixels, int)
        apart = builder.emit(Reshape((*shape[:axis], pixels // self.times, self.times, *shape[axis + 1 :])), self.other)
        windows, lhs = self.wider()
        out = (*self.op.out[:-1], self.fresh, self.column)
        rhs = (*labels[: axis + 1], self.fresh, *labels[axis + 1 :])
        found = builder.emit(Contraction(lhs, rhs, out), windows, apart)
        rank, tap = found.type.rank, out.index(self.tap)
        total: Value | None = None
        for pixel in range(self.times):
            starts = tuple(pixel if k in (tap, rank - 2) else 0 for k in range(rank))
            sizes = tuple(
                1 if k == rank - 2 else self.window.sizes[-1] if k == tap else extent
                for k, extent in enumerate(found.type.shape)
            )
            part = builder.emit(Slice(starts, sizes, (1,) * rank), found)
            part = builder.emit(Reshape((*part.type.shape[:-2], part.type.shape[-1])), part)
            total = part if total is None else builder.emit(Add(), total, part)
        assert total is not None
        return total
