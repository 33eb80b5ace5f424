"""Text of `printer` to fused graph. Everything comes back but the origins, which only a comment shows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import field
from textwrap import dedent

from compiler.errors.diagnostics import DataError
from compiler.graph.ir import Graph, Node, Value
from compiler.graph.op import Op
from compiler.graph.reader import read_graph
from compiler.loops.ir import Edge, IndexTerm, Space
from compiler.schedule.addresses import IndexMap, address
from compiler.schedule.fusion.ir import Alias, FusedGraph, Group, GroupKind, Link, Member
from compiler.schedule.split import ColumnSplit, RowSplit, Split
from compiler.support.record import mutable_record
from compiler.types import BatchExtent, Extent

_HEAD = re.compile(r'fused ("(?:[^"\\]|\\.)*") batch (\d+)( ordered)?')
_NODE = re.compile(r"( {2}| {4})(\d+): ")
_GROUP = re.compile(r"  group (\d+) (\w+) (\S+)(?: by (rows|columns) (.+))?")
_BEFORE = re.compile(r"  (\d+) before (\d+)")
_ALIAS = re.compile(r"  %(\d+) lies in %(\d+)")
_COPY = re.compile(r"  copy %(\d+) to %(\d+)")
_READS = re.compile(r" {8}(full|row|column|scalar)\b(.*?)(?: after (.*))?")
_LINK = re.compile(r"%(\d+)(?:\[([^\]]*)\]|( at [^,]*?)(?= where|,|$))?(?: where \{([^}]*)\})?")
_TERM = re.compile(r"e(?://(\d+))?(?: mod (\d+))?(?:\*(-?\d+))?")
_EXTENT = re.compile(r"(?:(\d+)\*)?batch|\d+")


def read_fused(text: str, ops: Sequence[type[Op]], name: str = "<fused>") -> FusedGraph:
    """The fused graph that `text` describes, with the ops of the list by their names.

    `name` is that of the text in messages. Raises DataError where the text describes none; whether it is a right one is
    left to `verify`.
    """
    lines = [(k, line) for k, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    return _Reader(lines, ops, name).fused()


@mutable_record
class _Item:
    """A node with its lines: those of the node, and those of a member's reads; the place of its group."""

    place: int
    node: list[str]
    reads: list[str] = field(default_factory=list[str])
    group: int | None = None


@mutable_record
class _Reader:
    lines: list[tuple[int, str]]  # with their numbers
    ops: Sequence[type[Op]]
    name: str
    items: list[_Item] = field(default_factory=list[_Item])
    heads: list[re.Match[str]] = field(default_factory=list[re.Match[str]])  # of groups
    interface: list[str] = field(default_factory=list[str])  # lines of inputs
    outputs: list[str] = field(default_factory=list[str])
    pairs: dict[re.Pattern[str], list[tuple[int, int]]] = field(
        default_factory=lambda: {_ALIAS: [], _COPY: [], _BEFORE: []}
    )
    values: dict[int, Value] = field(default_factory=dict[int, Value])

    def fused(self) -> FusedGraph:
        head = _HEAD.fullmatch(self.lines[0][1]) if self.lines else None
        if head is None or self.lines[-1][1] != "end":
            raise DataError(
                "the text does not begin with `fused NAME batch N` or does not finish with `end`", self.name
            )
        for number, line in self.lines[1:-1]:
            if not self.take(line):
                raise DataError(f"unexpected line {line.strip()!r}", f"{self.name}:{number}")
        graph, nodes = self.graph()
        unplaced = tuple((item.place, nodes[id(item)]) for item in self.items if item.group is None)
        groups = tuple(self.group(place, match, nodes) for place, match in enumerate(self.heads))
        aliases, copies = (
            tuple(Alias(self.value(a), self.value(b)) for a, b in self.pairs[k]) for k in (_ALIAS, _COPY)
        )
        batch, is_ordered = self.whole(head[2]), head[3] is not None
        return FusedGraph(
            json.loads(head[1]),
            batch,
            graph.inputs,
            unplaced,
            groups,
            graph.outputs,
            aliases,
            copies,
            tuple(self.pairs[_BEFORE]),
            is_ordered,
        )

    def take(self, line: str) -> bool:
        """Put a line where it belongs; whether there is such a place."""
        item = self.items[-1] if self.items else None
        if match := _NODE.match(line):
            group = len(self.heads) - 1 if len(match[1]) == 4 else None
            self.items.append(_Item(self.whole(match[2]), [line[match.end() :]], group=group))
        elif item is not None and line.startswith(" " * 6):
            is_read = bool(item.reads) or _READS.fullmatch(line) is not None
            (item.reads if is_read else item.node).append(line)
        elif line.startswith("  input "):
            self.interface.append(line)
        elif line.startswith("  output "):
            self.outputs.append(line)
        elif match := _GROUP.fullmatch(line):
            self.heads.append(match)
        else:
            return self.take_pair(line)
        return True

    def take_pair(self, line: str) -> bool:
        for pattern, found in self.pairs.items():
            if match := pattern.fullmatch(line):
                found.append((self.whole(match[1]), self.whole(match[2])))
                return True
        return False

    def graph(self) -> tuple[Graph, dict[int, Node]]:
        """All nodes as a graph in their order, and each by the `id` of its item."""
        ordered = sorted(self.items, key=lambda item: item.place)
        nodes = [line for item in ordered for line in item.node]
        text = "\n".join(['graph "fused"', *self.interface, *nodes, *self.outputs, "end"])
        graph = read_graph(text, self.ops, self.name)
        for value in (*(i.value for i in graph.inputs), *(r for node in graph.nodes for r in node.results)):
            self.values[value.index] = value
        return graph, {id(item): node for item, node in zip(ordered, graph.nodes, strict=True)}

    def group(self, place: int, head: re.Match[str], nodes: dict[int, Node]) -> Group:
        kinds = {kind.value: kind for kind in GroupKind}
        if head[2] not in kinds:
            raise DataError(f"{head[2]} is no kind of group", self.name)
        members = tuple(self.member(item, nodes[id(item)]) for item in self.items if item.group == place)
        split = None if head[4] is None else self.split(head[4], head[5].split(" x "))
        return Group(self.whole(head[1]), kinds[head[2]], self.extent(head[3]), split, members)

    def split(self, kind: str, extents: list[str]) -> Split:
        found = [self.extent(text) for text in extents]
        if len(found) != (2 if kind == "rows" else 3):
            raise DataError(f"a split into {kind} has {len(found)} extents", self.name)
        return RowSplit(*found) if kind == "rows" else ColumnSplit(*found)

    def member(self, item: _Item, node: Node) -> Member:
        match = _READS.fullmatch(item.reads[0]) if item.reads else None
        if match is None:
            raise DataError(f"the node at {item.place} does not name its operands", self.name)
        links = tuple(self.link(found) for found in _LINK.finditer(match[2]))
        gates = tuple(self.value(self.whole(index)) for index in re.findall(r"%(\d+)", match[3] or ""))
        body = None
        if len(item.reads) > 1:
            body = read_fused(dedent("\n".join(item.reads[2:])), self.ops, self.name)
        return Member(node, item.place, Space(match[1]), links, gates, body)

    def link(self, match: re.Match[str]) -> Link:
        source = self.value(self.whole(match[1]))
        axes = tuple(self.map(text) for text in match[2].split(", ")) if match[2] else ()
        if len(axes) not in (0, source.type.rank):
            raise DataError(f"%{match[1]} is read along {len(axes)} axes and has {source.type.rank}", self.name)
        found = self.map(match[3].removeprefix(" at ")) if match[3] else address(source.type.shape, axes)
        edges = tuple(self.edge(text) for text in match[4].split("; ")) if match[4] else ()
        return Link(source, found, axes, edges)

    def edge(self, text: str) -> Edge:
        index, _, extent = text.partition(" < ")
        found = self.map(index)
        return Edge(found.offset, found.terms, self.whole(extent))

    def map(self, text: str) -> IndexMap:
        offset, terms = 0, list[IndexTerm]()
        for part in text.split(" + "):
            if re.fullmatch(r"-?\d+", part):
                offset += self.whole(part)
            elif match := _TERM.fullmatch(part):
                modulus = None if match[2] is None else self.whole(match[2])
                terms.append(IndexTerm(self.whole(match[1] or "1"), modulus, self.whole(match[3] or "1")))
            else:
                raise DataError(f"{part!r} is no term of an index", self.name)
        return IndexMap(offset, tuple(terms))

    def extent(self, text: str) -> Extent:
        match = _EXTENT.fullmatch(text)
        if match is None:
            raise DataError(f"{text!r} is no extent", self.name)
        return BatchExtent(self.whole(match[1] or "1")) if text.endswith("batch") else self.whole(text)

    def value(self, index: int) -> Value:
        if index not in self.values:
            raise DataError(f"nothing defines %{index}", self.name)
        return self.values[index]

    def whole(self, text: str) -> int:
        if not re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
            raise DataError(f"{text[:40]!r} is no whole number of at most 18 digits", self.name)
        return int(text)
