"""A scalar split into totals over the rows of a data set and a function of these, computed once.

Gathered are sums over rows, extremes, and moments: how many elements there are, their mean, and the sum of the squares
of their distances from it. Each of them is the same for all rows as for the parts of any cut, put together; so is the
scalar.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from enum import Enum

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value
from compiler.ops import rules
from compiler.ops.batch_sums import adds_up
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Abs, Add, Cast, Maximum, Minimum, Multiply, Negate, Subtract, Where
from compiler.ops.indexing import Gather
from compiler.ops.movement import Concat, Reverse, Slice, Transpose
from compiler.ops.reduction import Max, Min, Moments
from compiler.ops.row_mixing import mixed_values
from compiler.ops.sources import BatchSize, Constant
from compiler.ops.spreading import Broadcast, Reshape, Sum
from compiler.support.record import record
from compiler.types import BatchExtent, DType, TensorType, batch_axis, depends_on_batch, static_elements

_SMALL = {DType.BOOL: 1.0, DType.U8: 255.0}
_SAME = (Abs, Broadcast, Gather, Max, Min, Negate, Reshape, Reverse, Slice, Transpose)


class Bounds:
    """Which values of a graph under construction hold whole numbers only, and how large they can be."""

    def __init__(self, builder: GraphBuilder) -> None:
        self._builder = builder
        self._known: dict[int, float | None] = {}

    def of(self, value: Value) -> float | None:
        """The largest magnitude of a value of whole numbers, `inf` where nothing limits it; None of other values."""
        if value.index not in self._known:
            self._known[value.index] = self._found(value)
        return self._known[value.index]

    @staticmethod
    def elements(value: Value, axes: Sequence[int]) -> float:
        """How many elements lie along some axes; `inf` along the batch."""
        extents = (value.type.shape[axis] for axis in axes)
        return math.prod(math.inf if isinstance(extent, BatchExtent) else extent for extent in extents)

    def _found(self, value: Value) -> float | None:
        dtype = value.type.dtype
        if dtype in _SMALL:
            return _SMALL[dtype]
        node = self._builder.definition(value)
        found = None if node is None else self._of_node(node)
        return math.inf if found is None and not dtype.is_float else found

    def _of_node(self, node: Node) -> float | None:
        match node.op:
            case Constant(number):
                return abs(float(number)) if float(number).is_integer() else None
            case Cast():
                return self.of(node.operands[0])
            case Where():
                return self._joined(node.operands[1:], max)
            case Maximum() | Minimum() | Concat():
                return self._joined(node.operands, max)
            case Add() | Subtract():
                return self._joined(node.operands, sum)
            case Multiply():
                return self._joined(node.operands, _product)
            case Sum(axes):
                return _times(self.of(node.operands[0]), self.elements(node.operands[0], axes))
            case Contraction(lhs, _, out):
                summed = [axis for axis, label in enumerate(lhs) if label not in out]
                return _times(self._joined(node.operands, _product), self.elements(node.operands[0], summed))
            case op if isinstance(op, _SAME):
                return self.of(node.operands[0])
            case _:
                return None

    def _joined(self, values: Sequence[Value], join: Callable[[Sequence[float]], float]) -> float | None:
        bounds = [self.of(value) for value in values]
        known = [bound for bound in bounds if bound is not None]
        return join(known) if len(known) == len(bounds) else None


def _product(bounds: Sequence[float]) -> float:
    return 0.0 if 0.0 in bounds else math.prod(bounds)


def _times(bound: float | None, count: float) -> float | None:
    return None if bound is None else _product((bound, count))


_EXACT_IN_F32 = 2.0**24


class TotalKind(Enum):
    """How what two parts of the data give is put together."""

    SUM = "sum"
    ROWS = "rows"
    MOST = "most"
    LEAST = "least"
    MOMENTS = "moments"


@record
class Total:
    """A reduction of `node` over rows, gathered over all of them.

    Of moments, `elements` are those that count, where `mask` is true, and they are reduced over `axes`. The node gives
    both moments, or the sum of the squares of distances from `centre`, which is repeated over the rows by `spread`.
    """

    kind: TotalKind
    node: Node
    elements: Value | None = None
    mask: Value | None = None
    axes: tuple[int, ...] = ()
    centre: Value | None = None
    spread: Broadcast | None = None

    @property
    def form(self) -> tuple[object, ...]:
        """Its properties in a program that finishes totals."""
        types = [value.type for value in (self.elements, self.mask) if value is not None]
        results = [result.type for result in self.node.results]
        return self.kind, type(self.node.op), types, self.axes, self.spread, results

    @property
    def type(self) -> TensorType:
        """The type of the gathered tensor."""
        if self.elements is None:
            return self.node.results[0].type
        shape = self.elements.type.shape
        return TensorType(self.elements.type.dtype, tuple(shape[axis] for axis in self.kept_axes))

    @property
    def kept_axes(self) -> tuple[int, ...]:
        """The axes of the elements over which moments are not taken."""
        assert self.elements is not None
        return rules.other_axes(self.elements.type.rank, self.axes)


@record
class TotalSplit:
    """`steps`, in order, compute the wanted values: a total stands where the graph reduces rows.

    `others` make values without rows of rows in any other way.
    """

    steps: tuple[Node | Total, ...]
    others: tuple[Node, ...]

    @property
    def totals(self) -> tuple[Total, ...]:
        return tuple(step for step in self.steps if isinstance(step, Total))


def split(graph: Graph, wanted: Sequence[Value]) -> TotalSplit:
    """How `wanted`, which have no rows, follow from totals. `graph` holds no ops that steer differentiation."""
    finder = _Finder(graph)
    needed = {value.index for value in wanted}
    steps: list[Node | Total] = []
    others: list[Node] = []
    for node in reversed(graph.nodes):
        if not any(result.index in needed for result in node.results):
            continue
        if not _reads_rows(node):
            steps.append(node)
            needed.update(operand.index for operand in node.operands)
            continue
        total = finder.total(node)
        if total is None:
            others.append(node)
            continue
        steps.append(total)
        if total.centre is not None:
            needed.add(total.centre.index)
    return TotalSplit(tuple(reversed(steps)), tuple(reversed(others)))


def dependent_on_the_batch(graph: Graph, wanted: Sequence[Value], own: Sequence[Node]) -> Node | None:
    """A node among `own` by which `wanted` would depend on how the rows are cut into batches."""
    found = split(graph, wanted)
    if found.others:
        return found.others[0]
    mixed = mixed_values(own, with_draws=True)
    for total in found.totals:
        terms = total.node.operands if total.elements is None else (total.elements, total.mask)
        for term in terms:
            if term is not None and term.index in mixed:
                return mixed[term.index]
    return None


def form_of(found: TotalSplit) -> list[object]:
    """The common form of splits that compute the same: ops, totals, and which values they read."""
    places: dict[int, int] = {}
    form: list[object] = []
    for step in found.steps:
        node = step.node if isinstance(step, Total) else step
        if isinstance(step, Total):
            form.append((step.form, None if step.centre is None else places.get(step.centre.index)))
        else:
            results = [result.type for result in node.results]
            form.append((node.op, [places.get(operand.index) for operand in node.operands], results))
        places.update((result.index, len(places) + k) for k, result in enumerate(node.results))
    return form


def gathered(builder: GraphBuilder, total: Total, number: int, by_rows: bool) -> Iterator[tuple[str, Value]]:
    """The values that a step gives for a total, by the names under which they are put together.

    Without `by_rows`, a sum is that of the step. With it, its terms come row by row, so that the cut into steps has no
    part in them; those that are whole numbers are added up first, which nothing rounds. The name of moments ends with
    the number of axes over which they are not taken. Whoever runs the step knows the number of its rows.
    """
    kind = total.kind.value
    if total.kind is TotalKind.ROWS:
        return
    if total.elements is not None:
        yield f"{kind}:{number}:{len(total.kept_axes)}", _rows_first(builder, total, total.elements)
        if total.mask is not None:
            yield f"kept:{number}", builder.emit(Cast(DType.F32), _rows_first(builder, total, total.mask))
        return
    node = total.node
    value = node.results[0]
    yield f"{kind}:{number}", _terms(builder, node) if by_rows and total.kind is TotalKind.SUM else value


def _terms(builder: GraphBuilder, node: Node) -> Value:
    """The terms of a sum, row by row, or whole numbers added up."""
    bounds = Bounds(builder)
    match node.op:
        case Contraction(lhs, rhs, out):
            if all((bound := bounds.of(operand)) is not None and bound <= 1 for operand in node.operands):
                return builder.emit(Cast(DType.I64), node.results[0])
            axis = batch_axis(node.operands[0].type.shape)
            assert axis is not None
            return builder.emit(Contraction(lhs, rhs, (lhs[axis], *out)), *node.operands)
        case Sum(axes):
            (x,) = node.operands
            batch = batch_axis(x.type.shape)
            assert batch is not None
            within = tuple(axis for axis in axes if axis != batch)
            bound = bounds.of(x)
            if bound is not None:
                if not x.type.dtype.is_float or bound * bounds.elements(x, within) > _EXACT_IN_F32:
                    return builder.emit(Sum(axes), builder.emit(Cast(DType.I64), x))
                rows = builder.emit(Sum(within), x) if within else x
                place = batch_axis(rows.type.shape)
                assert place is not None
                return builder.emit(Sum((place,)), builder.emit(Cast(DType.I64), rows))
            rows = builder.emit(Sum(within), x) if within else x
            return _moved(builder, rows, (), batch_axis(rows.type.shape) or 0)
        case _:
            raise AssertionError(f"{node.op} adds nothing up over rows")


def _rows_first(builder: GraphBuilder, total: Total, value: Value) -> Value:
    """The elements of moments, one after the other along the first axis, then the other axes."""
    batch = batch_axis(value.type.shape)
    assert batch is not None
    moved = _moved(builder, value, tuple(axis for axis in total.axes if axis != batch), batch)
    if len(total.axes) == 1:
        return moved
    # Texts of several lengths, which are computed by several programs, give rows of one shape.
    terms = static_elements(moved.type.shape[: len(total.axes)])
    return builder.emit(Reshape((BatchExtent(terms), *moved.type.shape[len(total.axes) :])), moved)


def _moved(builder: GraphBuilder, value: Value, then: tuple[int, ...], batch: int) -> Value:
    rest = tuple(axis for axis in range(value.type.rank) if axis != batch and axis not in then)
    order = (batch, *then, *rest)
    return value if order == tuple(range(value.type.rank)) else builder.emit(Transpose(order), value)


def _reads_rows(node: Node) -> bool:
    return isinstance(node.op, BatchSize) or any(depends_on_batch(value.type.shape) for value in node.operands)


class _Finder:
    """Recognises the reduction of a node over rows."""

    def __init__(self, graph: Graph) -> None:
        self._definitions = {result.index: node for node in graph.nodes for result in node.results}
        self._from_rows: set[int] = set()  # values without rows that rows have a part in
        for node in graph.nodes:
            if _reads_rows(node) or any(operand.index in self._from_rows for operand in node.operands):
                self._from_rows.update(r.index for r in node.results if not depends_on_batch(r.type.shape))

    def total(self, node: Node) -> Total | None:
        match node.op:
            case BatchSize():
                return Total(TotalKind.ROWS, node)
            case Moments(axes):
                return Total(TotalKind.MOMENTS, node, node.operands[0], None, axes)
            case Max():
                return Total(TotalKind.MOST, node)
            case Min():
                return Total(TotalKind.LEAST, node)
            case Sum(axes):
                if not adds_up(node):
                    return None
                return self._distances(node, axes) or Total(TotalKind.SUM, node)
            case _:
                return Total(TotalKind.SUM, node) if adds_up(node) else None

    def _distances(self, node: Node, axes: tuple[int, ...]) -> Total | None:
        """sum((x - c)^2), perhaps of the elements of a mask, where c follows from all rows, as the mean of x does."""
        square, mask = self._of_mask(node.operands[0])
        product = self._definitions.get(square.index)
        if product is None or not isinstance(product.op, Multiply) or product.operands[0] != product.operands[1]:
            return None
        difference = self._definitions.get(product.operands[0].index)
        if difference is None or not isinstance(difference.op, Subtract):
            return None
        for x, repeated in (difference.operands, reversed(difference.operands)):
            spread = self._definitions.get(repeated.index)
            if spread is None or not isinstance(spread.op, Broadcast):
                continue
            centre = spread.operands[0]
            if centre.index not in self._from_rows:
                continue
            varying = {a for a, e in zip(spread.op.axes, centre.type.shape, strict=True) if e != 1}
            alike = tuple(axis for axis in axes if axis not in varying)
            return Total(TotalKind.MOMENTS, node, x, mask, alike, centre, spread.op)
        return None

    def _of_mask(self, value: Value) -> tuple[Value, Value | None]:
        """The elements of a value that a mask keeps, and the mask."""
        node = self._definitions.get(value.index)
        if node is not None and isinstance(node.op, Where) and self._is_zero(node.operands[2]):
            return node.operands[1], node.operands[0]
        return value, None

    def _is_zero(self, value: Value) -> bool:
        node = self._definitions.get(value.index)
        while node is not None and isinstance(node.op, (Broadcast, Reshape)):
            node = self._definitions.get(node.operands[0].index)
        return node is not None and isinstance(node.op, Constant) and node.op.value == 0
