"""Who computes and who reads each value of a fused graph; kept up to date by the passes that change one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from compiler.graph.ir import Node, Value
from compiler.loops.ir import Space
from compiler.ops.sources import Iota
from compiler.schedule.access import IndexMap
from compiler.schedule.fusion.ir import FusedGraph, Group, Link, Member
from compiler.schedule.placement import Insert, insert_form


@dataclass(slots=True)
class Index:
    """Groups by number, members by key; of each value by its index: its group, the node that makes it, its readers."""

    groups: dict[int, Group] = field(default_factory=dict[int, Group])
    members: dict[int, Member] = field(default_factory=dict[int, Member])
    homes: dict[int, int] = field(default_factory=dict[int, int])
    makers: dict[int, Node] = field(default_factory=dict[int, Node])
    readers: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    removed: list[tuple[int, Node]] = field(default_factory=list[tuple[int, Node]])

    @classmethod
    def of(cls, fused: FusedGraph) -> Index:
        index = cls(makers={result.index: node for _, node in fused.unplaced for result in node.results})
        for group in fused.groups:
            index.add(group)
        return index

    def add(self, group: Group) -> None:
        self.groups[group.number] = group
        for member in group.members:
            self._register(member, group.number)

    def _register(self, member: Member, number: int) -> None:
        self.members[member.key] = member
        for result in member.node.results:
            self.homes[result.index] = number
            self.makers[result.index] = member.node
        for source in dict.fromkeys([link.source.index for link in member.links]):
            self.readers.setdefault(source, []).append(member.key)

    def put(self, group: Group) -> None:
        """Another group in the place of that of its number, whose members were registered before."""
        self.groups[group.number] = group
        for member in group.members:
            self.members[member.key] = member
            for result in member.node.results:
                self.homes[result.index] = group.number

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
        number = self.homes.get(value.index)
        return None if number is None else self.groups[number]

    def maker(self, value: Value) -> Member:
        """The member that computes a value."""
        return self.members[self.makers[value.index].results[0].index]

    def readers_of(self, value: Value) -> list[Member]:
        return [self.members[key] for key in self.readers.get(value.index, ())]

    def direct_needs(self, group: Group) -> set[int]:
        """The numbers of the other groups whose results a group needs."""
        homes = self.homes
        found = {homes[value.index] for member in group.members for value in member.needs if value.index in homes}
        return found - {group.number}

    def addresses_of(self, members: Iterable[Member]) -> list[IndexMap]:
        """All addresses that members compute from their own index."""
        found: list[IndexMap] = []
        for member in members:
            for link in member.links:
                found.append(link.address)
                found += [IndexMap(0, edge.terms) for edge in link.edges]
                node = self.makers.get(link.source.index)
                if node is not None and isinstance(node.op, Iota):
                    found.append(link.axes[node.op.axis])
            if isinstance(member.node.op, Insert):
                found.append(insert_form(member.node))
        return found


def with_space(member: Member, space: Space) -> Member:
    """The member with its index in another space."""
    return member if member.space is space else replace(member, space=space)
