"""Lays out images with their channels last: transposes at the edges, and every op between them on turned axes.

The channels of a value are a run of neighbouring axes, which move behind all others. Runs start where a contraction
reads windows, and spread through every op that keeps the axes of a run together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field
from functools import cache
from typing import TypeAlias

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value
from compiler.graph.op import Category, Op
from compiler.graph_passes.axis_groups import Groups, axis_groups, turned
from compiler.ops.contraction import Contraction
from compiler.ops.movement import Broadcast, Reshape, Transpose
from compiler.ops.reduction import ArgMax, Max, Min, Moments, Sum
from compiler.ops.window import Fold, Window
from compiler.support.record import mutable_record

Run: TypeAlias = tuple[int, ...]  # neighbouring axes, in order
Layout: TypeAlias = tuple[int, ...]  # for each axis of the value as it is laid out, the axis of the type


def channels_last(graph: Graph) -> Graph:
    """The same graph, with the channels of images behind their other axes. Without convolutions, nothing changes."""
    runs = _Spreading(graph).runs()
    return _Turning(GraphBuilder(graph.name), runs).run(graph) if runs else graph


class _Spreading:
    """Finds which axes of each value are channels."""

    def __init__(self, graph: Graph) -> None:
        self._nodes = graph.nodes
        self._makers = {result.index: node for node in graph.nodes for result in node.results}
        self._users: dict[int, list[Node]] = {}
        for node in graph.nodes:
            for operand in node.operands:
                self._users.setdefault(operand.index, []).append(node)
        self._runs: dict[int, Run] = {}
        self._waiting: list[Value] = []

    def runs(self) -> dict[int, Run]:
        for node in self._nodes:
            if isinstance(node.op, Contraction):
                self._start(node.op, node.operands)
        while self._waiting:
            value = self._waiting.pop()
            if (maker := self._makers.get(value.index)) is not None:
                self._spread(maker)
            for user in self._users.get(value.index, ()):
                self._spread(user)
        return {index: run for index, run in self._runs.items() if index in self._makers}

    def _start(self, op: Contraction, operands: Sequence[Value]) -> None:
        """The channels of windows are the axes that the other operand has too, besides the taps."""
        for value, labels, others in ((operands[0], op.lhs, op.rhs), (operands[1], op.rhs, op.lhs)):
            maker = self._makers.get(value.index)
            if maker is None or not isinstance(maker.op, Window) or labels[0] not in op.out:
                continue
            (image,) = maker.operands
            axes = [axis for axis in range(1, image.type.rank) if axis not in maker.op.axes and labels[axis] in others]
            self._mark(image, tuple(axes))

    def _mark(self, value: Value, run: Run) -> None:
        is_run = bool(run) and run == tuple(range(run[0], run[0] + len(run))) and run[0] > 0
        if is_run and value.index not in self._runs:
            self._runs[value.index] = run
            self._waiting.append(value)

    def _spread(self, node: Node) -> None:
        """From the operands to the result and back."""
        result = node.results[0]
        for number, operand in enumerate(node.operands):
            for source, target, place in ((operand, result, 0), (result, operand, 1)):
                run = self._runs.get(source.index)
                if run is None or target.index in self._runs:
                    continue
                if isinstance(node.op, Contraction):
                    labels = (node.op.lhs, node.op.rhs)[number]
                    ends = (labels, node.op.out)[:: 1 - 2 * place]
                    self._mark(target, _through_product(run, *ends) if labels[0] in node.op.out else ())
                elif node.op.category is Category.ELEMENTWISE:
                    self._mark(target, run if operand.type.shape == result.type.shape else ())
                elif (groups := axis_groups(node, number)) is not None:
                    self._mark(target, _through(run, groups, place))
            if len(node.results) > 1 and result.index in self._runs:
                for other in node.results[1:]:
                    self._mark(other, self._runs[result.index])


def _through(run: Run, groups: Groups, place: int) -> Run:
    """The axes on the other side of groups that the run fills."""
    found: list[int] = []
    for group in groups:
        here, there = group[place], group[1 - place]
        if set(here) & set(run):
            if not set(here) <= set(run) or not there:
                return ()
            found.extend(there)
    return tuple(sorted(found))


def _through_product(run: Run, source: Sequence[int], target: Sequence[int]) -> Run:
    """The channels of a product are those of its operand that stay, and the labels that the operand lacks."""
    kept = {source[axis] for axis in run}
    return tuple(axis for axis, label in enumerate(target) if label in kept or label not in source)


@cache
def _last(run: Run, rank: int) -> Layout:
    return (*(axis for axis in range(rank) if axis not in run), *run)


def _plain(value: Value) -> Layout:
    return _last((), len(value.type.shape))


@mutable_record
class _Turning:
    """Copies a graph; `laid` says for each value of the old one what stands for it, and in which order of axes."""

    builder: GraphBuilder
    runs: dict[int, Run]
    laid: dict[int, tuple[Value, Layout]] = field(default_factory=dict[int, tuple[Value, Layout]])
    views: dict[tuple[int, Layout], Value] = field(default_factory=dict[tuple[int, Layout], Value])

    def run(self, graph: Graph) -> Graph:
        for entry in graph.inputs:
            value = self.builder.input(entry.name, entry.role, entry.value.type)
            self.laid[entry.value.index] = value, _plain(value)
        for node in graph.nodes:
            self.builder.origins = node.origins
            for old, new in zip(node.results, self.rebuilt(node), strict=True):
                self.laid[old.index] = new
        self.builder.origins = ()
        for output in graph.outputs:
            value = self.get(output.value, _plain(output.value))
            self.builder.output(output.name, output.role, value, output.updates)
        return self.builder.build()

    def wanted(self, value: Value) -> Layout:
        return _last(self.runs.get(value.index, ()), len(value.type.shape))

    def get(self, value: Value, order: Layout) -> Value:
        """A value of the old graph with its axes in that order."""
        new, present = self.laid[value.index]
        if present == order:
            return new
        key = (value.index, order)
        if key not in self.views:
            self.views[key] = self.builder.emit(Transpose(tuple(present.index(axis) for axis in order)), new)
        return self.views[key]

    def rebuilt(self, node: Node) -> Iterable[tuple[Value, Layout]]:
        op = node.op
        match op:
            case Contraction():
                return self.product(node, op)
            case Window() | Fold():
                return self.windows(node, op)
            case Sum() | Max() | Min() | Moments() | ArgMax():
                return self.reduced(node, op)
            case _:
                pass
        result = node.results[0]
        order = self.wanted(result)
        is_turned = order != _plain(result) or any([self.laid[o.index][1] != _plain(o) for o in node.operands])
        return [self.moved(node, order)] if is_turned and len(node.results) == 1 else self.kept(node)

    def kept(self, node: Node) -> list[tuple[Value, Layout]]:
        """An op on operands whose axes are in their own order."""
        operands = tuple([self.get(o, _plain(o)) for o in node.operands])
        return [(value, _plain(value)) for value in self.builder.repeat(node, operands)]

    def moved(self, node: Node, order: Layout) -> tuple[Value, Layout]:
        """An op that keeps or moves axes, done on operands as they are laid out."""
        op, (result,) = node.op, node.results
        shape = tuple(result.type.shape[axis] for axis in order)
        match op:
            case Broadcast(axes=axes):
                (operand,) = node.operands
                places = tuple(sorted(range(len(axes)), key=lambda k: order.index(axes[k])))
                turned_axes = tuple(order.index(axes[k]) for k in places)
                return self.builder.emit(Broadcast(shape, turned_axes), self.get(operand, places)), order
            case Reshape() if self.keeps_channels(node):
                (operand,) = node.operands
                return self.builder.emit(Reshape(shape), self.get(operand, self.wanted(operand))), order
            case Transpose(permutation=permutation):
                (operand,) = node.operands
                new, present = self.laid[operand.index]
                return new, tuple(permutation.index(axis) for axis in present)
            case _:
                pass
        changed = turned(op, order) if all(o.type.shape == result.type.shape for o in node.operands) else None
        if changed is None:
            changed = turned(op, order) if op.category is Category.MOVEMENT and not isinstance(op, Reshape) else None
        if changed is None:
            return self.kept(node)[0]
        return self.builder.emit(changed, *[self.get(o, order) for o in node.operands]), order

    def keeps_channels(self, node: Node) -> bool:
        """Whether a reshape has the channels of its operand as those of its result."""
        run, groups = self.runs.get(node.operands[0].index), axis_groups(node, 0)
        return bool(run) and groups is not None and _through(run, groups, 0) == self.runs.get(node.results[0].index)

    def product(self, node: Node, op: Contraction) -> Iterable[tuple[Value, Layout]]:
        """Labels stand for any order of axes."""
        order = self.wanted(node.results[0])
        values: list[Value] = []
        sides: list[tuple[int, ...]] = []
        for operand, labels in zip(node.operands, (op.lhs, op.rhs), strict=True):
            wanted = self.wanted(operand)
            values.append(self.get(operand, wanted))
            sides.append(tuple(labels[axis] for axis in wanted))
        changed = Contraction(sides[0], sides[1], tuple(op.out[axis] for axis in order))
        yield self.builder.emit(changed, *values), order

    def windows(self, node: Node, op: Window | Fold) -> Iterable[tuple[Value, Layout]]:
        """The taps stay at the end; where channels should follow them, a transpose says so."""
        (operand,) = node.operands
        rank = min(operand.type.rank, node.results[0].type.rank)
        order = _last(self.runs.get((operand if isinstance(op, Window) else node.results[0]).index, ()), rank)
        # Channels of one view of a tensor may be an axis that windows slide over in another.
        places = sorted(range(len(op.axes)), key=lambda place: order.index(op.axes[place]))
        axes = tuple(order.index(op.axes[place]) for place in places)
        taps = tuple(rank + place for place in places)
        sizes, strides, dilations = (tuple(n[p] for p in places) for n in (op.sizes, op.strides, op.dilations))
        if isinstance(op, Window):
            changed: Op = Window(axes, sizes, strides, dilations)
            yield self.builder.emit(changed, self.get(operand, order)), (*order, *taps)
        else:
            changed = Fold(axes, sizes, strides, dilations, tuple(op.extents[place] for place in places))
            yield self.builder.emit(changed, self.get(operand, (*order, *taps))), order

    def reduced(self, node: Node, op: Sum | Max | Min | Moments | ArgMax) -> Iterable[tuple[Value, Layout]]:
        """The remaining axes keep the order of the operand."""
        (operand,) = node.operands
        order = self.wanted(operand)
        gone = (op.axis,) if isinstance(op, ArgMax) else op.axes
        axes = tuple(sorted(order.index(axis) for axis in gone))
        changed = ArgMax(*axes) if isinstance(op, ArgMax) else type(op)(axes)
        kept = [axis for axis in range(operand.type.rank) if axis not in gone]
        left = tuple(kept.index(axis) for axis in order if axis in kept)
        return ((value, left) for value in self.builder.emit_all(changed, self.get(operand, order)))
