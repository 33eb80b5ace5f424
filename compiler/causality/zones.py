"""A graph to the parts of its products that a mask of the program hides, and that need not be computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from compiler.causality.constants import KnownValues, zones_of
from compiler.causality.reach import Reach, Zone, moved
from compiler.causality.rules import carried_axes
from compiler.graph.ir import Graph, Node, Value
from compiler.graph.op import Category
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Where
from compiler.ops.movement import Broadcast, Reshape, Transpose

AxisOrder: TypeAlias = tuple[int, int]
"""Two labels (early, late) of a product: only elements whose index along `early` is at most that along `late` count."""

Constants: TypeAlias = Mapping[int, Mapping[Zone, float]]


def orders_of(graph: Graph) -> dict[int, AxisOrder]:
    """The products, by their results, that have an order: terms beyond it are 0, or results beyond it are never used.

    As everywhere, 0 * x is 0 for an x that is finite.
    """
    if not any(isinstance(node.op, Where) for node in graph.nodes):
        return {}
    known = KnownValues(graph)
    constants = _constants(graph, known)
    unused: dict[int, set[Zone]] = {output.value.index: set() for output in graph.outputs}
    orders: dict[int, AxisOrder] = {}
    for node in reversed(graph.nodes):
        if isinstance(node.op, Contraction):
            order = _order(node, node.op, constants, unused)
            if order is not None:
                orders[node.results[0].index] = order
        for operand in node.operands:
            zones = _unused_by(node, operand, constants, unused, known)
            unused[operand.index] = zones & unused.get(operand.index, zones)
    return orders


def _constants(graph: Graph, known: KnownValues) -> Constants:
    """The zones of all values that are one number, wherever a mask leads to it."""
    found: dict[int, Mapping[Zone, float]] = {}
    for node in graph.nodes:
        given = [found.get(operand.index, {}) for operand in node.operands]
        if node.op.category is Category.ELEMENTWISE:
            zones = {zone: None for constants in given for zone in constants}
            zones |= {zone: None for operand in node.operands for zone in known.masked(operand)}
            constants = zones_of(node, tuple(zones), given, known)
        else:
            constants = _moved(node, given[0] if given else {})
        if constants:
            found[node.results[0].index] = constants
    return found


def _moved(node: Node, constants: Mapping[Zone, float]) -> Mapping[Zone, float]:
    if not constants:
        return constants
    shape = node.operands[0].type.shape
    match node.op:
        case Transpose(permutation=permutation):
            places = {axis: place for place, axis in enumerate(permutation)}
        case Broadcast(axes=axes):
            places = {axis: place for axis, place in enumerate(axes) if shape[axis] != 1}
        case Reshape():
            places = carried_axes(shape, node.results[0].type.shape)
        case _:
            return {}
    return moved(Reach(constants=constants), places).constants


def _order(node: Node, op: Contraction, constants: Constants, unused: Mapping[int, set[Zone]]) -> AxisOrder | None:
    """The order that the zeros of an operand give to a sum, or that of the results in use."""
    for operand, labels in zip(node.operands, (op.lhs, op.rhs), strict=True):
        for (row, key), number in constants.get(operand.index, {}).items():
            if number == 0 and (labels[row] in op.out) != (labels[key] in op.out):
                return labels[key], labels[row]
    zones = sorted(unused.get(node.results[0].index, ()))
    return (op.out[zones[0][1]], op.out[zones[0][0]]) if zones else None


def _unused_by(
    node: Node, operand: Value, constants: Constants, unused: Mapping[int, set[Zone]], known: KnownValues
) -> set[Zone]:
    """The zones of an operand on which nothing depends that anyone uses, as far as this node goes."""
    if node.op.category is not Category.ELEMENTWISE:
        return set()
    result = node.results[0].index
    without: Sequence[Mapping[Zone, float]] = [
        {} if other.index == operand.index else constants.get(other.index, {}) for other in node.operands
    ]
    decided = zones_of(node, tuple(constants.get(result, ())), without, known)
    return {*decided, *unused.get(result, ())}
