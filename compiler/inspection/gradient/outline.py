"""The nodes of a derivative to segments: those of one application that stand in a row, nested as the levels are.

What stands in a row can be made a function, whatever it is. Constants, repetitions and scalars of settings belong to no
segment: they are written where they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field

from compiler.graph.ir import GraphInput, Node, Role, Value
from compiler.inspection.gradient.derivative import Derivative
from compiler.inspection.levels import Level
from compiler.ops.elementwise import Cast, Multiply
from compiler.ops.scan import Scan
from compiler.ops.sources import BatchSize, Constant, Iota
from compiler.ops.spreading import Broadcast
from compiler.support.record import mutable_record, record
from compiler.types import BatchExtent


@mutable_record
class Segment:
    """Nodes and inner segments in order, of one round of a level; the whole text has level None."""

    level: Level | None
    round: int
    is_forward: bool
    items: list[Node | Segment] = field(default_factory=list["Node | Segment"])

    def nodes(self) -> Iterator[Node]:
        for item in self.items:
            if isinstance(item, Segment):
                yield from item.nodes()
            else:
                yield item


@record
class Outline:
    """The forward and the backward segment of a whole derivative, and what a printer asks of its values.

    `scalars` are the values without axes that follow from settings and constants alone; `placeless` the nodes that are
    written where they are used; `rows` is an input that says how many rows there are.
    """

    forward: Segment
    backward: Segment
    makers: Mapping[int, Node]
    scalars: frozenset[int]
    inputs: Mapping[int, GraphInput]
    rows: Value | None

    def is_placeless(self, value: Value) -> bool:
        node = self.makers.get(value.index)
        return value.index in self.scalars or (node is not None and _is_placeless(node, self.makers))

    def sources(self, value: Value) -> Iterator[Value]:
        """The values with a place, or inputs, that the text of a value is made of."""
        node = self.makers.get(value.index)
        if node is not None and self.is_placeless(value):
            for operand in node.operands:
                yield from self.sources(operand)
        else:
            yield value


def outline_of(derivative: Derivative) -> Outline:
    graph = derivative.graph
    inputs = {entry.value.index: entry for entry in graph.inputs}
    makers = {result.index: node for node in graph.nodes for result in node.results}
    scalars = _scalars(graph.nodes, inputs)
    instances = dict(_instances(derivative.root, ()))
    placed = [n for n in graph.nodes if n.results[0].index not in scalars and not _is_placeless(n, makers)]
    split = [
        [n for n in placed if any(r.index in derivative.forward for r in n.results) == is_forward]
        for is_forward in (True, False)
    ]
    forward, backward = (
        _segment(None, 0, is_forward, nodes, instances, 0)
        for is_forward, nodes in zip((True, False), split, strict=True)
    )
    rows = (e.value for e in graph.inputs if BatchExtent() in e.value.type.shape)
    return Outline(forward, backward, makers, frozenset(scalars), inputs, next(rows, None))


def _scalars(nodes: Iterable[Node], inputs: Mapping[int, GraphInput]) -> set[int]:
    found = {index for index, entry in inputs.items() if entry.role is Role.SETTING}
    known = set(found)
    for node in nodes:
        (first, *more) = node.results
        is_scalar = not more and not first.type.shape and not isinstance(node.op, (Scan, BatchSize))
        if is_scalar and all(operand.index in known for operand in node.operands):
            known.add(first.index)
            if any(operand.index in found for operand in node.operands):
                found.add(first.index)
    return found


def _is_placeless(node: Node, makers: Mapping[int, Node]) -> bool:
    match node.op:
        case Constant() | Iota() | BatchSize() | Broadcast():
            return True
        case Cast():
            return _is_count(node.operands[0], makers)
        case Multiply():
            return not node.results[0].type.shape and all(_is_count(o, makers) for o in node.operands)
        case _:
            return False


def _is_count(value: Value, makers: Mapping[int, Node]) -> bool:
    """Whether a scalar is a multiple of the number of rows, or a constant."""
    node = makers.get(value.index)
    if node is None or value.type.shape:
        return False
    if isinstance(node.op, (Cast, Multiply)):
        return all(_is_count(operand, makers) for operand in node.operands)
    return isinstance(node.op, (BatchSize, Constant))


Instance = tuple[Level, int]


def _instances(level: Level, chain: tuple[Instance, ...]) -> Iterator[tuple[str, tuple[Instance, ...]]]:
    """For the key of each level: the applications around it that become functions, the outermost first."""
    yield level.key, chain
    for number, parts in enumerate(level.rounds):
        inner = (*chain, (level, number)) if _becomes_function(level, chain) else chain
        for part in parts:
            yield from _instances(part, inner)


def _becomes_function(level: Level, chain: tuple[Instance, ...]) -> bool:
    """Layers do, and the functions that the user's text or the model applies."""
    if level.kind == "layer":
        return True
    is_inner = bool(chain) and (level.span is None or level.span.source.is_library)
    return level.kind == "fn" and not is_inner


def _segment(
    level: Level | None,
    number: int,
    is_forward: bool,
    nodes: Iterable[Node],
    instances: Mapping[str, tuple[Instance, ...]],
    depth: int,
) -> Segment:
    segment = Segment(level, number, is_forward)
    run: list[Node] = []
    current: Instance | None = None
    place: tuple[str, int] | None = None

    def close() -> None:
        if current is None:
            segment.items += run
        elif run:
            inner = _segment(*current, is_forward, run, instances, depth + 1)
            segment.items += [inner] if len(run) > 1 else run
        run.clear()

    for node in nodes:
        chain = instances.get(node.origins[0].path, ()) if node.origins else ()
        found = chain[depth] if len(chain) > depth else None
        key = None if found is None else (found[0].key, found[1])
        if key != place:
            close()
            current, place = found, key
        run.append(node)
    close()
    return segment
