"""Finds the mean and the variance of one tensor and computes them together, as `moments`."""

from __future__ import annotations

import math
from typing import TypeAlias

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value
from compiler.graph_passes.rewrite import Rewriting
from compiler.ops.build import constant_of
from compiler.ops.elementwise import Cast, Divide, Multiply, Subtract
from compiler.ops.movement import Broadcast
from compiler.ops.reduction import Moments, Sum
from compiler.ops.rules import other_axes
from compiler.ops.sources import BatchSize
from compiler.types import BatchExtent, Extent, elements

_Reduced: TypeAlias = tuple[Value, tuple[int, ...]]


def form_moments(graph: Graph) -> Graph:
    """Where the variance of x over some axes is needed, so is the mean: both come from one `moments`.

    The variance is a `moments` already, or mean((x - mean(x)) ^ 2).
    """
    found = _Search(graph).found
    wanted = {_key(reduced) for reduced, results in found.values() if 1 in results}
    if not wanted:
        return graph
    rewriting = Rewriting(graph)
    formed: dict[tuple[int, tuple[int, ...]], tuple[Value, ...]] = {}
    for node in map(rewriting.current, graph.nodes):
        entry = found.get(node.results[0].index)
        if entry is None or _key(entry[0]) not in wanted:
            rewriting.keep(node)
            continue
        (x, axes), results = entry
        key = _key(entry[0])
        if key not in formed:
            formed[key] = rewriting.builder.emit_all(Moments(axes), rewriting.now(x))
        rewriting.replace(node, [formed[key][result] for result in results])
    return rewriting.finish()


def _key(reduced: _Reduced) -> tuple[int, tuple[int, ...]]:
    return reduced[0].index, reduced[1]


class _Search:
    """`found`: for each node that gives a mean or a variance (by its first result), of what over which axes, and
    which results of `moments` stand for its own: (0,) for a mean, (1,) for a variance."""

    def __init__(self, graph: Graph) -> None:
        self._known = GraphBuilder.continuing(graph)
        self._means: dict[int, _Reduced] = {}
        self.found: dict[int, tuple[_Reduced, tuple[int, ...]]] = {}
        for node in graph.nodes:
            self._known.append(node)
            self._look_at(node)

    def _look_at(self, node: Node) -> None:
        first = node.results[0].index
        if isinstance(node.op, Moments):
            self._means[first] = reduced = (node.operands[0], node.op.axes)
            self.found[first] = (reduced, (0, 1))
            return
        if not isinstance(node.op, (Divide, Multiply)) or (total := self._average(node)) is None:
            return
        assert isinstance(total.op, Sum)
        (x,), axes = total.operands, total.op.axes
        difference = self._square_of(x)
        origin = None if difference is None else self._distance_from_mean(difference, axes)
        if origin is not None:
            self.found[first] = ((origin, axes), (1,))
        else:
            self._means[first] = (x, axes)
            self.found[first] = ((x, axes), (0,))

    def _average(self, node: Node) -> Node | None:
        """The sum that `node` divides by its number of elements."""
        total = self._known.definition(node.operands[0])
        if total is None or not isinstance(total.op, Sum):
            return None
        shape = total.operands[0].type.shape
        count = elements(tuple(shape[axis] for axis in total.op.axes))
        factor = node.operands[1]
        matches = self._is_count(factor, count) if isinstance(node.op, Divide) else self._is_reciprocal(factor, count)
        return total if matches else None

    def _is_count(self, value: Value, count: Extent) -> bool:
        if isinstance(count, int):
            return constant_of(self._known, value) == count
        node = self._unspread(value)
        if node is not None and isinstance(node.op, Multiply):
            batch, factor = node.operands
            return constant_of(self._known, factor) == count.multiple and self._is_count(batch, BatchExtent())
        if node is None or not isinstance(node.op, Cast) or count.multiple != 1:
            return False
        source = self._known.definition(node.operands[0])
        return source is not None and isinstance(source.op, BatchSize)

    def _is_reciprocal(self, value: Value, count: Extent) -> bool:
        number = constant_of(self._known, value)
        if number is not None:
            return isinstance(count, int) and math.isclose(number * count, 1, rel_tol=1e-6)
        node = self._unspread(value)
        if node is None or not isinstance(node.op, Divide):
            return False
        return constant_of(self._known, node.operands[0]) == 1 and self._is_count(node.operands[1], count)

    def _unspread(self, value: Value) -> Node | None:
        """The node that gives `value`, behind broadcasts."""
        node = self._known.definition(value)
        while node is not None and isinstance(node.op, Broadcast):
            node = self._known.definition(node.operands[0])
        return node

    def _square_of(self, value: Value) -> Node | None:
        """The difference whose square `value` is."""
        node = self._known.definition(value)
        if node is None or not isinstance(node.op, Multiply) or node.operands[0].index != node.operands[1].index:
            return None
        inner = self._known.definition(node.operands[0])
        return inner if inner is not None and isinstance(inner.op, Subtract) else None

    def _distance_from_mean(self, difference: Node, axes: tuple[int, ...]) -> Value | None:
        """x, where `difference` is x - mean(x) over `axes` (or the other way round)."""
        for x, other in (difference.operands, difference.operands[::-1]):
            spread = self._known.definition(other)
            if spread is None or not isinstance(spread.op, Broadcast):
                continue
            found = self._means.get(spread.operands[0].index)
            if found is not None and _key(found) == (x.index, axes) and spread.op.axes == other_axes(x.type.rank, axes):
                return x
        return None
