"""A graph to the reach of each of its values: the positions of a fed sequence on which it depends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from compiler.causality.constants import KnownValues, zones_of
from compiler.causality.reach import INDEPENDENT, Breach, Reach, Zone, confined, joined, moved
from compiler.graph.ir import Graph, Node, Value
from compiler.graph.op import Category
from compiler.ops.contraction import Contraction
from compiler.ops.control import CustomGradient, StopGradient
from compiler.ops.elementwise import Where
from compiler.ops.indexing import Gather
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments, Sum
from compiler.ops.scan import Scan
from compiler.ops.window import Window
from compiler.types import Extent, Shape, depends_on_batch, static_elements

Reaches: TypeAlias = "dict[int, Reach | Breach]"


def reaches_of(graph: Graph, feed: str, axis: int) -> Reaches:
    """The reach of every value, by its index, where the input `feed` has a sequence along `axis`."""
    given = {i.value.index: Reach({axis: 0}, True) if i.name == feed else INDEPENDENT for i in graph.inputs}
    return _Walk(graph, given).run()


def carried_axes(shape: Shape, result: Shape) -> dict[int, int]:
    """The axes that a reshape leaves whole, and where they stand afterwards."""
    places: dict[int, int] = {}
    for axis, extent in enumerate(shape):
        for place, other in enumerate(result):
            if extent == other and _before(shape, axis) == _before(result, place) and place not in places.values():
                places[axis] = place
                break
    return places


def _before(shape: Shape, axis: int) -> tuple[int, bool]:
    return static_elements(shape[:axis]), depends_on_batch(shape[:axis])


def gathered_axes(op: Gather, x: int, indices: int) -> tuple[dict[int, int], dict[int, int]]:
    """Where the axes of x, except the one gathered, and those of the indices stand in the result."""
    added = indices - op.by_row
    of_x = {a: a if a < op.axis else a - 1 + added for a in range(x) if a != op.axis}
    of_indices = {a: op.axis + a - op.by_row for a in range(indices)}
    if op.by_row:
        of_indices[0] = 0
    return of_x, of_indices


class _Walk:
    """One graph, node after node."""

    def __init__(self, graph: Graph, given: Mapping[int, Reach | Breach]) -> None:
        self.graph, self.reaches = graph, dict(given)
        self.known = KnownValues(graph)

    def run(self) -> Reaches:
        for node in self.graph.nodes:
            self.reaches.update((r.index, found) for r, found in zip(node.results, self._results(node), strict=True))
        return self.reaches

    def _results(self, node: Node) -> Sequence[Reach | Breach]:
        if isinstance(node.op, StopGradient):
            return [self.reaches[node.operands[0].index]]
        if isinstance(node.op, CustomGradient):
            return [self.reaches[operand.index] for operand in node.operands[node.op.inputs :]]
        given: list[Reach] = []
        for operand in node.operands:
            reach = self.reaches[operand.index]
            if isinstance(reach, Breach):
                return [reach] * len(node.results)
            given.append(reach)
        if isinstance(node.op, Scan):
            return self._scan(node, node.op, given)
        if not any(reach.depends or reach.constants for reach in given) and not self._is_masked(node):
            return [INDEPENDENT] * len(node.results)
        found = self._result(node, given)
        if isinstance(found, Reach) and any(offset > 0 for offset in found.offsets.values()):
            found = Breach(node)
        return [found] * len(node.results)

    def _result(self, node: Node, given: Sequence[Reach]) -> Reach | Breach:
        op, first = node.op, given[0] if given else INDEPENDENT
        shape = node.operands[0].type.shape if node.operands else ()
        match op:
            case _ if op.category is Category.ELEMENTWISE:
                return self._elementwise(node, given)
            case Transpose(permutation=permutation):
                return moved(first, {axis: place for place, axis in enumerate(permutation)})
            case Broadcast(axes=axes):
                kept = {(p, q): n for (p, q), n in first.constants.items() if 1 not in (shape[p], shape[q])}
                return moved(Reach(first.offsets, first.depends, kept), dict(enumerate(axes)))
            case Reshape():
                return _without(node, first, carried_axes(shape, node.results[0].type.shape), shape)
            case Sum(axes=axes) | Max(axes=axes) | Min(axes=axes) | Moments(axes=axes):
                return _reduced(node, first, axes, shape)
            case ArgMax(axis=axis):
                return _reduced(node, first, (axis,), shape)
            case CumulativeSum(axis=axis, reverse=reverse):
                return Breach(node) if reverse and axis in first.offsets else joined([first])
            case Slice():
                return _sliced(node, op, first)
            case Pad(low=low, high=high):
                still = {z: n for z, n in first.constants.items() if not any(low[a] or high[a] for a in z)}
                return Reach({axis: offset - low[axis] for axis, offset in first.offsets.items()}, first.depends, still)
            case Concat(axis=axis):
                return _concatenated(node, axis, given)
            case Reverse(axes=axes):
                return Breach(node) if set(axes) & set(first.offsets) else joined([first])
            case Window():
                return _windows(node, op, first)
            case Contraction():
                return self._contraction(node, op, given)
            case Gather():
                return _gathered(node, op, given)
            case _:
                return Breach(node)

    def _is_masked(self, node: Node) -> bool:
        """Whether a mask that the program makes itself decides between elements that a run decides."""
        is_known = [operand in self.known for operand in node.operands]
        return isinstance(node.op, Where) and is_known[0] and not all(is_known)

    def _elementwise(self, node: Node, given: Sequence[Reach]) -> Reach:
        whole = joined(given)
        zones = {zone: None for reach in given for zone in reach.constants}
        if any(operand in self.known for operand in node.operands):
            shape = node.results[0].type.shape
            keys = whole.offsets or [axis for axis, extent in enumerate(shape) if shape.count(extent) > 1]
            zones |= {(row, key): None for key in keys for row in range(len(shape)) if row != key}
        constants = zones_of(node, tuple(zones), [reach.constants for reach in given], self.known)
        return confined(Reach(whole.offsets, whole.depends, constants))

    def _contraction(self, node: Node, op: Contraction, given: Sequence[Reach]) -> Reach | Breach:
        """A sum over a key is a sum up to the row where one factor is 0 for all later keys."""
        places = {label: axis for axis, label in enumerate(op.out)}
        found: list[Reach] = []
        for labels, reach in zip((op.lhs, op.rhs), given, strict=True):
            offsets: dict[int, int] = {}
            for axis, offset in reach.offsets.items():
                place = places.get(labels[axis])
                if place is None:
                    place = self._row_of(node, op, labels[axis], given)
                if place is None:
                    return Breach(node)
                offsets[place] = max(offset, offsets.get(place, offset))
            found.append(Reach(offsets, reach.depends))
        return joined(found)

    def _row_of(self, node: Node, op: Contraction, label: int, given: Sequence[Reach]) -> int | None:
        """The axis of the result to whose index the sum over `label` stops."""
        for operand, labels, reach in zip(node.operands, (op.lhs, op.rhs), given, strict=True):
            key = labels.index(label)
            for row, other in enumerate(labels):
                if other in op.out and self._constant(operand, reach, (row, key)) == 0:
                    return op.out.index(other)
        return None

    def _constant(self, operand: Value, reach: Reach, zone: Zone) -> float | None:
        return reach.constants[zone] if zone in reach.constants else self.known.constant(operand, zone)

    def _scan(self, node: Node, op: Scan, given: Sequence[Reach]) -> Sequence[Reach | Breach]:
        """Over the sequence, forward, a step depends on the steps before it; over any other axis, on all of them."""
        xs, others = given[: op.scanned], given[op.scanned :]
        over = joined(Reach({0: r.offsets[0]}, True) for r in xs if 0 in r.offsets)
        if over.depends and op.reverse:
            return [Breach(node)] * len(node.results)
        inside = [_inside(reach) for reach in xs]
        carries, captures = list(others[: op.carries]), others[op.carries :]
        emitted: Sequence[Reach | Breach] = ()
        while True:
            inputs = (*inside, *carries, *captures)
            reaches = _Walk(op.body, dict(zip((i.value.index for i in op.body.inputs), inputs, strict=True))).run()
            outputs = [reaches[output.value.index] for output in op.body.outputs]
            breach = next((reach for reach in outputs if isinstance(reach, Breach)), None)
            if breach is not None:
                return [breach] * len(node.results)
            after = [joined([c, o]) for c, o in zip(carries, outputs, strict=False) if isinstance(o, Reach)]
            emitted = outputs[op.carries :]
            if after == [joined([carry]) for carry in carries]:
                break
            carries = after
        stacks = [joined([_outside(reach), over]) for reach in emitted if isinstance(reach, Reach)]
        ends = [Breach(node)] * op.carries if over.depends else carries
        return (*ends, *stacks)


def _inside(reach: Reach) -> Reach:
    """One step's element of a scanned value. A scanned sequence counts as the scan's own."""
    return Reach({axis - 1: offset for axis, offset in reach.offsets.items() if axis}, reach.depends)


def _outside(reach: Reach) -> Reach:
    return Reach({axis + 1: offset for axis, offset in reach.offsets.items()}, reach.depends)


def _without(node: Node, reach: Reach, places: Mapping[int, int], shape: Shape) -> Reach | Breach:
    """Axes of the operand that are gone: an element of the result may be any along them."""
    for axis, offset in reach.offsets.items():
        if axis not in places and _last(shape[axis]) + offset > 0:
            return Breach(node)
    kept = {axis: offset for axis, offset in reach.offsets.items() if axis in places}
    return moved(Reach(kept, reach.depends, reach.constants), places)


def _last(extent: Extent) -> int:
    return extent - 1 if isinstance(extent, int) else 1


def _reduced(node: Node, reach: Reach, axes: Sequence[int], shape: Shape) -> Reach | Breach:
    places = {axis: axis - sum(gone < axis for gone in axes) for axis in range(len(shape)) if axis not in axes}
    found = _without(node, reach, places, shape)
    return joined([found]) if isinstance(found, Reach) else found


def _sliced(node: Node, op: Slice, reach: Reach) -> Reach | Breach:
    if any(op.steps[axis] != 1 for axis in reach.offsets):
        return Breach(node)
    kept = {
        (row, key): number
        for (row, key), number in reach.constants.items()
        if op.starts[row] == op.starts[key] and op.steps[row] == op.steps[key] == 1
    }
    return Reach({axis: offset + op.starts[axis] for axis, offset in reach.offsets.items()}, reach.depends, kept)


def _concatenated(node: Node, axis: int, given: Sequence[Reach]) -> Reach:
    """Each part lies as far behind its own place as all parts before it are long."""
    parts: list[Reach] = []
    start = 0
    for operand, reach in zip(node.operands, given, strict=True):
        offsets = {a: offset - start * (a == axis) for a, offset in reach.offsets.items()}
        parts.append(Reach(offsets, reach.depends))
        extent = operand.type.shape[axis]
        assert isinstance(extent, int)
        start += extent
    return joined(parts)


def _windows(node: Node, op: Window, reach: Reach) -> Reach | Breach:
    offsets = dict(reach.offsets)
    for axis, size, stride, dilation in zip(op.axes, op.sizes, op.strides, op.dilations, strict=True):
        if axis in offsets:
            if stride != 1:
                return Breach(node)
            offsets[axis] += (size - 1) * dilation
    return Reach(offsets, reach.depends)


def _gathered(node: Node, op: Gather, given: Sequence[Reach]) -> Reach | Breach:
    x, indices = given
    if op.axis in x.offsets:
        return Breach(node)
    ranks = (operand.type.rank for operand in node.operands)
    of_x, of_indices = gathered_axes(op, *ranks)
    return joined([moved(joined([x]), of_x), moved(joined([indices]), of_indices)])
