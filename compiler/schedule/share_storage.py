"""After fusion: values that lie somewhere already are read there, and cheap ones are made again where they are read.

So what is written into a part of another value (a padded image) is stored there only; and what a later kernel could
compute from its own operands is not stored for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from compiler.graph.ir import Graph, Node, Value
from compiler.graph.op import Category
from compiler.loops.ir import Space, Term
from compiler.schedule.access import IDENTITY, Form, add, address, count, split_form, splits_evenly
from compiler.schedule.copy import Copy
from compiler.schedule.fuse import CONTRACTIONS, INLINE, Fuser, Group, Link, node_key
from compiler.schedule.placement import Insert
from compiler.schedule.to_loops import COSTLY
from compiler.types import elements

DEEPEST = 4  # ops that are done again for one value
SMALL = 16  # what has this many times fewer elements than a value costs nothing to read
DENSE = ((), (Term(1, None, 1),))


def share_storage(graph: Graph, groups: Sequence[Group], fuser: Fuser, position: dict[int, int]) -> list[Group]:
    """Change the links of `fuser` so that less is stored, and give the groups that are left.

    Nodes that are made again get the `position` of a reader.
    """
    outputs = {output.value.index for output in graph.outputs}
    fresh = 1 + max((result.index for node in graph.nodes for result in node.results), default=0)
    _Sharing(groups, fuser, position, outputs, fresh).run()
    return [group for group in groups if group.nodes]


@dataclass(slots=True)
class _Sharing:
    groups: Sequence[Group]
    fuser: Fuser
    position: dict[int, int]
    outputs: set[int]
    fresh: int
    written: set[int] = field(default_factory=set[int])  # what would have to be stored for the value in question
    copies: dict[tuple[int, int], Value] = field(default_factory=dict[tuple[int, int], Value])

    def run(self) -> None:
        if "shared" not in self.fuser.without:
            self.share()
        if "again" not in self.fuser.without:
            self.spare()

    def share(self) -> None:
        for group in self.groups:
            for node in group.nodes:
                if isinstance(node.op, Insert):
                    self.read_from(node, node.op, group)

    def spare(self) -> None:
        for group in reversed(self.groups):
            for node in reversed(tuple(group.nodes)):  # what needs a value is made again before the value itself
                if self.is_cheap(node):
                    self.make_again(node, group)
        made = {value.index for value in self.copies.values()}
        for group in self.groups:
            if any(node_key(node) in made for node in group.nodes):
                self.put_in_order(group)

    def put_in_order(self, group: Group) -> None:
        """Each node behind those of the group that it reads."""
        waiting = {node_key(node): node for node in group.nodes}
        ordered: list[Node] = []

        def visit(node: Node) -> None:
            if waiting.pop(node_key(node), None) is None:
                return
            for link in self.fuser.node_links[node_key(node)]:
                if self.fuser.home.get(link.source.index) is group:
                    visit(self.maker(link))
            ordered.append(node)

        for node in group.nodes:
            visit(node)
        group.nodes[:] = ordered

    def outside(self, value: Value, home: Group) -> Iterator[tuple[Group, Node, int]]:
        """The readers of a value in other groups, with the number of the link."""
        for reader in tuple(self.fuser.readers.get(value.index, ())):
            group = self.fuser.home[node_key(reader)]
            if group is not home:
                for number, link in enumerate(self.fuser.node_links[node_key(reader)]):
                    if link.source == value:
                        yield group, reader, number

    def replace(self, reader: Node, number: int, link: Link) -> None:
        links = list(self.fuser.node_links[node_key(reader)])
        before, links[number] = links[number], link
        self.fuser.node_links[node_key(reader)] = tuple(links)
        for source in (before.source, link.source):
            known = [node for node in self.fuser.readers.get(source.index, ()) if node is not reader]
            if any(other.source == source for other in links):
                known.append(reader)
            self.fuser.readers[source.index] = known

    # what is stored as a part of another value

    def read_from(self, insert: Node, op: Insert, home: Group) -> None:
        """Let other groups read the part of an insertion where it was put."""
        part, whole = insert.operands[1], insert.results[0]
        link = self.fuser.node_links[node_key(insert)][0]
        if (
            op.axis is not None
            or link.source != part
            or self.fuser.home.get(part.index) is not home
            or part.index in self.outputs
        ):
            return
        for group, reader, number in self.outside(part, home):
            before = self.fuser.node_links[node_key(reader)][number]
            forms = tuple(add(Form(start), form) for start, form in zip(op.starts, before.forms, strict=True))
            moved = Link(whole, address(whole.type.shape, forms), forms)
            # Another insertion may put the same part into the same whole, which it must not read.
            if not isinstance(reader.op, Insert) and self.can_read(group, reader, number, moved.form):
                self.replace(reader, number, moved)

    def can_read(self, group: Group, reader: Node, number: int, form: Form) -> bool:
        """Whether the reader's walk finds neighbours side by side in the other place too."""
        if isinstance(reader.op, CONTRACTIONS):
            labels = (reader.op.lhs, reader.op.rhs)[number]
            columns = [label for label in reader.op.out if label in labels and label not in reader.op.lhs]
            return number == 0 or len(columns) == 1
        if group.alone or group.is_tile or reader.op.category is Category.INDEXING:
            return False
        if group.split is None:
            return True
        return splits_evenly(form, group.split.columns) and split_form(form, group.split.columns)[1] in DENSE

    # what is made again

    def is_cheap(self, node: Node) -> bool:
        is_plain = node.op.category is Category.ELEMENTWISE and not isinstance(node.op, Copy)
        return is_plain and node.op.name not in COSTLY and node.results[0].index not in self.outputs

    def make_again(self, node: Node, home: Group) -> None:
        """Compute a value in each group that reads it, where this reads less than storing it would write and read."""
        value = node.results[0]
        readers = list(self.outside(value, home))
        groups = {group.number: group for group, _, _ in readers}
        if not readers or count(elements(value.type.shape)) < SMALL * SMALL:
            return
        cost = 0
        self.written = set()
        for group in groups.values():
            here = [(reader, number) for g, reader, number in readers if g is group]
            fits = all(self.at_own_element(group, reader, number) for reader, number in here)
            extra = self.cost(node, group, DEEPEST) if fits and not group.alone else None
            if extra is None:
                return
            cost += extra
        if cost > value.type.dtype.size * (1 + len(groups)):
            return
        for group in groups.values():
            mine = [(reader, number) for g, reader, number in readers if g is group]
            first = min((reader for reader, _ in mine), key=group.nodes.index)
            again = self.copied(node, group, first)
            for reader, number in mine:
                before = self.fuser.node_links[node_key(reader)][number]
                self.replace(reader, number, Link(again, before.form, before.forms))
        self.remove_unread(node, home)

    def remove_unread(self, node: Node, home: Group) -> None:
        """Take a node that nothing reads any more out of its group, and what was there for it alone."""
        value = node.results[0]
        is_free = node.op.category is Category.ELEMENTWISE and value.index not in self.outputs
        if not is_free or self.fuser.readers.get(value.index) or node not in home.nodes:
            return
        home.nodes.remove(node)
        self.copies = {key: copy for key, copy in self.copies.items() if copy != value}
        for link in self.fuser.node_links[node_key(node)]:
            known = self.fuser.readers[link.source.index]
            if node in known:
                known.remove(node)
            if self.fuser.home.get(link.source.index) is home:
                self.remove_unread(self.fuser.links.producers[link.source.index], home)

    def at_own_element(self, group: Group, reader: Node, number: int) -> bool:
        if isinstance(reader.op, CONTRACTIONS) or reader.op.category is Category.INDEXING:
            return False
        is_own = self.fuser.node_links[node_key(reader)][number].form == IDENTITY
        return is_own and group.spaces[node_key(reader)] is Space.FULL and not isinstance(reader.op, Insert)

    def cost(self, node: Node, group: Group, budget: int) -> int | None:
        """Bytes for each element that `group` reads more when it makes the value; None where it cannot."""
        if budget <= 0 or not self.fuser.takes(group, node):
            return None
        total = 0
        for link in self.fuser.node_links[node_key(node)]:
            if self.is_free(link, node, group):
                continue
            if self.is_stored(link):
                total += link.source.type.dtype.size
                continue
            if not self.is_cheap(self.maker(link)):
                total += link.source.type.dtype.size * (1 if link.source.index in self.written else 2)
                self.written.add(link.source.index)
                continue
            further = self.cost(self.maker(link), group, budget - 1)
            if further is None or link.form != IDENTITY:
                return None
            total += further
        return total

    def maker(self, link: Link) -> Node:
        return self.fuser.links.producers[link.source.index]

    def is_free(self, link: Link, node: Node, group: Group) -> bool:
        """Whether the operand is small, made in place, or read by the group already."""
        producer = self.fuser.links.producers.get(link.source.index)
        if producer is not None and isinstance(producer.op, INLINE):
            return True
        is_small = SMALL * count(elements(link.source.type.shape)) <= count(elements(node.results[0].type.shape))
        return is_small or any(
            link.source == other.source and link.form == other.form for other in self.links_of(group)
        )

    def is_stored(self, link: Link) -> bool:
        """Whether the operand lies in memory in any case."""
        home = self.fuser.home.get(link.source.index)
        if home is None or link.source.index in self.outputs or home.alone:
            return True
        if isinstance(self.fuser.links.producers[link.source.index].op, Insert):
            return True
        return any(True for _ in self.outside(link.source, home))

    def copied(self, node: Node, group: Group, reader: Node) -> Value:
        """The value of `node`, made once more in `group`, before `reader`."""
        key = (node_key(node), group.number)
        if key not in self.copies:
            links = [
                link
                if self.is_free(link, node, group) or self.is_stored(link) or not self.is_cheap(self.maker(link))
                else Link(self.copied(self.maker(link), group, reader), link.form, link.forms)
                for link in self.fuser.node_links[node_key(node)]
            ]
            value = Value(self.fresh, node.results[0].type)
            self.fresh += 1
            again = Node(node.op, node.operands, (value,), node.origins)
            fuser = self.fuser
            fuser.links.producers[value.index], fuser.home[value.index] = again, group
            fuser.node_links[value.index] = tuple(links)
            for link in links:
                fuser.readers.setdefault(link.source.index, []).append(again)
            group.nodes.append(again)
            group.spaces[value.index] = Space.FULL
            self.position[value.index] = self.position[node_key(reader)]
            self.copies[key] = value
        return self.copies[key]

    def links_of(self, group: Group) -> Iterator[Link]:
        for node in group.nodes:
            yield from self.fuser.node_links[node_key(node)]
