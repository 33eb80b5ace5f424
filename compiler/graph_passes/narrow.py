"""Narrows values to the part that is read along an axis: a slice of a result becomes slices of its operands.

A Vision Transformer reads the first token of its last block alone: the queries, products and norms of all other tokens
there are work for nothing. Each element that is left is computed as before, so its bits stay.
"""

from __future__ import annotations

from typing import TypeAlias

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphOutput, Node, Value
from compiler.graph.op import Category, Op
from compiler.ops.contraction import Contraction
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import Max, Min, Sum
from compiler.ops.rules import other_axes
from compiler.ops.window import Window
from compiler.types import Shape, size_of

ReadRanges: TypeAlias = "tuple[range | None, ...]"  # by axis: the places that are read; None for all of them

LARGEST_PART = 2  # the part of an axis, one half, beyond which what is left out does not pay for another layout


def narrow(graph: Graph) -> Graph:
    """The graph with every result as wide as it is read; nodes that nothing reads are gone."""
    if not any(isinstance(node.op, Slice) for node in graph.nodes):
        return graph
    reaches = _Reaches(graph)
    if not reaches.narrowed:
        return graph
    return _Narrowing(graph, reaches).run()


class _Reaches:
    """The elements of each value that are read. `narrowed`: the results that become narrower."""

    def __init__(self, graph: Graph) -> None:
        self._read: dict[int, ReadRanges] = {}
        self.narrowed: set[int] = set()
        windows = _made_of_windows(graph)
        for output in graph.outputs:
            self._add(output.value, _all_of(output.value))
        for node in reversed(graph.nodes):
            if not any(result.index in self._read for result in node.results):
                continue
            reach = self._of_results(node)
            operands = None if any(o.index in windows for o in node.operands) else operands_read(node, reach)
            if operands is None:
                reach = _all_of(node.results[0])
                operands = tuple(_all_of(operand) for operand in node.operands)
            for result in node.results:
                self._read[result.index] = reach if len(node.results) == 1 else _all_of(result)
            if any(part is not None for part in reach) and not isinstance(node.op, Slice):
                self.narrowed.add(node.results[0].index)
            for operand, part in zip(node.operands, operands, strict=True):
                self._add(operand, part)

    def of(self, value: Value) -> ReadRanges | None:
        """The ranges of a value that are read; None where nothing is."""
        return self._read.get(value.index)

    def _of_results(self, node: Node) -> ReadRanges:
        """The ranges of the single result that are read, along axes of which they are little."""
        (result, *others) = node.results
        read = self._read.get(result.index)
        if others or read is None:
            return _all_of(result)
        return tuple(
            part if part and isinstance(extent, int) and len(part) * LARGEST_PART <= extent else None
            for part, extent in zip(read, result.type.shape, strict=True)
        )

    def _add(self, value: Value, part: ReadRanges) -> None:
        known = self._read.get(value.index)
        if known is None:
            self._read[value.index] = part
        else:
            self._read[value.index] = tuple(a if a == b else None for a, b in zip(known, part, strict=True))


class _Narrowing:
    """The graph anew, with narrower results."""

    def __init__(self, graph: Graph, reaches: _Reaches) -> None:
        self._graph, self._reaches = graph, reaches
        self._builder = GraphBuilder.continuing(graph)
        self._made: dict[int, tuple[Value, ReadRanges]] = {}  # the value in its place, and the ranges that it has

    def run(self) -> Graph:
        for node in self._graph.nodes:
            if any(self._reaches.of(result) is not None for result in node.results):
                self._builder.origins = node.origins
                self._copy(node)
        outputs = [
            GraphOutput(o.name, o.role, self._read(o.value, _all_of(o.value)), o.updates) for o in self._graph.outputs
        ]
        return Graph(self._graph.name, self._graph.inputs, tuple(self._builder.nodes), tuple(outputs))

    def _copy(self, node: Node) -> None:
        result = node.results[0]
        reach = self._reaches.of(result) or _all_of(result)
        is_slice, is_narrow = isinstance(node.op, Slice), result.index in self._reaches.narrowed
        parts = operands_read(node, reach) if is_slice or is_narrow else None
        if parts is None:
            parts = tuple(_all_of(operand) for operand in node.operands)
        operands = tuple(self._read(operand, part) for operand, part in zip(node.operands, parts, strict=True))
        if is_slice:
            self._made[result.index] = operands[0], reach
        elif is_narrow:
            op = narrowed(node.op, _shape(result.type.shape, reach))
            self._made[result.index] = self._builder.emit(op, *operands), reach
        else:
            self._builder.append(Node(node.op, operands, node.results, node.origins))

    def _read(self, value: Value, part: ReadRanges) -> Value:
        """A part of a value of the old graph."""
        made, known = self._made.get(value.index, (value, _all_of(value)))
        left = tuple(None if has is not None else wanted for has, wanted in zip(known, part, strict=True))
        assert all(has is None or has == wanted for has, wanted in zip(known, part, strict=True))
        if not any(wanted is not None for wanted in left):
            return made
        starts = tuple(0 if wanted is None else wanted.start for wanted in left)
        steps = tuple(1 if wanted is None or len(wanted) < 2 else wanted.step for wanted in left)
        return self._builder.emit(Slice(starts, _shape(made.type.shape, left), steps), made)


def operands_read(node: Node, reach: ReadRanges) -> tuple[ReadRanges, ...] | None:
    """The ranges of the operands for a part of the single result; None where the node needs all."""
    op, operands = node.op, node.operands
    if isinstance(op, Slice):
        return (tuple(map(_in_slice, op.starts, op.sizes, op.steps, operands[0].type.shape, reach)),)
    if not any(part is not None for part in reach):
        return tuple(_all_of(operand) for operand in operands)
    match op:
        case Broadcast():
            kept = zip(op.axes, operands[0].type.shape, strict=True)
            return (tuple(reach[axis] if extent == op.shape[axis] else None for axis, extent in kept),)
        case Transpose():
            return (tuple(reach[op.permutation.index(axis)] for axis in range(len(reach))),)
        case Contraction():
            by_label = dict(zip(op.out, reach, strict=True))
            return tuple(tuple(map(by_label.get, labels)) for labels in (op.lhs, op.rhs))
        case Sum() | Max() | Min():
            kept = other_axes(operands[0].type.rank, op.axes)
            by_axis = dict(zip(kept, reach, strict=True))
            return (tuple(map(by_axis.get, range(operands[0].type.rank))),)
        case Concat():
            return None if reach[op.axis] is not None else (reach,) * len(operands)
        case Pad():
            widths = zip(op.low, op.high, reach, strict=True)
            return None if any(part is not None and low + high for low, high, part in widths) else (reach,)
        case Reverse():
            return None if any(reach[axis] is not None for axis in op.axes) else (reach,)
        case Reshape():
            return _before_reshape(operands[0].type.shape, op.shape, reach)
        case _ if op.category is Category.ELEMENTWISE:
            return (reach,) * len(operands)
        case _:
            return None


def narrowed(op: Op, shape: Shape) -> Op:
    """The op that gives a result of `shape`, from narrower operands."""
    if isinstance(op, Broadcast):
        return Broadcast(shape, op.axes)
    return Reshape(shape) if isinstance(op, Reshape) else op


def _in_slice(start: int, size: object, step: int, extent: object, part: range | None) -> range | None:
    """The places of an axis that a part of a slice along it comes from."""
    if not isinstance(size, int) or (part is None and size == extent):
        return None
    places = range(start, start + size * step, step)
    return places if part is None else places[part.start : part.stop : part.step]


def _before_reshape(before: Shape, after: Shape, reach: ReadRanges) -> tuple[ReadRanges, ...] | None:
    """The ranges that a reshape reads; None where an axis that is read in part is not one of its operand too."""
    found: list[range | None] = [None] * len(before)
    first = 0
    for axis, part in enumerate(reach):
        if part is None:
            continue
        # the same axis has the same elements on both sides of it
        places = [
            k
            for k in range(first, len(before))
            if before[k] == after[axis]
            and _same(before[:k], after[:axis])
            and _same(before[k + 1 :], after[axis + 1 :])
        ]
        if not places:
            return None
        found[places[0]] = part
        first = places[0] + 1
    return (tuple(found),)


def _same(before: Shape, after: Shape) -> bool:
    return size_of(before) == size_of(after)


def _all_of(value: Value) -> ReadRanges:
    return (None,) * value.type.rank


def _shape(shape: Shape, reach: ReadRanges) -> Shape:
    return tuple(extent if part is None else len(part) for extent, part in zip(shape, reach, strict=True))


def _made_of_windows(graph: Graph) -> set[int]:
    """Windows, and what only moves their elements: a convolution is known by them, and stays whole."""
    found: set[int] = set()
    for node in graph.nodes:
        moves = node.op.category is Category.MOVEMENT and any(o.index in found for o in node.operands)
        if moves or isinstance(node.op, Window):
            found.update(result.index for result in node.results)
    return found
