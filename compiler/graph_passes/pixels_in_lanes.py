"""Convolutions of many channels into few: vectors run along the pixels of a line, not along the few channels.

The last axis of the image moves behind its channels, where the image is copied between zeros anyway. Of the product,
the channels are then rows, and the pixels of a line columns.
"""

from __future__ import annotations

from math import ceil

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value
from compiler.graph_passes.rewrite import Rewriting
from compiler.ops.contraction import Contraction, Labels
from compiler.ops.movement import Broadcast, Pad, Slice, Transpose
from compiler.ops.window import Window
from compiler.support import numerics
from compiler.support.record import record
from compiler.types import BatchExtent, static_elements


def pixels_in_lanes(graph: Graph) -> Graph:
    """windows(pad(x)) @ w -> transpose(w @ windows(pad(transpose(x)))), where many channels become few."""
    if not any(isinstance(node.op, Window) for node in graph.nodes):
        return graph
    rewriting = Rewriting(graph)

    def turned(node: Node) -> Value | None:
        found = _found(rewriting.builder, node, node.op) if isinstance(node.op, Contraction) else None
        return None if found is None else found.product()

    return rewriting.each(turned)


def _found(builder: GraphBuilder, node: Node, op: Contraction) -> _FewChannels | None:
    for windows, has, w, others in (
        (node.operands[0], op.lhs, node.operands[1], op.rhs),
        (node.operands[1], op.rhs, node.operands[0], op.lhs),
    ):
        maker = builder.definition(windows)
        while maker is not None and isinstance(maker.op, Transpose):
            has = tuple(has[maker.op.permutation.index(axis)] for axis in range(len(has)))
            maker = builder.definition(maker.operands[0])
        if maker is None or not isinstance(maker.op, Window):
            continue
        found = _FewChannels(builder, op, maker.operands[0], maker.op, has, w, others)
        return found if found.pays() else None
    return None


@record
class _FewChannels:
    """A product of the windows of an image, with labels `has`, and of weights `w` with labels `others`."""

    builder: GraphBuilder
    op: Contraction
    image: Value
    window: Window
    has: Labels
    w: Value
    others: Labels

    @property
    def line(self) -> int:
        """The axis of the image that vectors shall run along."""
        return self.window.axes[-1]

    @property
    def taps(self) -> Labels:
        return self.has[self.image.type.rank :]

    def pays(self) -> bool:
        places, line = self.has[: self.image.type.rank], self.has[self.line]
        rows = [label for label in self.op.out if label not in self.has]
        summed = {label for label in self.has if label not in self.op.out}
        if {*self.others} != {*rows, *summed} or not {*self.taps} <= summed or line not in self.op.out:
            return False
        extents = dict(zip(self.others, self.w.type.shape, strict=True))
        (windows,) = self.window.result_types((self.image.type,))
        pixels = windows.shape[self.line]
        channels = [extents[label] for label in places if label in summed]
        if self.window.strides[-1] != 1 or not isinstance(pixels, int) or not self.is_padded():
            return False
        if any(isinstance(extent, BatchExtent) for extent in extents.values()):
            return False
        vectors, count = ceil(pixels / numerics.LANES), static_elements(tuple(extents[label] for label in rows))
        fills = vectors * numerics.LANES <= numerics.EVEN * pixels and vectors * count >= numerics.FEWEST_IN_LANES
        return fills and count <= numerics.MOST_CHANNELS and static_elements(tuple(channels)) >= numerics.FEWEST_SUMMED

    def is_padded(self) -> bool:
        """Whether the image is written anew in any case; the channels lie behind its lines."""
        maker = self.builder.definition(self.image)
        while maker is not None and isinstance(maker.op, Slice):
            maker = self.builder.definition(maker.operands[0])
        return maker is not None and isinstance(maker.op, Pad) and self.line < self.image.type.rank - 1

    def product(self) -> Value:
        builder, rank = self.builder, self.image.type.rank
        order = (*(axis for axis in range(rank) if axis != self.line), self.line)
        image = self.turned(self.image, order)
        axes = tuple(order.index(axis) for axis in self.window.axes)
        windows = builder.emit(Window(axes, self.window.sizes, self.window.strides, self.window.dilations), image)
        labels = (*(self.has[axis] for axis in order), *self.taps)
        rows = tuple(label for label in self.op.out if label not in self.has)
        above = tuple(label for label in labels[: rank - 1] if label in self.op.out)
        shape = dict(zip(labels, windows.type.shape, strict=True))
        # Of the sum, the taps are outermost: a line of all channels stays in the first-level cache for those beside it.
        inner = (*self.taps, *rows, *(label for label in self.others if label not in (*self.taps, *rows)))
        w = builder.emit(Transpose(tuple(self.others.index(label) for label in inner)), self.w)
        whole = (*(shape[label] for label in above), *w.type.shape)
        w = builder.emit(Broadcast(whole, tuple(range(len(above), len(whole)))), w)
        out = (*above, *rows, self.has[self.line])
        found = builder.emit(Contraction((*above, *inner), labels, out), w, windows)
        return builder.emit(Transpose(tuple(out.index(label) for label in self.op.out)), found)

    def turned(self, value: Value, order: tuple[int, ...]) -> Value:
        """A padded value with its axes in that order, as it is stored."""
        maker = self.builder.definition(value)
        assert maker is not None
        (inner,) = maker.operands

        def moved(numbers: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(numbers[axis] for axis in order)

        match maker.op:
            case Slice(starts, sizes, steps):
                extents = tuple(sizes[axis] for axis in order)
                return self.builder.emit(Slice(moved(starts), extents, moved(steps)), self.turned(inner, order))
            case Pad(low, high, number):
                turned = self.builder.emit(Transpose(order), inner)
                return self.builder.emit(Pad(moved(low), moved(high), number), turned)
            case _:
                raise AssertionError(maker.op)
