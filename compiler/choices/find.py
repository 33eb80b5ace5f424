"""A graph to the places where integers of the data choose: an element of a tensor, or a class among several."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.errors.diagnostics import Span
from compiler.graph.ir import Graph, Node, Role, Value
from compiler.graph.op import Category
from compiler.lints.flow import Flow, inlined, place_of
from compiler.ops.control import StopGradient
from compiler.ops.elementwise import Equal, NotEqual
from compiler.ops.indexing import Gather
from compiler.ops.reduction import ArgMax
from compiler.ops.sources import Iota
from compiler.support.record import record


@record
class IndexChoice:
    """At `node`, the operand number `side` chooses one of `count` elements, from 0 to count - 1.

    It is made of the inputs `names` by arithmetic and movement alone; with `is_direct`, its elements are those of one.
    A comparison in the user's own text (`is_own`) may have a meaning for what equals none.
    """

    node: Node
    side: int
    count: int
    names: tuple[str, ...]
    is_direct: bool
    is_own: bool

    @property
    def indices(self) -> Value:
        return self.node.operands[self.side]

    @property
    def key(self) -> int:
        """Its identity among all choices, those in the bodies of scans included."""
        return self.node.results[0].index

    @property
    def place(self) -> Span | None:
        return place_of(self.node)


def choices_of(graph: Graph) -> tuple[IndexChoice, ...]:
    """All of them, those in the bodies of scans for the first of the steps."""
    opened = inlined(graph)
    return chosen_by(opened, _of_data(opened)) if _candidates(opened) else ()


def chosen_by(opened: Graph, names: Mapping[int, frozenset[str]]) -> tuple[IndexChoice, ...]:
    """Those of a graph without scans whose integers are among the values that have `names`, those of inputs."""
    candidates = _candidates(opened)
    flow = Flow(opened)
    found = (_choice(flow, names, node, side) for node in candidates for side in (0, 1))
    return tuple(choice for choice in found if choice is not None)


def _candidates(opened: Graph) -> list[Node]:
    return [node for node in opened.nodes if isinstance(node.op, Gather | Equal | NotEqual)]


def _choice(flow: Flow, names: Mapping[int, frozenset[str]], node: Node, side: int) -> IndexChoice | None:
    indices = node.operands[side]
    given = names.get(indices.index)
    if not given or indices.type.dtype.is_float:
        return None
    if isinstance(node.op, Gather):
        count = node.operands[0].type.shape[node.op.axis] if side == 1 else None
    else:
        count = _places(flow, node.operands[1 - side])
    if not isinstance(count, int):
        return None
    source = flow.source(indices)
    is_direct = flow.maker(source) is None and not source.type.dtype.is_float
    is_own = not isinstance(node.op, Gather) and not (node.origins and node.origins[0].span.source.is_library)
    return IndexChoice(node, side, count, tuple(sorted(given)), is_direct, is_own)


def _places(flow: Flow, value: Value) -> object:
    """The length of the axis whose places a value counts, all of them or the largest."""
    maker = flow.maker(flow.source(value))
    if maker is None:
        return None
    if isinstance(maker.op, Iota):
        return maker.op.shape[maker.op.axis]
    return maker.operands[0].type.shape[maker.op.axis] if isinstance(maker.op, ArgMax) else None


def _of_data(graph: Graph) -> dict[int, frozenset[str]]:
    """The inputs of which each value is made, element by element; only values that nothing else decides."""
    data = [entry for entry in graph.inputs if entry.role is Role.DATA and not entry.name.startswith("(")]
    found = {entry.value.index: frozenset({entry.name}) for entry in data}
    for node in graph.nodes:
        is_source = node.op.category is Category.SOURCE and not node.operands
        is_moved = node.op.category in (Category.ELEMENTWISE, Category.MOVEMENT) or isinstance(node.op, StopGradient)
        if is_source or (is_moved and all(operand.index in found for operand in node.operands)):
            names = frozenset[str]().union(*(found[operand.index] for operand in node.operands))
            found.update((result.index, names) for result in node.results)
    return found
