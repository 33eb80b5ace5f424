"""A graph as a picture of levels: closed ones as boxes, opened ones as boxes around their parts, repeated ones once.

Forward, backward and update nodes of one level are boxes of their own. Parameters and constants are not drawn; a box
says how many parameters it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from compiler.errors.diagnostics import Span
from compiler.graph import drawing
from compiler.graph.boxes import Arrow, Box, Drawing
from compiler.graph.ir import Direction, Graph, Node, Role, Value
from compiler.inspection.levels import Level, Places
from compiler.ops.scan import Scan, with_bodies
from compiler.support.record import mutable_record, record
from compiler.types import static_elements

Chain = tuple[Level, ...]
_LONGEST_NAME = 40
_SILENT = frozenset(set(Role) - {Role.DATA})  # inputs of these roles are no boxes


@record
class _Placed:
    """A node with the levels around it, the outermost first; the model itself is left out."""

    node: Node
    chain: Chain
    direction: Direction


@mutable_record
class _Group:
    """What becomes one box: a node, or the nodes of one level in one direction."""

    key: str
    level: Level | None
    direction: Direction
    members: list[_Placed]

    def made(self) -> Iterator[Value]:
        for member in self.members:
            yield from member.node.results


def drawing_of_levels(graph: Graph, root: Level, depth: int, is_forward: bool) -> Drawing:
    """The graph with so many levels shown, from 1 on. `is_forward`: it is the graph that the levels are made of."""
    chain_of = _own_chains(root) if is_forward else _chains_by_origin(Places(root))
    nodes = tuple(with_bodies(graph.nodes)) if is_forward else graph.nodes
    numbers = drawing.numbers_of(graph)
    placed = [
        _Placed(node, chain_of(node), _direction_of(node)) for node in nodes if node.results[0].index not in numbers
    ]
    writer = _Writer(graph, numbers)
    found = writer.drawn(placed, 0, depth, "")
    return writer.with_ends(replace(found, name=graph.name))


def _own_chains(root: Level) -> Callable[[Node], Chain]:
    """The levels of a node of the graph that the levels are made of."""
    chains: dict[int, Chain] = {}

    def add(level: Level, chain: Chain) -> None:
        chains.update(dict.fromkeys(level.values, chain))
        for parts in level.rounds:
            for part in parts:
                add(part, (*chain, part))

    add(root, ())
    return lambda node: chains.get(node.results[0].index, ())


def _chains_by_origin(places: Places) -> Callable[[Node], Chain]:
    others: dict[Span | None, Level] = {}

    def chain(node: Node) -> Chain:
        found = places.of(node.origins)[1:]
        if found:
            return found
        span = node.origins[0].user_span if node.origins else None
        name = "arithmetic of settings" if span is None else " ".join(span.text.split())[:_LONGEST_NAME]
        return (others.setdefault(span, Level(f"@{len(others)}", "line", name, span, None, ("",), ((),), ())),)

    return chain


def _direction_of(node: Node) -> Direction:
    known = {origin.direction for origin in node.origins} or {Direction.FORWARD}
    return next(direction for direction in Direction if direction in known)


class _Writer:
    """The boxes of one picture."""

    def __init__(self, graph: Graph, numbers: Mapping[int, str]) -> None:
        self.graph, self.numbers = graph, numbers
        self.inputs = {entry.value.index: entry for entry in graph.inputs}
        self.sources: dict[int, str] = {}  # the outermost box that makes each value

    def drawn(self, placed: Sequence[_Placed], place: int, depth: int, outer: str) -> Drawing:
        """The nodes below the levels that are opened already, of which there are `place`."""
        groups = _groups(placed, place, outer)
        source = {value.index: group.key for group in groups for value in group.made()}
        if not place:
            self.sources = source
        order = {group.key: number for number, group in enumerate(groups)}
        entries: dict[str, Box] = {}
        arrows: dict[tuple[str, str], Arrow] = {}
        for group in groups:
            own = {value.index for value in group.made()}
            for value in (o for member in group.members for o in member.node.operands):
                if value.index in own or value.index in self.numbers:
                    continue
                start = source.get(value.index) or self.entry(value, outer, entries)
                if start in entries or (start and order[start] < order[group.key]):
                    arrows.setdefault((start, group.key), Arrow(start, group.key))
        boxes = [self.box(group, place, depth) for group in groups]
        return Drawing(outer, (*entries.values(), *boxes), tuple(arrows.values()))

    def entry(self, value: Value, outer: str, entries: dict[str, Box]) -> str:
        """The box of a value that comes from outside, which it gets here; none for parameters and the like."""
        found = self.inputs.get(value.index)
        if found is not None and found.role in _SILENT:
            return ""
        key = f"input {outer}{value.index}"
        lines = (str(value.type),) if found is None else (found.name, str(value.type))
        entries.setdefault(key, Box(key, lines, Role.DATA.value))
        return key

    def box(self, group: _Group, place: int, depth: int) -> Box:
        level = group.level
        if level is None:
            (member,) = group.members
            lines = drawing.lines_of(member.node, self.numbers)
            return Box(group.key, lines, drawing.kind_of(member.node), drawing.remark_of(member.node))
        title = level.name + (f" × {level.times}" if level.times > 1 else "")
        title += "" if group.direction is Direction.FORWARD else f", {group.direction.value}"
        remark = "" if level.span is None else f"{level.span.source.name}:{level.span.line}"
        box = Box(group.key, (title, *self.said(group)), group.direction.value, remark)
        if place + 1 >= depth:
            return box
        return replace(box, content=self.drawn(group.members, place + 1, depth, f"{group.key} "))

    def said(self, group: _Group) -> Iterator[str]:
        """The type of the last result that others read, and how many numbers the level learns."""
        last = next((m.node for m in reversed(group.members) if m.node.results), None)
        if last is not None and group.direction is Direction.FORWARD:
            yield str(last.results[0].type)
        read = {operand.index for member in group.members for operand in member.node.operands}
        learned = [self.inputs[index] for index in read if index in self.inputs]
        count = sum(static_elements(e.value.type.shape) for e in learned if e.role is Role.PARAMETER)
        if count and group.direction is Direction.FORWARD:
            yield f"{count:,} parameters"

    def with_ends(self, found: Drawing) -> Drawing:
        """With the outputs of the graph."""
        boxes, arrows = list(found.boxes), list(found.arrows)
        for output in self.graph.outputs:
            source = self.sources.get(output.value.index)
            if source is not None and output.role is Role.OUTPUT:
                key = f"output {output.name}"
                boxes.append(Box(key, (output.name, str(output.value.type)), Role.OUTPUT.value))
                arrows.append(Arrow(source, key))
        return Drawing(found.name, tuple(boxes), tuple(arrows))


def _groups(placed: Sequence[_Placed], place: int, outer: str) -> list[_Group]:
    """The boxes of one level, in the order of their first nodes. The node of a scan stands for its box."""
    found: dict[str, _Group] = {}
    for member in placed:
        level = member.chain[place] if len(member.chain) > place else None
        if level is None and isinstance(member.node.op, Scan) and member.chain and member.chain[-1].kind == "scan":
            continue
        if level is not None and "/" in level.key.rpartition(".")[2]:
            continue  # of another round than the first, which stands for all
        name = f"level {level.key}" if level is not None else f"%{member.node.results[0].index}"
        key = f"{outer}{member.direction.value} {name}"
        found.setdefault(key, _Group(key, level, member.direction, [])).members.append(member)
    return list(found.values())
