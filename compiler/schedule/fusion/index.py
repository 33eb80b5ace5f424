"""Who computes and who reads each value of a fused graph; kept up to date by the passes that change one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field, replace

from compiler.graph.ir import Node, Value
from compiler.ops.sources import Iota
from compiler.schedule.addresses import IndexMap, insert_map
from compiler.schedule.fusion.ir import FusedGraph, Group, Link, Member
from compiler.schedule.numerics.internal_ops import Insert
from compiler.support.record import mutable_record


@mutable_record
class GroupIndex:
    """Groups by number, members by key; of each value by its index: its group, the node that makes it, its readers."""

    groups: dict[int, Group] = field(default_factory=dict[int, Group])
    members: dict[int, Member] = field(default_factory=dict[int, Member])
    homes: dict[int, int] = field(default_factory=dict[int, int])
    makers: dict[int, Node] = field(default_factory=dict[int, Node])
    readers: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    removed: list[tuple[int, Node]] = field(default_factory=list[tuple[int, Node]])

    @classmethod
    def of(cls, fused: FusedGraph) -> GroupIndex:
        placed = [(group.number, member) for group in fused.groups for member in group.members]
        makers = {result.index: node for _, node in fused.unplaced for result in node.results}
        makers.update({result.index: member.node for _, member in placed for result in member.node.results})
        readers: dict[int, list[int]] = {}
        for _, member in placed:
            key = member.node.results[0].index
            for link in member.links:
                source = link.source.index
                if source not in readers:
                    readers[source] = [key]
                elif readers[source][-1] != key:
                    readers[source].append(key)
        return cls(
            {group.number: group for group in fused.groups},
            {member.node.results[0].index: member for _, member in placed},
            {result.index: number for number, member in placed for result in member.node.results},
            makers,
            readers,
        )

    def add(self, group: Group) -> None:
        self.groups[group.number] = group
        for member in group.members:
            self._register(member, group.number)

    def _register(self, member: Member, number: int) -> None:
        node = member.node
        key = node.results[0].index
        self.members[key] = member
        for result in node.results:
            self.homes[result.index] = number
            self.makers[result.index] = node
        for source in {link.source.index: None for link in member.links}:
            self.readers.setdefault(source, []).append(key)

    def put(self, group: Group) -> None:
        """Another group in the place of that of its number, whose members were registered before."""
        number = group.number
        self.groups[number] = group
        for member in group.members:
            results = member.node.results
            self.members[results[0].index] = member
            for result in results:
                self.homes[result.index] = number

    def append(self, number: int, member: Member) -> None:
        """A further member of a group."""
        group = self.groups[number]
        self.groups[number] = replace(group, members=(*group.members, member))
        self._register(member, number)

    def change(self, key: int, links: Sequence[Link]) -> None:
        """Other links of a member."""
        old, group = self.members[key], self.groups[self.homes[key]]
        new = self.members[key] = replace(old, links=tuple(links))
        self.groups[group.number] = replace(group, members=tuple([new if m is old else m for m in group.members]))
        before, behind = ({link.source.index: None for link in m.links} for m in (old, new))
        for source in before:
            if source not in behind:
                self.readers[source].remove(key)
        for source in behind:
            if source not in before:
                self.readers.setdefault(source, []).append(key)

    def remove(self, key: int) -> None:
        """Take out a member whose results nothing reads."""
        member, group = self.members.pop(key), self.groups[self.homes[key]]
        self.groups[group.number] = replace(group, members=tuple([m for m in group.members if m is not member]))
        self.removed.append((member.place, member.node))
        for result in member.node.results:
            del self.homes[result.index]
        for source in dict.fromkeys([link.source.index for link in member.links]):
            self.readers[source].remove(key)

    def rebuilt(self, fused: FusedGraph) -> FusedGraph:
        """The fused graph with the groups that still have members, and the nodes of removed ones in none."""
        groups = tuple(group for group in self.groups.values() if group.members)
        return replace(fused, groups=groups, unplaced=(*fused.unplaced, *self.removed))

    def group_of(self, value: Value) -> Group | None:
        """The group that computes a value; None for inputs and nodes that no group computes."""
        return self.groups[self.homes[value.index]] if value.index in self.homes else None

    def maker(self, value: Value) -> Member:
        """The member that computes a value."""
        return self.members[self.makers[value.index].results[0].index]

    def readers_of(self, value: Value) -> list[Member]:
        return [self.members[key] for key in self.readers.get(value.index, ())]

    def direct_needs(self, group: Group) -> set[int]:
        """The numbers of the other groups whose results a group needs."""
        homes, members = self.homes, group.members
        found = {homes[link.source.index] for m in members for link in m.links if link.source.index in homes}
        others = [value for m in members for value in m.gates]
        others += [m.node.operands[0] for m in members if type(m.node.op) is Insert]
        found |= {homes[value.index] for value in others if value.index in homes}
        return found - {group.number}

    def addresses_of(self, members: Iterable[Member]) -> list[IndexMap]:
        """All addresses that members compute from their own index."""
        found: list[IndexMap] = []
        for member in members:
            for link in member.links:
                found.append(link.address)
                if link.edges:
                    found += [IndexMap(0, edge.terms) for edge in link.edges]
                if link.source.index in self.makers:
                    op = self.makers[link.source.index].op
                    if type(op) is Iota:
                        found.append(link.axes[op.axis])
            if type(member.node.op) is Insert:
                found.append(insert_map(member.node))
        return found
