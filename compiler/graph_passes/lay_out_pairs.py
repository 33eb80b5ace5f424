"""Values with the batch on several axes get places of a known number on each of these.

Below, one axis of a value at most depends on the batch, and all else is linear in it. A batch has as many rows as there
are places, or fewer. What stands in places behind its last row is anything, and no reduction takes it. The order in
which reductions take rows is the same for any number of places, so results have the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value
from compiler.graph.op import Category, Op, with_fields
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.ops.build import filled, spread
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Divide, Less, Multiply, Subtract, Where
from compiler.ops.indexing import ScatterAdd
from compiler.ops.movement import Broadcast, Pad, Reshape
from compiler.ops.pairs import FitRows
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments, Sum, element_count
from compiler.ops.rules import other_axes, without_axes
from compiler.ops.scan import Scan
from compiler.ops.sources import Iota
from compiler.ops.spreading import keeps_rows
from compiler.support import numerics
from compiler.support.arrays import np
from compiler.types import (
    BatchExtent,
    DType,
    Extent,
    Shape,
    TensorType,
    at_batch,
    batch_axes,
    batch_axis,
    depends_on_batch,
    is_of_pairs,
    numpy_dtype,
)


def places_for(rows: int) -> int:
    """How many places a batch of so many rows gets."""
    unit = numerics.LANES if rows <= numerics.PAIR_BLOCK else numerics.PAIR_BLOCK
    return max(1, -(-rows // unit)) * unit


def has_pairs(graph: Graph) -> bool:
    """Whether some value, also of a step of a scan, has the batch on several axes."""
    values = [*(entry.value for entry in graph.inputs), *(result for node in graph.nodes for result in node.results)]
    return any(is_of_pairs(value.type.shape) for value in values) or any(
        _inside(node, has_pairs) for node in graph.nodes
    )


def _inside(node: Node, has: Callable[[Graph], bool]) -> bool:
    return isinstance(node.op, Scan) and has(node.op.body)


def lay_out_pairs(graph: Graph, rows: int) -> Graph:
    """The graph for batches of up to `places_for(rows)` rows; as it was where it has no pairs."""
    return _Layout(graph, places_for(rows)).run() if has_pairs(graph) else graph


def most_rows(graph: Graph, rows: int) -> int:
    """How many rows a batch may have, for a graph that was laid out for so many; 0 for one that had no pairs."""
    fits = any(
        isinstance(node.op, FitRows) or _inside(node, lambda body: bool(most_rows(body, rows))) for node in graph.nodes
    )
    return places_for(rows) if fits else 0


class _Layout:
    """A graph under reconstruction. A value with the batch on one axis may be there twice: by rows and by places."""

    def __init__(self, graph: Graph, places: int) -> None:
        self.graph, self.places = graph, places
        self.builder = GraphBuilder(graph.name)
        self.makers = {result.index: node for node in graph.nodes for result in node.results}
        self.by_rows: dict[int, Value] = {}
        self.by_places: dict[int, Value] = {}
        self.is_zero_behind: set[int] = set()  # values by places, which hold zeros behind the last row
        self.not_made: set[int] = set()  # values of the old graph that `made_of_places` has not found

    def run(self) -> Graph:
        for entry in self.graph.inputs:
            is_of_places = is_of_pairs(entry.value.type.shape)
            type_ = self.fixed_type(entry.value.type) if is_of_places else entry.value.type
            known = self.by_places if is_of_places else self.by_rows
            known[entry.value.index] = self.builder.input(entry.name, entry.role, type_)
        for node in self.graph.nodes:
            with self.builder.at(node.origins):
                self.add(node)
        for output in self.graph.outputs:
            self.builder.output(output.name, output.role, self.result(output.value), output.updates)
        return eliminate_dead(self.builder.build())

    def add(self, node: Node) -> None:
        if not any(is_of_pairs(value.type.shape) for value in (*node.operands, *node.results)):
            operands = tuple(map(self.of_rows, node.operands))
            repeated = replace(node, op=self.with_bodies(node.op)) if _inside(node, has_pairs) else node
            results = self.builder.repeat(repeated, operands)
            self.by_rows.update((old.index, new) for old, new in zip(node.results, results, strict=True))
            return
        is_of_places = is_of_pairs if isinstance(node.op, Scan) else depends_on_batch  # whose body keeps single rows
        for old, new in zip(node.results, self.laid_out(node), strict=True):
            known = self.by_places if is_of_places(old.type.shape) else self.by_rows
            known[old.index] = new

    # Values

    def fixed(self, shape: Shape) -> tuple[int, ...]:
        """A shape with the places of a batch."""
        return at_batch(shape, self.places)

    def fixed_type(self, type_: TensorType) -> TensorType:
        return TensorType(type_.dtype, self.fixed(type_.shape))

    def result(self, value: Value) -> Value:
        """By places where the batch is on several axes, or else by rows."""
        return self.by_places[value.index] if is_of_pairs(value.type.shape) else self.of_rows(value)

    def of_rows(self, value: Value) -> Value:
        """A value with the batch on one axis at most, as it is."""
        if value.index not in self.by_rows:
            axis = batch_axis(value.type.shape)
            assert axis is not None
            fit = FitRows(axis, value.type.shape[axis])
            self.by_rows[value.index] = self.builder.emit(fit, self.by_places[value.index])
        return self.by_rows[value.index]

    def of_places(self, value: Value) -> Value:
        """A value by places, or one that has no batch."""
        axis = batch_axis(value.type.shape)
        if axis is None:
            return self.by_rows[value.index]
        found = self.made_of_places(value)
        if found is None:
            (extent,) = self.fixed((value.type.shape[axis],))
            found = self.by_places[value.index] = self.builder.emit(FitRows(axis, extent), self.by_rows[value.index])
            self.is_zero_behind.add(found.index)
        return found

    def made_of_places(self, value: Value) -> Value | None:
        """A value by places that is made of others by places once more, which spares a way over memory."""
        if value.index in self.by_places:
            return self.by_places[value.index]
        node = self.makers.get(value.index)
        if node is None or value.index in self.not_made or not self.is_cheap(node):
            return None
        operands = [
            self.made_of_places(o) if depends_on_batch(o.type.shape) else self.by_rows[o.index] for o in node.operands
        ]
        known = [operand for operand in operands if operand is not None]
        if len(known) < len(operands):
            self.not_made.add(value.index)
            return None
        found = self.by_places[value.index] = self.builder.emit(self.fixed_op(node.op), *known)
        return found

    def is_cheap(self, node: Node) -> bool:
        if isinstance(node.op, Reshape):
            return keeps_rows(node.operands[0].type.shape, node.op.shape)
        return isinstance(node.op, Broadcast | Iota) or node.op.category is Category.ELEMENTWISE

    def fixed_op(self, op: Op) -> Op:
        """An op with the shapes in its fields by places."""
        if isinstance(op, Scan):
            return self.with_bodies(op)

        def changed(value: Any) -> object:
            is_shape = isinstance(value, tuple) and BatchExtent in map(type, value)  # type: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            return self.fixed(value) if is_shape else value  # type: ignore[reportUnknownArgumentType]

        return with_fields(op, changed)

    def with_bodies(self, op: Op) -> Op:
        return with_fields(op, lambda value: _Layout(value, self.places).run() if isinstance(value, Graph) else value)

    # Nodes

    def laid_out(self, node: Node) -> tuple[Value, ...]:
        """The results of a node of pairs, by places where they depend on the batch."""
        match node.op:
            case Scan():
                return self.builder.emit_all(self.fixed_op(node.op), *map(self.result, node.operands))
            case Contraction(lhs, rhs, out):
                return (self.product(node.operands, lhs, rhs, out),)
            case Sum(axes) | Max(axes) | Min(axes):
                (x,) = node.operands
                return (self.reduced(type(node.op), self.of_places(x), x.type.shape, axes),)
            case Moments(axes):
                return self.moments(node.operands[0], axes)
            case ArgMax(axis):
                return (self.builder.emit(node.op, self.masked(Max, node.operands[0], (axis,))),)
            case CumulativeSum(axis, reverse):
                (x,) = node.operands
                ordered = self.masked(Sum, x, (axis,)) if reverse else self.of_places(x)
                return (self.builder.emit(node.op, ordered),)
            case ScatterAdd(axis, _, by_row):
                indices, x = node.operands
                added = range(axis, axis + indices.type.rank - by_row)
                return (self.builder.emit(node.op, self.of_places(indices), self.masked(Sum, x, added)),)
            case _:
                return self.builder.emit_all(self.fixed_op(node.op), *map(self.of_places, node.operands))

    def masked(self, kind: type[Sum | Max | Min], value: Value, axes: Sequence[int]) -> Value:
        """A value by places of which a reduction over `axes` takes the rows alone."""
        found, shape = self.of_places(value), value.type.shape
        for axis in axes:
            if isinstance(shape[axis], BatchExtent):
                found = self.without_rest(kind, found, axis, shape[axis])
        return found

    def without_rest(self, kind: type[Sum | Max | Min], value: Value, axis: int, extent: Extent) -> Value:
        """A value by places, with what a reduction leaves as it is in those behind the last row along `axis`."""
        shape = value.type.shape
        position = self.builder.emit(Iota(shape, axis, DType.I32))
        count = element_count(self.builder, (extent,), (0,), DType.I32)
        is_row = self.builder.emit(Less(), position, spread(self.builder, count, shape))
        neutral = filled(self.builder, _neutral(kind, value.type.dtype), value.type)
        return self.builder.emit(Where(), is_row, value, neutral)

    def reduced(self, kind: type[Sum | Max | Min], value: Value, shape: Shape, axes: Sequence[int]) -> Value:
        """A reduction of a value by places, whose `shape` had the batch: first over what each pair has, then over the
        batch, from the last axis to the first; the last axis of the batch that is left is reduced by rows."""
        inside = tuple(axis for axis in axes if not isinstance(shape[axis], BatchExtent))
        if inside:
            value, shape = self.builder.emit(kind(inside), value), without_axes(shape, inside)
        left = [axis - sum(gone < axis for gone in inside) for axis in axes if axis not in inside]
        for axis in reversed(left):
            if batch_axes(shape) == (axis,):
                rows = self.builder.emit(FitRows(axis, shape[axis]), value)
                return self.builder.emit(kind((axis,)), rows)
            value = self.over_places(kind, self.without_rest(kind, value, axis, shape[axis]), axis)
            shape = without_axes(shape, (axis,))
        return value

    def over_places(self, kind: type[Sum | Max | Min], value: Value, axis: int) -> Value:
        """A reduction over places. A sum along a row of memory is that of the sums of each `PAIR_BLOCK` of them."""
        shape, block = value.type.shape, numerics.PAIR_BLOCK
        length, is_along_row = shape[axis], all(extent == 1 for extent in shape[axis + 1 :])
        assert isinstance(length, int)
        if kind is not Sum or length <= block or not value.type.dtype.is_float or not is_along_row:
            return self.builder.emit(kind((axis,)), value)
        blocks = -(-length // block)
        if blocks * block > length:
            high = tuple(blocks * block - length if place == axis else 0 for place in range(len(shape)))
            value = self.builder.emit(Pad((0,) * len(shape), high, -0.0), value)
        cut = self.builder.emit(Reshape((*shape[:axis], blocks, block, *shape[axis + 1 :])), value)
        return self.builder.emit(Sum((axis,)), self.builder.emit(Sum((axis + 1,)), cut))

    def moments(self, x: Value, axes: Sequence[int]) -> tuple[Value, Value]:
        """The mean, then the mean of squared differences."""
        builder, value, shape = self.builder, self.of_places(x), x.type.shape
        kept = other_axes(len(shape), axes)
        total = self.reduced(Sum, value, shape, axes)
        size = spread(builder, element_count(builder, shape, axes, x.type.dtype), total.type.shape)
        mean = builder.emit(Divide(), total, size)
        difference = builder.emit(Subtract(), value, builder.emit(Broadcast(value.type.shape, kept), mean))
        squares = self.reduced(Sum, builder.emit(Multiply(), difference, difference), shape, axes)
        return mean, builder.emit(Divide(), squares, size)

    def product(self, operands: Sequence[Value], lhs: Sequence[int], rhs: Sequence[int], out: Sequence[int]) -> Value:
        """A product. It is summed over one axis of the batch at most; others follow as sums."""
        extents = {
            label: extent
            for own, operand in zip((lhs, rhs), operands, strict=True)
            for label, extent in zip(own, operand.type.shape, strict=True)
        }
        summed = [label for label in lhs if label not in out]
        of_batch = [label for label in summed if isinstance(extents[label], BatchExtent)]
        is_elementwise = all(label in lhs and label in rhs for label in out if extents[label] != 1)
        if of_batch and is_elementwise:
            every, axes = (*out, *summed), range(len(out), len(out) + len(summed))
        else:
            every, axes = (*of_batch[1:], *out), range(len(of_batch) - 1)
        if axes:
            value = self.product(operands, lhs, rhs, every)
            return self.reduced(Sum, value, tuple(extents[label] for label in every), axes)
        left, right = (self.factor(value, own, of_batch) for value, own in zip(operands, (lhs, rhs), strict=True))
        return self.builder.emit(Contraction(tuple(lhs), tuple(rhs), tuple(out)), left, right)

    def factor(self, value: Value, labels: Sequence[int], summed: Sequence[int]) -> Value:
        """A factor by places that is 0 behind the last row of summed axes."""
        if self.of_places(value).index in self.is_zero_behind:
            return self.of_places(value)
        return self.masked(Sum, value, [axis for axis, label in enumerate(labels) if label in summed])


def _neutral(kind: type[Sum | Max | Min], dtype: DType) -> float:
    """The number that changes no sum (0 would change -0), no maximum or no minimum."""
    if kind is Sum:
        return -0.0 if dtype.is_float else 0
    if dtype.is_float:
        return -math.inf if kind is Max else math.inf
    limits = np.iinfo(numpy_dtype(dtype).name)
    return int(limits.min if kind is Max else limits.max)
