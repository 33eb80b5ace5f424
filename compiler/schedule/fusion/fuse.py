"""Joins graph nodes into kernels: each node starts as its own group, and groups merge along their edges.

A merge is made when no path leads from one group to the other through a third, when it is legal (`legality`), when it
pays (`cost`), and when the fusion of its name (`naming`) is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import field, replace
from operator import attrgetter
from typing import TypeAlias

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphOutput, Node, Role, Value
from compiler.loops.ir import Space
from compiler.machine import GENERIC, Machine
from compiler.ops.movement import Reshape, Slice
from compiler.ops.scan import Scan
from compiler.schedule.fusion import cost, ir, legality
from compiler.schedule.fusion.ancestry import Ancestry
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.links import Resolver, is_elementwise
from compiler.schedule.fusion.naming import name_of_merge
from compiler.schedule.numerics.fix_numerics import fix_numerics
from compiler.schedule.numerics.internal_ops import Empty, Insert
from compiler.schedule.split import reduction_split
from compiler.support.record import mutable_record
from compiler.types import elements

UNPLACED = (*ir.INLINE, *ir.VIEWS, Empty)


Told: TypeAlias = Callable[[str, ir.Group, ir.Group], None]
"""Is given each merge as it is made: the name of the fusion, and the groups that become one."""


def fuse(
    graph: Graph, without: Collection[str] = (), batch: int = 32, machine: Machine = GENERIC, told: Told | None = None
) -> ir.FusedGraph:
    """The fused graph of a graph whose order is fixed, without the fusions of the given names."""
    return _Fuser(graph, without, batch, machine, told).run()


@mutable_record
class _Fuser:
    """The groups so far, and which of them come before which."""

    graph: Graph
    without: Collection[str]
    batch: int
    machine: Machine
    told: Told | None
    index: GroupIndex = field(default_factory=GroupIndex)
    ancestry: Ancestry = field(default_factory=Ancestry)
    resolver: Resolver = field(init=False)
    places: dict[int, int] = field(default_factory=dict[int, int])
    groups: int = 0

    def run(self) -> ir.FusedGraph:
        nodes = self.graph.nodes
        self.index.makers = {result.index: node for node in nodes for result in node.results}
        self.resolver = Resolver(self.index.makers)
        self.places = {node.results[0].index: place for place, node in enumerate(nodes)}
        for node in nodes:
            if not isinstance(node.op, UNPLACED):
                self.place(node)
        members = self.index.members
        unplaced = tuple([(place, n) for place, n in enumerate(nodes) if n.results[0].index not in members])
        ends = self.graph.inputs, unplaced, tuple(map(_in_order, self.index.groups.values())), self.graph.outputs
        return ir.FusedGraph(self.graph.name, self.batch, *ends, machine=self.machine)

    def place(self, node: Node) -> None:
        """Give `node` a group of its own, then merge it with the groups that it reads from."""
        group = self.new_group(node)
        if group.kind is ir.GroupKind.ALONE:
            return
        (member,) = group.members
        tried: set[int] = set()
        beside = [*(link.source for link in member.links), *member.gates]
        if group.domain == 1:
            beside += self.numbers_beside(member)
        homes, key = self.index.homes, node.results[0].index
        for _, index in sorted([(-homes[v.index], v.index) for v in beside if v.index in homes]):
            other, own = homes[index], homes[key]
            if other != own and other not in tried:
                tried.add(other)
                self.merge(self.index.groups[other], self.index.groups[own])

    def numbers_beside(self, member: ir.Member) -> list[Value]:
        """Other single numbers that are computed from one of the same inputs: settings, say, or the step."""
        index = self.index
        inputs = [link.source for link in member.links if link.source.index not in index.homes]
        others = [other for value in inputs for other in index.readers_of(value) if other.key != member.key]
        return [m.node.results[0] for m in others if index.groups[index.homes[m.key]].domain == 1]

    def new_group(self, node: Node) -> ir.Group:
        links, gates = self.resolver.links_of(node)
        for link in links:
            view = self.index.makers.get(link.source.index)
            if view is not None and isinstance(view.op, ir.VIEWS) and link.source.index not in self.index.homes:
                self.place(view)  # no index map leads through this view, so it becomes a copy
        body = None
        if isinstance(node.op, Scan):
            body = fuse(body_on_stacks(node.op), self.without, self.batch, self.machine, self.told)
        member = ir.Member(node, self.places[node.results[0].index], Space.FULL, links, gates, body)
        split = reduction_split(node) if isinstance(node.op, ir.REDUCTIONS) else None
        if not legality.divides(split, member, self.index):
            self.resolver.opaque.update(operand.index for operand in node.operands)  # so its views become copies
            return self.new_group(node)
        is_product = isinstance(node.op, ir.CONTRACTIONS)
        kind = (
            ir.GroupKind.PRODUCT
            if is_product
            else ir.GroupKind.ELEMENTS
            if is_elementwise(node)
            else ir.GroupKind.ALONE
        )
        group = ir.Group(self.groups, kind, elements(ir.domain_shape(node)), split, (member,))
        self.groups += 1
        self.ancestry.add(group.number, self.index.direct_needs(group))
        self.index.add(group)
        return group

    def merge(self, producer: ir.Group, consumer: ir.Group) -> None:
        """Join the two where they may be; the consumer's number stays free."""
        kinds = producer.kind, consumer.kind
        if ir.GroupKind.ALONE in kinds or kinds == (ir.GroupKind.PRODUCT, ir.GroupKind.PRODUCT):
            return
        if not cost.is_small_enough(producer, consumer, self.machine.tuning) or not self.no_third(producer, consumer):
            return
        crossing = self.crossing(producer, consumer)
        merge = legality.legal_merge(producer, consumer, crossing, self.index)
        if merge is None or (
            merge.kind is ir.GroupKind.PRODUCT and not cost.reads_neighbours((*producer.members, *consumer.members))
        ):
            return
        if self.without or self.told is not None:
            name = name_of_merge(producer, consumer, crossing, self.index)
            if name in self.without:
                return
            if self.told is not None:
                self.told(name, producer, consumer)
        members = (*self.moved(producer, merge.producer), *self.moved(consumer, merge.consumer))
        del self.index.groups[consumer.number]
        self.index.put(ir.Group(producer.number, merge.kind, merge.domain, merge.split, members))
        self.ancestry.join(producer.number, consumer.number)

    def moved(self, group: ir.Group, whole: Space) -> tuple[ir.Member, ...]:
        """The members of a group whose whole domain becomes another space."""
        if whole is Space.FULL:
            return group.members
        return tuple([replace(m, space=whole) if m.space is Space.FULL else m for m in group.members])

    def no_third(self, producer: ir.Group, consumer: ir.Group) -> bool:
        """No path from one to the other passes through another group, and none leads back."""
        if self.ancestry.needs(producer.number, consumer.number):
            return False
        above, number = self.ancestry.above, producer.number
        others = self.index.direct_needs(consumer) - {number}
        return not [other for other in others if above[other] >> number & 1]

    def crossing(self, producer: ir.Group, consumer: ir.Group) -> list[tuple[ir.Member, ir.Link]]:
        """The values that the one reads of the other."""
        homes, number = self.index.homes, producer.number
        links = [(member, link, link.source.index) for member in consumer.members for link in member.links]
        return [(member, link) for member, link, source in links if source in homes and homes[source] == number]


def _in_order(group: ir.Group) -> ir.Group:
    """The group with its members in the order of the graph."""
    members = tuple(sorted(group.members, key=attrgetter("place")))
    return ir.Group(group.number, group.kind, group.domain, group.split, members)


def body_on_stacks(op: Scan) -> Graph:
    """Inputs: the stacks of x, the carries, the captures. Outputs: the carries, updated, and the emitted stacks.

    Everything is said for place 0 along the scanned axis; a step at another place begins so much further on.
    """
    builder = GraphBuilder(op.body.name)
    arguments: list[Value] = []
    for number, entry in enumerate(op.body.inputs):
        is_carry = 0 <= number - op.scanned < op.carries
        type_ = op.stacked(entry.value.type) if number < op.scanned else entry.value.type
        value = builder.input(entry.name, Role.STATE if is_carry else Role.DATA, type_)
        arguments.append(_element(builder, value) if number < op.scanned else value)
    found = builder.inline(op.body, arguments)
    for number, entry in enumerate(op.body.outputs):
        carry = op.body.inputs[op.scanned + number].name if number < op.carries else None
        builder.output(entry.name, Role.OUTPUT if carry is None else Role.STATE, found[entry.name], carry)
    return _with_stacks(op, fix_numerics(builder.build()))


def _element(builder: GraphBuilder, stack: Value) -> Value:
    shape = stack.type.shape
    part = builder.emit(Slice((0,) * len(shape), (1, *shape[1:]), (1,) * len(shape)), stack)
    return builder.emit(Reshape(shape[1:]), part)


def _with_stacks(op: Scan, fixed: Graph) -> Graph:
    builder = GraphBuilder.continuing(fixed)
    producers = {r.index: node for node in fixed.nodes for r in node.results}
    outputs: list[GraphOutput] = []
    for number, entry in enumerate(fixed.outputs):
        value = entry.value
        if number >= op.carries:
            with builder.at(producers[value.index].origins):
                stack = builder.emit(Empty(op.stacked(value.type)))
                for starts, part in _parts(value, producers):
                    element = builder.emit(Reshape((1, *part.type.shape)), part)
                    stack = builder.emit(Insert((0, *starts)), stack, element)
            value = stack
        outputs.append(GraphOutput(entry.name, entry.role, value, entry.updates))
    return Graph(fixed.name, fixed.inputs, (*fixed.nodes, *builder.nodes), tuple(outputs))


def _parts(value: Value, producers: dict[int, Node]) -> list[tuple[tuple[int, ...], Value]]:
    """The parts of a value that was put together, each with its place, so that they go into the stack one by one."""
    parts: list[tuple[tuple[int, ...], Value]] = []
    node = producers[value.index]
    while isinstance(node.op, Insert):
        parts.insert(0, (node.op.starts, node.operands[1]))
        node = producers[node.operands[0].index]
    return parts if parts and isinstance(node.op, Empty) else [((0,) * value.type.rank, value)]
