"""Joins graph nodes into kernels: each node starts as its own group, and groups merge along their edges.

A merge is legal when no path leads from one group to the other through a third, and when every value that crosses
the border lies, for its reader, at the reader's own place: the same element, its row, or its column.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from compiler.diagnostics import CompilerBug
from compiler.graph.ir import Direction, Graph, Node, Value
from compiler.graph.op import Category
from compiler.loops.ir import Edge, Space, Term
from compiler.ops.contraction import Contraction
from compiler.ops.indexing import Gather, ScatterAdd
from compiler.ops.movement import Broadcast, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import CumulativeSum, Max, Min, Sum
from compiler.ops.sources import BatchSize, Constant, Iota
from compiler.ops.window import Window
from compiler.record import record
from compiler.schedule.access import (
    IDENTITY,
    Form,
    address,
    axis_forms,
    count,
    split_form,
    splits_evenly,
    through,
)
from compiler.schedule.after import After
from compiler.schedule.ordered import OrderedContraction
from compiler.schedule.parts import PartialContraction
from compiler.schedule.placement import Empty, Insert, Pick, insert_form
from compiler.schedule.product_sum import ProductSum
from compiler.schedule.split import ColumnSplit, RowSplit, Split, reduction_split
from compiler.types import BatchExtent, Extent, Shape, elements

VIEWS = (Transpose, Broadcast, Slice, Reshape, Reverse, Window, After)
REDUCTIONS = (Sum, ProductSum, Max, Min)
CONTRACTIONS = (Contraction, PartialContraction, OrderedContraction)
INLINE = (Constant, Iota, BatchSize)  # made again wherever they are used
LARGEST_GROUP = 120


@record
class Link:
    """One operand of a node: the stored value behind its views, and that value's address for the node's index."""

    source: Value
    form: Form
    forms: tuple[Form, ...]
    edges: tuple[Edge, ...] = ()  # outside of which it is 0; terms of the index, as in `form`


@dataclass(slots=True, eq=False)
class Group:
    """Nodes that become one kernel. `spaces` says for each node how its own domain lies in that of the group."""

    number: int
    nodes: list[Node]
    domain: Extent
    split: Split | None
    spaces: dict[int, Space]
    alone: bool = False
    is_tile: bool = False

    @property
    def bit(self) -> int:
        return 1 << self.number


def node_key(node: Node) -> int:
    """Nodes are told apart by their first result."""
    return node.results[0].index


def domain_shape(node: Node) -> Shape:
    """The shape that a node walks: of what it reduces, of the part that it inserts, of its result otherwise."""
    match node.op:
        case Sum() | ProductSum() | Max() | Min() | CumulativeSum():
            return node.operands[0].type.shape
        case Insert() | ScatterAdd():
            return node.operands[1].type.shape
        case _:
            return node.results[0].type.shape


@dataclass(slots=True)
class Links:
    """Resolves operands through views; remembers which views no form can express."""

    producers: dict[int, Node]
    opaque: set[int] = field(default_factory=set[int])
    gates: dict[int, list[Value]] = field(default_factory=dict[int, list[Value]])  # what a node comes after

    def is_view(self, value: Value) -> bool:
        node = self.producers.get(value.index)
        return node is not None and isinstance(node.op, VIEWS) and value.index not in self.opaque

    def of(self, node: Node, operand: Value, forms: tuple[Form, ...]) -> Link:
        while self.is_view(operand):
            view = self.producers[operand.index]
            moved = through(view, forms)
            if moved is None:
                self.opaque.add(operand.index)
                break
            if isinstance(view.op, After):
                self.gates.setdefault(node_key(node), []).append(view.operands[1])
            forms, operand = moved, view.operands[0]
        return Link(operand, address(operand.type.shape, forms), forms)

    def elementwise(self, node: Node) -> tuple[Link, ...]:
        """The links of a node that walks its domain element by element."""
        forms = axis_forms(domain_shape(node))
        match node.op:
            case Insert():
                index = tuple(self.of(node, operand, ()) for operand in node.operands[2:])
                return (self.of(node, node.operands[1], forms), *index)
            case Pick():
                return (self.of(node, node.operands[0], (Form(),)), self.of(node, node.operands[1], forms))
            case Gather(axis=axis, by_row=by_row):
                end = axis + node.operands[1].type.rank - by_row
                index = self.of(node, node.operands[1], (*forms[:by_row], *forms[axis:end]))
                rest = (*forms[:axis], Form(), *forms[end:])
                return (self.of(node, node.operands[0], rest), index)
            case Transpose() | Broadcast() | Slice() | Reshape() | Reverse() | Window():
                moved = through(node, forms)
                if moved is None:
                    types = f"{node.operands[0].type} to {node.results[0].type}"
                    raise CompilerBug("fuse", f"no address for {node.op.name} of {types}")
                return (self.of(node, node.operands[0], moved),)
            case _:
                return tuple(self.of(node, o, forms if o.type.shape else ()) for o in node.operands)


def is_elementwise(node: Node) -> bool:
    return (
        node.op.category is Category.ELEMENTWISE
        or isinstance(node.op, (*REDUCTIONS, Gather, Pick, Insert, *VIEWS))
        or node.op.name == "random_uniform"
    )


@dataclass(slots=True)
class Fuser:
    """State of the search. `ancestors[g]` is a bitset of the groups that g needs, directly or not; `needed` of all.

    A group that was merged into another is no longer among them.
    """

    links: Links
    without: Collection[str] = ()  # names of merges that are not made
    groups: list[Group] = field(default_factory=list[Group])
    home: dict[int, Group] = field(default_factory=dict[int, Group])
    ancestors: dict[int, int] = field(default_factory=dict[int, int])
    needed: int = 0
    node_links: dict[int, tuple[Link, ...]] = field(default_factory=dict[int, tuple[Link, ...]])
    readers: dict[int, list[Node]] = field(default_factory=dict[int, list[Node]])

    def place(self, node: Node) -> None:
        """Give `node` a group of its own, then merge it with the groups that it reads from."""
        group = self.new_group(node)
        if group.alone:
            return
        tried: set[int] = set()
        beside = [link.source for link in self.node_links[node_key(node)]] + self.links.gates.get(node_key(node), [])
        if group.domain == 1:
            beside += self.numbers_beside(node)
        for value in sorted(beside, key=lambda v: -self.rank(v)):
            other = self.home.get(value.index)
            if other is None or other is self.home[node_key(node)] or other.number in tried:
                continue
            tried.add(other.number)
            self.merge(other, self.home[node_key(node)])

    def numbers_beside(self, node: Node) -> list[Value]:
        """Other single numbers that are computed from one of the same inputs: settings, say, or the step."""
        inputs = [link.source.index for link in self.node_links[node_key(node)] if link.source.index not in self.home]
        others = [other for index in inputs for other in self.readers[index] if other is not node]
        return [other.results[0] for other in others if self.home[node_key(other)].domain == 1]

    def rank(self, value: Value) -> int:
        group = self.home.get(value.index)
        return -1 if group is None else group.number

    def new_group(self, node: Node) -> Group:
        walks = is_elementwise(node)
        links = self.links.elementwise(node) if walks else self.operand_links(node)
        self.node_links[node_key(node)] = links
        for link in links:
            view = self.links.producers.get(link.source.index)
            if view is not None and isinstance(view.op, VIEWS) and link.source.index not in self.home:
                self.place(view)  # no form sees through this view, so it becomes a copy
        split = reduction_split(node) if isinstance(node.op, REDUCTIONS) else None
        if not self.divides(split, node):
            self.links.opaque.update(operand.index for operand in node.operands)  # so its views become copies
            return self.new_group(node)
        group = Group(
            len(self.groups),
            [node],
            elements(domain_shape(node)),
            split,
            {node_key(node): Space.FULL},
            alone=not walks and not isinstance(node.op, CONTRACTIONS),
            is_tile=isinstance(node.op, CONTRACTIONS),
        )
        self.groups.append(group)
        above = 0
        for value in self.needs(node):
            if producer := self.home.get(value.index):
                above |= producer.bit | self.ancestors[producer.number]
        self.ancestors[group.number] = above
        self.needed |= above
        for result in node.results:
            self.home[result.index] = group
        for link in links:
            self.readers.setdefault(link.source.index, []).append(node)
        return group

    def sources(self, node: Node) -> tuple[Value, ...]:
        found = [link.source for link in self.node_links[node_key(node)]]
        if isinstance(node.op, Insert):
            found.append(node.operands[0])
        return tuple(found)

    def needs(self, node: Node) -> tuple[Value, ...]:
        """What a node reads, and what it comes after."""
        return (*self.sources(node), *self.links.gates.get(node_key(node), ()))

    def forms_of(self, node: Node) -> list[Form]:
        """All addresses that a node computes from its own index."""
        links = self.node_links[node_key(node)]
        forms = [link.form for link in links] + [Form(0, edge.terms) for link in links for edge in link.edges]
        made = [(link, self.links.producers.get(link.source.index)) for link in links]
        forms += [link.forms[n.op.axis] for link, n in made if n is not None and isinstance(n.op, Iota)]
        return [*forms, insert_form(node)] if isinstance(node.op, Insert) else forms

    def divides(self, split: Split | None, node: Node, space: Space = Space.FULL) -> bool:
        """Whether every address of a node is one of the row and one of the column, as its `space` counts them."""
        if split is None or space is Space.ROW:
            return True
        if space is Space.COLUMN and isinstance(split, ColumnSplit) and split.outer == 1:
            return True
        return all(splits_evenly(form, split.columns) for form in self.forms_of(node))

    def operand_links(self, node: Node) -> tuple[Link, ...]:
        return tuple(self.links.of(node, o, axis_forms(o.type.shape)) for o in node.operands)

    def merge(self, producer: Group, consumer: Group) -> None:
        """Join the two where legal; the consumer's number stays free."""
        if producer.alone or consumer.alone or (producer.is_tile and consumer.is_tile):
            return
        if len(producer.nodes) + len(consumer.nodes) > LARGEST_GROUP or not self.no_third(producer, consumer):
            return
        joined = self.joined(producer, consumer)
        if joined is None or (self.without and self.name_of_merge(producer, consumer) in self.without):
            return
        producer.nodes.extend(consumer.nodes)
        producer.split, producer.spaces, producer.domain = joined.split, joined.spaces, joined.domain
        producer.is_tile = joined.is_tile
        for node in consumer.nodes:
            for result in node.results:
                self.home[result.index] = producer
        before = self.ancestors[producer.number]
        gained = (self.ancestors.pop(consumer.number) | before) & ~producer.bit & ~consumer.bit
        self.ancestors[producer.number] = gained
        either = producer.bit | consumer.bit
        if self.needed & (either if gained != before else consumer.bit):  # or nothing changes for those below
            for number, above in self.ancestors.items():
                if above & either and number != producer.number:
                    self.ancestors[number] = (above & ~consumer.bit) | producer.bit | gained
            self.needed |= producer.bit
        consumer.nodes = []
        consumer.number = producer.number

    def no_third(self, producer: Group, consumer: Group) -> bool:
        """No path from one to the other passes through another group, and none leads back."""
        if self.ancestors[producer.number] & consumer.bit:
            return False
        direct = {
            self.home[value.index].number
            for node in consumer.nodes
            for value in self.needs(node)
            if value.index in self.home
        }
        others = direct - {producer.number, consumer.number}
        return not any(self.ancestors[number] & producer.bit for number in others)

    def crossing(self, producer: Group, consumer: Group) -> list[tuple[Node, Link]]:
        """What the one reads of the other."""
        return [
            (node, link)
            for node in consumer.nodes
            for link in self.node_links[node_key(node)]
            if self.home.get(link.source.index) is producer
        ]

    def joined(self, producer: Group, consumer: Group) -> Group | None:
        crossing = self.crossing(producer, consumer)
        if any(self.is_filled_by(producer, node) for node in consumer.nodes):
            return None
        for candidate in candidates(producer, consumer):
            if candidate.is_tile and not self.reads_plainly(candidate):
                continue
            fits = all(self.fits(candidate, node, link) for node, link in crossing)
            if fits and self.takes_apart(candidate, producer) and self.takes_apart(candidate, consumer):
                return candidate
        return None

    def takes(self, group: Group, node: Node) -> bool:
        """Whether the walk of a group, where it is decided, divides what one more node reads."""
        if group.is_tile:
            return self.reads_plainly(replace(group, nodes=[*group.nodes, node]))
        return self.divides(group.split, node)

    def takes_apart(self, candidate: Group, group: Group) -> bool:
        """Whether the walk that a group gets from another divides what it reads."""
        split, spaces = candidate.split, candidate.spaces
        return group.split is not None or all(self.divides(split, n, spaces[node_key(n)]) for n in group.nodes)

    def name_of_merge(self, producer: Group, consumer: Group) -> str:
        """Which of `FUSIONS` joining the two is."""
        if is_update(producer) != is_update(consumer):
            return "update"
        crossing = self.crossing(producer, consumer)
        if any(isinstance(node.op, Insert) for node, _ in crossing):
            return "parts"
        if producer.is_tile or consumer.is_tile:
            return self.name_of_stage(producer, consumer)
        if any(isinstance(self.links.producers[link.source.index].op, REDUCTIONS) for _, link in crossing):
            return "rows"
        if any(isinstance(node.op, REDUCTIONS) for node, _ in crossing):
            return "reductions"
        links = [*self.outer_links(producer, consumer), *self.outer_links(consumer, producer)]
        moved = [link.source for link in links if link.form.terms and link.form != IDENTITY]
        is_large = any(count(elements(source.type.shape)) >= count(producer.domain) for source in moved)
        return "windows" if is_large else "chains"

    def outer_links(self, group: Group, other: Group) -> list[Link]:
        """What a group reads that comes from neither of the two."""
        links = [link for node in group.nodes for link in self.node_links[node_key(node)]]
        return [link for link in links if self.home.get(link.source.index) not in (group, other)]

    def name_of_stage(self, producer: Group, consumer: Group) -> str:
        """The same for a product and elementwise nodes behind it, by what else these read."""
        product, stage = (producer, consumer) if producer.is_tile else (consumer, producer)
        if any(origin.direction is Direction.BACKWARD for node in stage.nodes for origin in node.origins):
            return "slopes"
        forms = [link.form for link in self.outer_links(stage, product)]
        if IDENTITY in forms:
            return "residual"
        return "bias" if any(form.terms for form in forms) else "activation"

    def reads_plainly(self, group: Group) -> bool:
        """Whether the stage of a product reads neighbours along its columns; scattered ones would cost more."""
        (product,) = (node for node in group.nodes if isinstance(node.op, CONTRACTIONS))
        assert isinstance(product.op, CONTRACTIONS)
        type_, width = product.results[0].type, 1
        offset = type_.rank - len(product.op.out)
        for label, extent in zip(product.op.out, type_.shape[offset:], strict=True):
            width *= 1 if label in product.op.lhs else count(extent)
        for node in group.nodes:
            for link in () if node is product else self.node_links[node_key(node)]:
                if not splits_evenly(link.form, width):
                    return False
                low = split_form(link.form, width)[1]
                if len(low) > 1 or any((term.divisor, term.stride) != (1, 1) for term in low):
                    return False
        return True

    def is_filled_by(self, group: Group, node: Node) -> bool:
        """Whether an insertion must wait for that group. Those into one tensor are apart and may come in any order."""
        if not isinstance(node.op, Insert) or self.home.get(node.operands[0].index) is not group:
            return False
        return not isinstance(self.links.producers[node.operands[0].index].op, Insert)

    def fits(self, group: Group, node: Node, link: Link) -> bool:
        reader = group.spaces[node_key(node)]
        producer = self.links.producers[link.source.index]
        source = result_space(producer, group)
        if isinstance(node.op, CONTRACTIONS):
            return False  # a product needs its operands complete
        if isinstance(node.op, Gather | Pick) and link is self.node_links[node_key(node)][0]:
            return False  # so does a gathered table
        if isinstance(producer.op, Insert):
            return False
        return at_own_place(group, reader, source, link.form)


def is_update(group: Group) -> bool:
    """Whether all that a group does is part of the update of parameters."""
    return all(origin.direction is Direction.UPDATE for node in group.nodes for origin in node.origins)


def result_space(node: Node, group: Group) -> Space:
    """Where the result of a node lies in its group's domain."""
    if isinstance(node.op, REDUCTIONS):
        assert group.split is not None
        return Space.ROW if isinstance(group.split, RowSplit) else Space.COLUMN
    return group.spaces[node_key(node)]


def at_own_place(group: Group, reader: Space, source: Space, form: Form) -> bool:
    if form.offset:
        return False
    if reader is source:
        return form == IDENTITY or (form.terms == () and group_size(group, reader) == 1)
    split = group.split
    if split is None or reader is not Space.FULL:
        return False
    if source is Space.ROW and isinstance(split, RowSplit):
        if isinstance(split.columns, BatchExtent) or split.rows == 1:
            return form.terms == ()
        return form.terms == (Term(split.columns, None, 1),)
    if source is Space.COLUMN and isinstance(split, ColumnSplit):
        columns = count(split.columns)
        if split.outer == 1:
            return form.terms == (Term(1, columns, 1),)
        if isinstance(split.rows, int):
            return form.terms == (Term(split.rows * columns, None, columns), Term(1, columns, 1))
    return False


def group_size(group: Group, space: Space) -> Extent:
    if space is Space.FULL or group.split is None:
        return group.domain
    if space is Space.ROW:
        return group.split.rows
    outer = group.split.outer if isinstance(group.split, ColumnSplit) else 1
    return elements((outer, count(group.split.columns)))


def candidates(producer: Group, consumer: Group) -> Sequence[Group]:
    """The groups that the two could become, before their crossing values are looked at."""
    found: list[Group] = []
    nodes, is_tile = [*producer.nodes, *consumer.nodes], producer.is_tile or consumer.is_tile
    if producer.domain == consumer.domain and (
        producer.split is None or consumer.split is None or producer.split == consumer.split
    ):
        split = producer.split or consumer.split
        if split is None or not is_tile:
            spaces = {**producer.spaces, **consumer.spaces}
            found.append(replace(producer, nodes=nodes, split=split, spaces=spaces, is_tile=is_tile))
    if is_tile:
        return found
    for space in (Space.ROW, Space.COLUMN):
        whole = {Space.FULL: space}
        if takes_in(producer, consumer, space):
            spaces = {k: whole.get(s, s) for k, s in consumer.spaces.items()}
            found.append(replace(producer, nodes=nodes, spaces={**producer.spaces, **spaces}))
        if takes_in(consumer, producer, space):
            spaces = {k: whole.get(s, s) for k, s in producer.spaces.items()} | consumer.spaces
            domain = consumer.domain
            found.append(replace(producer, nodes=nodes, split=consumer.split, domain=domain, spaces=spaces))
    return found


def takes_in(group: Group, other: Group, space: Space) -> bool:
    """Whether the domain of `other` is one value for each row, or each column, of `group`."""
    if group.split is None or other.split is not None or group_size(group, space) != other.domain:
        return False
    return isinstance(group.split, RowSplit) == (space is Space.ROW)


def fuse(graph: Graph, without: Collection[str] = ()) -> tuple[list[Group], Fuser]:
    """The groups of `graph`, in no particular order, and the fuser that knows their links."""
    producers = {r.index: node for node in graph.nodes for r in node.results}
    fuser = Fuser(Links(producers), without)
    for node in graph.nodes:
        if isinstance(node.op, (*INLINE, *VIEWS, Empty)):
            continue
        fuser.place(node)
    return [g for g in fuser.groups if g.nodes], fuser
