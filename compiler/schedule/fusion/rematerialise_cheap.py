"""A value that groups could compute from their own operands is computed in each of them, and not stored for them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import field, replace

from compiler.graph.ir import Node, Value
from compiler.graph.op import Category
from compiler.loops.ir import Space
from compiler.schedule.addresses import IDENTITY, count
from compiler.schedule.fusion import cost, legality
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import CONTRACTIONS, INLINE, FusedGraph, Group, GroupKind, Link, Member
from compiler.schedule.numerics.internal_ops import Copy, Insert
from compiler.schedule.to_loops import COSTLY
from compiler.support.record import mutable_record
from compiler.tuning import Tuning
from compiler.types import elements


def rematerialise_cheap(fused: FusedGraph) -> FusedGraph:
    """The fused graph in which cheap members stand again in the groups that read them."""
    index, outputs = GroupIndex.of(fused), {output.value.index for output in fused.outputs}
    _Rematerialising(
        index,
        fused.machine.tuning,
        outputs,
        1 + max([*index.makers, *(i.value.index for i in fused.inputs)], default=-1),
    ).run()
    return index.rebuilt(fused)


@mutable_record
class _Rematerialising:
    index: GroupIndex
    tuning: Tuning
    outputs: set[int]
    fresh: int  # index of the next value
    written: set[int] = field(default_factory=set[int])  # values that would have to be stored for the one in question
    copies: dict[tuple[int, int], Value] = field(default_factory=dict[tuple[int, int], Value])
    copied_from: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])  # the keys of copies

    def run(self) -> None:
        for number in reversed(list(self.index.groups)):
            for member in reversed(self.index.groups[number].members):
                # readers of a value are made again before the value itself
                if member.key in self.index.members and self.is_cheap(member.node):
                    self.make_again(self.index.members[member.key], number)
        for number in dict.fromkeys(number for _, number in self.copies):
            self.put_in_order(number)

    def put_in_order(self, number: int) -> None:
        """Each member behind those of the group that it reads."""
        group = self.index.groups[number]
        waiting = {member.key: member for member in group.members}
        ordered: list[Member] = []

        def visit(member: Member) -> None:
            if waiting.pop(member.key, None) is None:
                return
            for link in member.links:
                if self.index.homes.get(link.source.index) == number:
                    visit(self.index.maker(link.source))
            ordered.append(member)

        for member in group.members:
            visit(member)
        self.index.groups[number] = replace(group, members=tuple(ordered))

    def outside(self, value: Value, home: int) -> Iterator[tuple[int, Member, int]]:
        """The readers of a value in other groups, with the number of the link."""
        for reader in self.index.readers_of(value):
            number = self.index.homes[reader.key]
            if number != home:
                yield from ((number, reader, k) for k, link in enumerate(reader.links) if link.source == value)

    def is_cheap(self, node: Node) -> bool:
        is_plain = node.op.category is Category.ELEMENTWISE and not isinstance(node.op, Copy)
        return is_plain and node.op.name not in COSTLY and node.results[0].index not in self.outputs

    def make_again(self, member: Member, home: int) -> None:
        """Compute a value in each group that reads it, where this reads less than storing it would write and read."""
        value = member.node.results[0]
        readers = list(self.outside(value, home))
        groups = dict.fromkeys(number for number, _, _ in readers)
        if not readers or count(elements(value.type.shape)) < self.tuning.again_share**2:
            return
        total = 0
        self.written = set()
        for number in groups:
            group = self.index.groups[number]
            fits = all(_at_own_element(reader, k) for other, reader, k in readers if other == number)
            extra = (
                self.cost(member, group, self.tuning.again_depth)
                if fits and group.kind is not GroupKind.ALONE
                else None
            )
            if extra is None:
                return
            total += extra
        if total > value.type.dtype.size * (1 + len(groups)):
            return
        for number in groups:
            self.read_again(member, number, dict.fromkeys(r.key for other, r, _ in readers if other == number))
        self.remove_unread(member, home)

    def read_again(self, member: Member, number: int, readers: Collection[int]) -> None:
        """Let readers in a group read the value as this group computes it."""
        value = member.node.results[0]
        first = next(m for m in self.index.groups[number].members if m.key in readers)
        again = self.copied(member, number, first)
        for key in readers:
            links = self.index.members[key].links
            moved = [Link(again, k.address, k.axes) if k.source == value else k for k in links]
            self.index.change(key, moved)

    def remove_unread(self, member: Member, home: int) -> None:
        """Take a member that nothing reads any more out of its group, and what was there for it alone."""
        value = member.node.results[0]
        is_free = member.node.op.category is Category.ELEMENTWISE and value.index not in self.outputs
        if not is_free or self.index.readers.get(value.index) or member.key not in self.index.members:
            return
        self.index.remove(member.key)
        if member.key in self.copied_from:
            del self.copies[self.copied_from[member.key]]
        for source in dict.fromkeys(link.source for link in member.links):
            if self.index.homes.get(source.index) == home:
                self.remove_unread(self.index.maker(source), home)

    def cost(self, member: Member, group: Group, budget: int) -> int | None:
        """Bytes for each element that `group` reads more when it makes the value; None where it cannot."""
        if budget <= 0 or not self.takes(group, member):
            return None
        total = 0
        for link in member.links:
            if self.is_free(link, member.node, group):
                continue
            size = link.source.type.dtype.size
            if self.is_stored(link):
                total += size
                continue
            maker = self.index.maker(link.source)
            if not self.is_cheap(maker.node):
                total += size * (1 if link.source.index in self.written else 2)
                self.written.add(link.source.index)
                continue
            further = self.cost(maker, group, budget - 1)
            if further is None or link.address != IDENTITY:
                return None
            total += further
        return total

    def takes(self, group: Group, member: Member) -> bool:
        """Whether the split of a group, where it is decided, divides what one more member reads."""
        if group.kind is GroupKind.PRODUCT:
            return cost.reads_neighbours((*group.members, member))
        return legality.divides(group.split, member, self.index)

    def is_free(self, link: Link, node: Node, group: Group) -> bool:
        """Whether the operand is small, made in place, or read by the group already."""
        maker = self.index.makers.get(link.source.index)
        if maker is not None and isinstance(maker.op, INLINE):
            return True
        size = self.tuning.again_share * count(elements(link.source.type.shape))
        return size <= count(elements(node.results[0].type.shape)) or any(
            link.source == other.source and link.address == other.address for m in group.members for other in m.links
        )

    def is_stored(self, link: Link) -> bool:
        """Whether the operand lies in memory in any case."""
        home = self.index.group_of(link.source)
        if home is None or link.source.index in self.outputs or home.kind is GroupKind.ALONE:
            return True
        if isinstance(self.index.makers[link.source.index].op, Insert):
            return True
        return any(True for _ in self.outside(link.source, home.number))

    def copied(self, member: Member, number: int, reader: Member) -> Value:
        """The value of `member`, made once more in the group of that number, before `reader`."""
        key = (member.key, number)
        if key not in self.copies:
            links = list(member.links)
            for k, link in enumerate(links):
                if not self.stays(link, member.node, number):
                    again = self.copied(self.index.maker(link.source), number, reader)
                    links[k] = Link(again, link.address, link.axes)
            value = Value(self.fresh, member.node.results[0].type)
            self.fresh += 1
            node = replace(member.node, results=(value,))
            self.index.append(number, Member(node, reader.place, Space.FULL, tuple(links)))
            self.copies[key], self.copied_from[value.index] = value, key
        return self.copies[key]

    def stays(self, link: Link, node: Node, number: int) -> bool:
        """Whether a copy reads an operand where the node itself does."""
        if self.is_free(link, node, self.index.groups[number]) or self.is_stored(link):
            return True
        return not self.is_cheap(self.index.maker(link.source).node)


def _at_own_element(reader: Member, number: int) -> bool:
    if isinstance(reader.node.op, (*CONTRACTIONS, Insert)) or reader.node.op.category is Category.INDEXING:
        return False
    return reader.links[number].address == IDENTITY and reader.space is Space.FULL
