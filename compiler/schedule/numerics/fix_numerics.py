"""Gives every reduction and contraction its order: the graph that comes out is rounded alike, fused or not.

Runs last on the graph. Each rule rewrites one op into ops that the schedule knows: reductions over one contiguous
stretch of storage, and contractions whose last result axis is contiguous in the right operand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import field
from itertools import pairwise

from compiler.causality.zones import AxisOrder, orders_of
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value
from compiler.graph.op import Op
from compiler.ops import elementwise
from compiler.ops.build import filled
from compiler.ops.contraction import Contraction, Labels
from compiler.ops.indexing import Gather, Put, ScatterAdd
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Transpose
from compiler.ops.pairs import FitRows
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments, Sum
from compiler.ops.scan import Scan
from compiler.ops.sources import Iota
from compiler.ops.window import Fold
from compiler.schedule.addresses import VIEWS, axis_maps, count, storage_order, storage_strides, through, view_strides
from compiler.schedule.numerics.by_index import SOURCES, dense, fitted, reshaped, reversed_batch, size_of, table
from compiler.schedule.numerics.factors import Factors, factors_of_sums
from compiler.schedule.numerics.fold import folded
from compiler.schedule.numerics.internal_ops import (
    Bf16Contraction,
    Chained,
    Copy,
    Empty,
    Insert,
    ProductSum,
    Rounded,
    RoundedContraction,
    SplitContraction,
    Tf32Contraction,
    ordered,
)
from compiler.support import numerics
from compiler.support.record import mutable_record
from compiler.types import BatchExtent, DType, Extent, TensorType, elements


def fix_numerics(graph: Graph) -> Graph:
    """The graph in the form that the schedule takes."""
    return _Rewriter(GraphBuilder(graph.name)).run(graph)


@mutable_record
class _Rewriter:
    builder: GraphBuilder
    known: dict[int, Value] = field(default_factory=dict[int, Value])
    overwriting: frozenset[int] = frozenset()
    factors: dict[int, Factors] = field(default_factory=dict[int, Factors])
    orders: dict[int, AxisOrder] = field(default_factory=dict[int, AxisOrder])

    def run(self, graph: Graph) -> Graph:
        self.overwriting, self.orders = _overwriting(graph), orders_of(graph)
        for entry in graph.inputs:
            self.known[entry.value.index] = self.builder.input(entry.name, entry.role, entry.value.type)
        self.factors = factors_of_sums(graph)
        for node in graph.nodes:
            if node.results[0].index in self.factors:
                continue  # its sum takes the factors
            factors = self.factors.get(node.operands[0].index) if node.operands else None
            operands = tuple(self.known[o.index] for o in (node.operands if factors is None else factors.pair))
            with self.builder.at(node.origins):
                results = self.rewritten(node, operands)
            self.known.update((old.index, new) for old, new in zip(node.results, results, strict=True))
        taken: set[int] = set()
        for entry in graph.outputs:
            value = self.known[entry.value.index]
            node = self.builder.definition(value)
            if node is None or value.index in taken or isinstance(node.op, (*VIEWS, *SOURCES)):
                with self.builder.at(() if node is None else node.origins):
                    value = self.builder.emit(Copy(), value)
            taken.add(value.index)
            self.builder.output(entry.name, entry.role, value, entry.updates)
        return self.builder.build()

    def rewritten(self, node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        match node.op:
            case Sum(axes=axes) if len(operands) == 2:
                return (self.summed_products(*operands, axes, self.factors[node.operands[0].index].sums),)
            case Sum(axes=axes) | Max(axes=axes) | Min(axes=axes):
                return (self.reduced(type(node.op), operands[0], axes),)
            case Moments(axes=axes):
                return self.moments(operands[0], axes)
            case ArgMax(axis=axis):
                return (self.argmax(operands[0], axis),)
            case Contraction(lhs=lhs, rhs=rhs, out=out):
                return (self.contraction(operands, lhs, rhs, out, self.orders.get(node.results[0].index)),)
            case RoundedContraction() | Bf16Contraction() | Tf32Contraction() as op:
                return (self.contraction(operands, op.lhs, op.rhs, op.out, None, type(op)),)
            case Concat() | Pad() | FitRows():
                return (self.resized(node.op, operands, node.results[0].type),)
            case Reverse(axes=axes) if any(isinstance(operands[0].type.shape[a], BatchExtent) for a in axes):
                return (reversed_batch(self.builder, operands[0], axes),)
            case Reshape(shape=shape) if through(node, axis_maps(shape)) is None:
                return (reshaped(self.builder, operands[0], shape),)
            case ScatterAdd():
                return (self.scattered(operands[0], operands[1], node.op),)
            case Fold():
                return (folded(self.emit, self.builder, node.op, operands[0]),)
            case Put(axis=axis):
                base = (
                    operands[0] if node.results[0].index in self.overwriting else self.builder.emit(Copy(), operands[0])
                )
                return (self.builder.emit(Insert((0,) * base.type.rank, axis), base, *operands[1:]),)
            case Scan(scanned=scanned, carries=carries):
                behind = scanned + carries
                xs = map(self.stored, operands[:scanned])
                starts = (self.builder.emit(Copy(), o) for o in operands[scanned:behind])
                return self.builder.emit_all(node.op, *xs, *starts, *map(self.stored, operands[behind:]))
            case CumulativeSum() | Gather():
                return self.builder.emit_all(
                    node.op, table(self.builder, operands[0]), *(dense(self.builder, o) for o in operands[1:])
                )
            case _:
                return self.builder.emit_all(node.op, *operands)

    def emit(self, op: Op, *operands: Value) -> Value:
        """A new node of the language, rewritten like those that were there."""
        (type_,) = op.result_types([o.type for o in operands])
        (result,) = self.rewritten(Node(op, operands, (Value(-1, type_),)), operands)
        return result

    def reduced(
        self, kind: type[Sum | Max | Min], value: Value, axes: Sequence[int], factor: Value | None = None
    ) -> Value:
        """Reduce a stretch of neighbours in storage at a time, the innermost first, there of products with `factor`."""
        order, shape = storage_order(value.type.shape), value.type.shape
        runs: list[list[int]] = []  # the innermost first, and so are the axes of each
        length = 0
        for place, axis in reversed(list(enumerate(order))):
            if axis in axes:
                length *= count(shape[axis])
                is_apart = not runs or order[place + 1] not in axes
                if is_apart or isinstance(shape[axis], BatchExtent) or length > numerics.LONG_STRETCH:
                    runs.append([])
                    length = count(shape[axis])
                runs[-1].append(axis)
        gone: list[int] = []
        for run in runs:
            now = tuple(sorted(axis - sum(g < axis for g in gone) for axis in run))
            if factor is not None and not gone:
                value = self.builder.emit(ProductSum(now), value, factor)
            else:
                value = self.builder.emit(kind(now), value)
            gone.extend(run)
        return value

    def summed_products(self, left: Value, right: Value, axes: tuple[int, ...], sums: int) -> Value:
        """The sum of a product over `axes`, one of so many that have a factor in common."""
        if sums <= numerics.MOST_IN_STRIPS:
            left, right, axes = self.in_strips(left, right, axes)
        return self.reduced(Sum, left, axes, right)

    def in_strips(self, left: Value, right: Value, axes: tuple[int, ...]) -> tuple[Value, Value, tuple[int, ...]]:
        """Factors whose lines are summed `STRIP` at a time, pixel by pixel: what taps read of neighbouring lines stays
        near. As they were, where they are no images or pixels of one lie apart."""
        shape = left.type.shape
        inside = [axis for axis in axes if not isinstance(shape[axis], BatchExtent)]
        if len(inside) != 2 or inside[1] != inside[0] + 1 or count(shape[inside[0]]) % numerics.STRIP:
            return left, right, axes
        line, pixel = inside
        columns = count(elements(shape[pixel + 1 :]))
        views = [view_strides(self.builder, factor) for factor in (left, right)]
        if columns % numerics.FEWEST_COLUMNS or any(view is None or view[1][pixel] != columns for view in views):
            return left, right, axes
        cut = (*shape[:line], count(shape[line]) // numerics.STRIP, numerics.STRIP, *shape[pixel:])
        order = (*range(line + 1), pixel + 1, pixel, *range(pixel + 2, len(cut)))
        left, right = (
            self.builder.emit(Transpose(order), self.builder.emit(Reshape(cut), factor)) for factor in (left, right)
        )
        return left, right, (*(axis + (axis > pixel) for axis in axes), pixel + 1)

    def moments(self, value: Value, axes: Sequence[int]) -> tuple[Value, Value]:
        """Mean, then the mean of squared differences: two passes lose no digits."""
        builder, shape = self.builder, value.type.shape
        inside = tuple(axis for axis in axes if not isinstance(shape[axis], BatchExtent))
        if len(inside) < len(axes) and count(elements(tuple(shape[a] for a in inside))) >= numerics.LONG_ROW:
            return self.moments_of_rows(value, axes, inside)
        kept = tuple(a for a in range(len(shape)) if a not in axes)
        total = self.reduced(Sum, value, axes)
        size = size_of(self.builder, [shape[a] for a in axes], total.type)
        mean = builder.emit(elementwise.Divide(), total, size)
        difference = builder.emit(elementwise.Subtract(), value, builder.emit(Broadcast(shape, kept), mean))
        squares = self.reduced(Sum, builder.emit(elementwise.Multiply(), difference, difference), axes)
        return mean, builder.emit(elementwise.Divide(), squares, size)

    def moments_of_rows(self, value: Value, axes: Sequence[int], inside: Sequence[int]) -> tuple[Value, Value]:
        """First of each row of the batch, which a cache holds, then of these: rows are equally long, so the variance is
        the mean of the rows' variances and the variance of their means (Chan, Golub & LeVeque, 1979)."""
        means, variances = self.moments(value, inside)
        (batch,) = (axis - sum(a < axis for a in inside) for axis in axes if axis not in inside)
        mean, between = self.moments(means, (batch,))
        total = self.reduced(Sum, variances, (batch,))
        within = self.builder.emit(
            elementwise.Divide(), total, size_of(self.builder, [means.type.shape[batch]], total.type)
        )
        return mean, self.builder.emit(elementwise.Add(), within, between)

    def argmax(self, value: Value, axis: int) -> Value:
        """The least index at which the maximum, or a NaN, stands."""
        builder, shape = self.builder, value.type.shape
        kept = tuple(a for a in range(len(shape)) if a != axis)
        top = builder.emit(Broadcast(shape, kept), self.reduced(Max, value, (axis,)))
        found = builder.emit(elementwise.Equal(), value, top)
        if value.type.dtype.is_float:
            found = builder.emit(elementwise.Or(), found, builder.emit(elementwise.NotEqual(), value, value))
        place = builder.emit(Iota(shape, axis, DType.I32))
        beyond = filled(builder, 2**31 - 1, place.type)
        return self.reduced(Min, builder.emit(elementwise.Where(), found, place, beyond), (axis,))

    def resized(self, op: Concat | Pad | FitRows, operands: Sequence[Value], type_: TensorType) -> Value:
        """A value with more or fewer elements along some axes."""
        match op:
            case Concat(axis=axis):
                return self.concatenated(operands, axis, type_)
            case Pad(low=low, value=value):
                return self.padded(operands[0], low, value, type_)
            case FitRows(axis=axis, extent=extent):
                return fitted(self.builder, operands[0], axis, extent, type_.shape)

    def concatenated(self, parts: Sequence[Value], axis: int, type_: TensorType) -> Value:
        result, start = self.builder.emit(Empty(type_)), 0
        for part in parts:
            starts = tuple(start if k == axis else 0 for k in range(type_.rank))
            result = self.builder.emit(Insert(starts), result, part)
            start += count(part.type.shape[axis])
        return result

    def padded(self, value: Value, low: Sequence[int], fill: float, type_: TensorType) -> Value:
        base = self.builder.emit(Copy(), filled(self.builder, fill, type_))
        return self.builder.emit(Insert(tuple(low)), base, value)

    def scattered(self, indices: Value, updates: Value, op: ScatterAdd) -> Value:
        """The indexed axes stand first, or second where another axis is the batch, or counts the rows of indices."""
        builder, shape = self.builder, updates.type.shape
        axis, is_batch = op.axis, [isinstance(extent, BatchExtent) for extent in shape]
        indexed = tuple(range(axis, axis + indices.type.rank - op.by_row))
        others = tuple(a for a in range(len(shape)) if a not in indexed)
        first = (0,) if op.by_row else tuple(a for a in others if is_batch[a])
        rest = tuple(a for a in others if a not in first)
        placed = (*first, *indexed, *rest)
        moved = table(
            self.builder, builder.emit(Transpose(placed), updates) if placed != tuple(range(len(shape))) else updates
        )
        result = builder.emit(ScatterAdd(len(first), op.extent, op.by_row), table(self.builder, indices), moved)
        order = (*first, -1, *rest)
        wanted = (*(a for a in others if a < axis), -1, *(a for a in others if a >= axis))
        if order == wanted:
            return result
        return builder.emit(Transpose(tuple(order.index(a) for a in wanted)), result)

    def stored(self, value: Value) -> Value:
        """The value itself where it lies in memory as its type says, by whatever name; otherwise a copy that does."""
        node = self.builder.definition(value)
        if node is None or not isinstance(node.op, (*VIEWS, *SOURCES)):
            return value
        view = view_strides(self.builder, value)
        if view is not None and view[2] == 0 and elements(view[0].type.shape) == elements(value.type.shape):
            source, shape = self.builder.definition(view[0]), value.type.shape
            wide = [axis for axis, extent in enumerate(shape) if extent != 1]
            is_dense = all(view[1][axis] == storage_strides(shape)[axis] for axis in wide)
            if is_dense and (source is None or not isinstance(source.op, SOURCES)):
                return value
        return self.builder.emit(Copy(), value)

    def contraction(
        self,
        operands: tuple[Value, ...],
        lhs: Labels,
        rhs: Labels,
        out: Labels,
        order: AxisOrder | None,
        rounded: Rounded | None = None,
    ) -> Value:
        left, right = operands
        shape = {**dict(zip(rhs, right.type.shape, strict=True)), **dict(zip(lhs, left.type.shape, strict=True))}
        wide = {label for label, extent in shape.items() if extent != 1}
        left, lhs = self.without_units(left, lhs, wide)
        right, rhs = self.without_units(right, rhs, wide)
        core = tuple(label for label in out if label in wide)
        result = self.core_contraction(left, right, lhs, rhs, core, shape, order, rounded)
        if core == out:
            return result
        return self.builder.emit(Reshape(tuple(shape[label] for label in out)), result)

    def without_units(self, value: Value, labels: tuple[int, ...], wide: set[int]) -> tuple[Value, tuple[int, ...]]:
        kept = tuple(label for label in labels if label in wide)
        if kept == labels:
            return value, labels
        extents = tuple(e for label, e in zip(labels, value.type.shape, strict=True) if label in wide)
        return self.builder.emit(Reshape(extents), value), kept

    def core_contraction(
        self,
        left: Value,
        right: Value,
        lhs: tuple[int, ...],
        rhs: tuple[int, ...],
        out: tuple[int, ...],
        shape: dict[int, Extent],
        order: AxisOrder | None,
        rounded: Rounded | None,
    ) -> Value:
        summed = [label for label in lhs if label in rhs and label not in out]
        only_left = [label for label in out if label not in rhs]
        only_right = [label for label in out if label not in lhs]
        if not summed:
            factors = (self.aligned(v, ls, out, shape) for v, ls in ((left, lhs), (right, rhs)))
            return self.builder.emit(elementwise.Multiply(), *factors)
        if not only_left and not only_right:
            every = (*out, *summed)
            factors = (self.aligned(v, ls, every, shape) for v, ls in ((left, lhs), (right, rhs)))
            product = self.builder.emit(elementwise.Multiply(), *factors)
            return self.reduced(Sum, product, tuple(range(len(out), len(every))))
        physical = sorted(out, key=lambda label: not isinstance(shape[label], BatchExtent))
        last = physical[-1]
        if not only_right or (last in only_left and not isinstance(shape[last], BatchExtent)):
            left, right, lhs, rhs = right, left, rhs, lhs
            only_left, only_right = only_right, only_left
        if any(isinstance(shape[label], BatchExtent) for label in only_right):
            left, right, lhs, rhs = right, left, rhs, lhs
            only_left, only_right = only_right, only_left
        rows = tuple(label for label in out if label not in only_right)
        placed = (*rows, *(label for label in out if label in only_right))
        right, rhs = self.with_contiguous(right, rhs, placed[len(rows) :], summed)
        left = left if self.strides(left) is not None else self.builder.emit(Copy(), left)
        if rounded is RoundedContraction:
            result = self.builder.emit(rounded(lhs, rhs, placed), left, right)
        else:
            result = self.product(left, right, lhs, rhs, placed, order, rounded)
        if placed == out:
            return result
        return self.builder.emit(Transpose(tuple(placed.index(label) for label in out)), result)

    def product(
        self,
        left: Value,
        right: Value,
        lhs: Labels,
        rhs: Labels,
        out: Labels,
        order: AxisOrder | None,
        chained: Chained | None,
    ) -> Value:
        """A contraction in the form of kernels; a long sum with few results, over the batch and more, is split."""
        whole = Contraction(lhs, rhs, out)
        triangle = None if order is None else ordered(whole, (left.type.shape, right.type.shape), order)
        if triangle is not None:
            return self.builder.emit(triangle, left, right)
        extents = [left.type.shape[lhs.index(label)] for label in lhs if label in rhs and label not in out]
        length = count(elements(tuple(extents)))
        (type_,) = whole.result_types((left.type, right.type))
        size = elements(type_.shape)
        splits = 1
        if isinstance(size, int) and isinstance(extents[0], BatchExtent):
            # Less for many results, since each split costs memory.
            splits = next((splits for most, splits in numerics.SPLITS if size <= most), 1)
        few = splits >= numerics.FEW_RESULTS or not self.in_one_stretch(left, lhs, out)
        if splits == 1 or length < numerics.LONG_SUM or not few:
            return self.builder.emit(whole if chained is None else chained(lhs, rhs, out), left, right)
        made = (chained or SplitContraction)(lhs, rhs, out, splits)
        return self.builder.emit(Sum((0,)), self.builder.emit(made, left, right))

    def in_one_stretch(self, value: Value, labels: Labels, out: Labels) -> bool:
        """Whether one index can walk all the summed axes of an operand."""
        strides = self.strides(value)
        assert strides is not None
        summed = [k for k, label in enumerate(labels) if label not in out]
        return all(strides[a] == strides[b] * count(value.type.shape[b]) for a, b in pairwise(summed))

    def aligned(self, value: Value, labels: tuple[int, ...], out: tuple[int, ...], shape: dict[int, Extent]) -> Value:
        """`value` repeated to the axes of `out`."""
        order = tuple(sorted(range(len(labels)), key=lambda k: out.index(labels[k])))
        if order != tuple(range(len(labels))):
            value = self.builder.emit(Transpose(order), value)
        axes = tuple(out.index(labels[k]) for k in order)
        full = tuple(shape[label] for label in out)
        return value if axes == tuple(range(len(out))) else self.builder.emit(Broadcast(full, axes), value)

    def with_contiguous(
        self, value: Value, labels: tuple[int, ...], columns: tuple[int, ...], summed: Sequence[int]
    ) -> tuple[Value, tuple[int, ...]]:
        """`value` with the axes `columns` last and dense in storage; a copy where they are not."""
        strides = self.strides(value)
        step, fits = 1, strides is not None
        if strides is not None:
            for label in reversed(columns):
                axis = labels.index(label)
                fits = fits and strides[axis] == step
                step *= count(value.type.shape[axis])
        if fits or (
            strides is not None and len(columns) == 1 and self.is_transposed(value, labels, strides, columns[0], summed)
        ):
            return value, labels
        others = [label for label in labels if label not in columns and label not in summed]
        placed = (*others, *(label for label in labels if label in summed), *columns)
        moved = self.builder.emit(Transpose(tuple(labels.index(label) for label in placed)), value)
        return self.builder.emit(Copy(), moved), placed

    def is_transposed(
        self, value: Value, labels: tuple[int, ...], strides: tuple[int, ...], column: int, summed: Sequence[int]
    ) -> bool:
        """Whether the one summed axis lies side by side: then the kernel packs the operand by turning blocks."""
        shape = value.type.shape
        return (
            len(summed) == 1
            and strides[labels.index(summed[0])] == 1
            and strides[labels.index(column)] > 1
            and not isinstance(shape[labels.index(summed[0])], BatchExtent)
        )

    def strides(self, value: Value) -> tuple[int, ...] | None:
        """The strides of a value in memory; None where none say it, or it is made again wherever it is used."""
        view = view_strides(self.builder, value)
        source = None if view is None else self.builder.definition(view[0])
        is_made_again = source is not None and isinstance(source.op, SOURCES)
        return None if view is None or is_made_again else view[1]


def _overwriting(graph: Graph) -> frozenset[int]:
    """The results of writing a part into a lasting tensor that nothing else reads, and that they update."""
    uses = Counter(operand.index for node in graph.nodes for operand in node.operands)
    inputs = {entry.name: entry for entry in graph.inputs}
    updates = {o.value.index: inputs[o.updates].value for o in graph.outputs if o.updates is not None}
    return frozenset(
        node.results[0].index
        for node in graph.nodes
        if isinstance(node.op, Put)
        and updates.get(node.results[0].index) == node.operands[0]
        and uses[node.operands[0].index] == 1
    )
