"""Checks the invariants of a fused graph."""

from __future__ import annotations

from collections import Counter
from math import prod
from operator import itemgetter

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.ir import Graph, Value
from compiler.graph.op import Category
from compiler.graph.verify import InvalidGraph, expect_valid
from compiler.loops.ir import Space
from compiler.ops.scan import Scan
from compiler.schedule.addresses import address
from compiler.schedule.fusion import ir
from compiler.schedule.fusion.ancestry import Ancestry
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.legality import at_own_place, divides, reads_inside, result_space, size_of
from compiler.schedule.fusion.links import is_elementwise
from compiler.schedule.fusion.order import in_order
from compiler.schedule.fusion.printer import print_fused
from compiler.schedule.numerics.internal_ops import Empty, Insert
from compiler.schedule.split import reduction_split
from compiler.support.record import mutable_record
from compiler.types import at_batch, elements

BATCHES = (1, 3)  # for which addresses are checked


def verify_fused(fused: ir.FusedGraph, stage: str = "fusion") -> None:
    """Raise `CompilerBug` for values that are not defined once, addresses outside of values, groups that no kernel can
    compute or that wait for each other, and memory that is written before its last read."""
    try:
        expect_valid_fused(fused)
    except InvalidGraph as broken:
        raise CompilerBug(stage, str(broken), print_fused(fused)) from None


def expect_valid_fused(fused: ir.FusedGraph) -> None:
    """As `verify_fused`, for a fused graph that a user wrote. Raises `InvalidGraph`."""
    for member in (member for group in fused.groups for member in group.members):
        if (member.body is None) is isinstance(member.node.op, Scan):
            raise InvalidGraph(f"%{member.key} has a body and is no scan, or the other way round")
        if member.body is not None:
            expect_valid_fused(member.body)
    _Check(fused, GroupIndex.of(fused)).run()


@mutable_record
class _Check:
    fused: ir.FusedGraph
    index: GroupIndex

    def run(self) -> None:
        self.check_definitions()
        self.check_types()
        for group in self.fused.groups:
            self.check_kind(group)
            for member in group.members:
                self.check_space(group, member)
                for number, link in enumerate(member.links):
                    self.check_link(member, number, link)
            self.check_reads_inside(group)
        self.check_order()
        self.check_aliases()

    def check_definitions(self) -> None:
        """Values and numbers of groups are defined once, and outputs are computed or given."""
        made = [result for group in self.fused.groups for m in group.members for result in m.node.results]
        apart = [result for _, node in self.fused.unplaced for result in node.results]
        given = [entry.value for entry in self.fused.inputs]
        for index, times in Counter(value.index for value in (*given, *apart, *made)).items():
            if times > 1:
                raise InvalidGraph(f"%{index} is defined {times} times")
        for number, times in Counter(group.number for group in self.fused.groups).items():
            if times > 1:
                raise InvalidGraph(f"{times} groups have the number {number}")
        known = {value.index for value in (*given, *made)}
        for value in (*(output.value for output in self.fused.outputs), *(copy.value for copy in self.fused.copies)):
            if value.index not in known:
                raise InvalidGraph(f"no group computes %{value.index}, which is an output or copied to an input")

    def check_types(self) -> None:
        """In the order of the graph, each node has the types of its op's rule."""
        members = [(m.place, m.node) for group in self.fused.groups for m in group.members]
        nodes = [node for _, node in sorted((*self.fused.unplaced, *members), key=itemgetter(0))]
        expect_valid(Graph(self.fused.name, self.fused.inputs, tuple(nodes), self.fused.outputs))

    # one group

    def check_kind(self, group: ir.Group) -> None:
        """A product has one contraction; a group without has none, and only members that are computed by element."""
        nodes = [member.node for member in group.members]
        products = sum(isinstance(node.op, ir.CONTRACTIONS) for node in nodes)
        others = sum(not is_elementwise(node) for node in nodes) - products
        expected = {ir.GroupKind.PRODUCT: (1, 0), ir.GroupKind.ELEMENTS: (0, 0), ir.GroupKind.ALONE: (0, 1)}[group.kind]
        if not nodes or (products, others) != expected or (group.kind is ir.GroupKind.ALONE and len(nodes) > 1):
            raise InvalidGraph(f"group {group.number} is no group of kind {group.kind.value}")

    def check_space(self, group: ir.Group, member: ir.Member) -> None:
        """The elements of a member are those of its space; a reduction goes over the columns or rows of its group."""
        operands = len(member.node.operands) - isinstance(member.node.op, Insert)  # which does not read its base
        if len(member.links) != operands:
            raise InvalidGraph(f"%{member.key} reads {len(member.links)} values, and its op {operands}")
        size = elements(ir.domain_shape(member.node))
        if group.kind is not ir.GroupKind.ALONE and size_of(group.domain, group.split, member.space) != size:
            raise InvalidGraph(
                f"%{member.key} has {size} elements, and the space {member.space.value} of its group has not"
            )
        if isinstance(member.node.op, ir.REDUCTIONS):
            self.check_reduction(group, member)
        if group.kind is ir.GroupKind.ELEMENTS and not divides(group.split, member, self.index, member.space):
            raise InvalidGraph(f"rows and columns of group {group.number} do not divide an address of %{member.key}")

    def check_reduction(self, group: ir.Group, member: ir.Member) -> None:
        """A reduction goes over whole rows, or whole columns, of its group."""
        node, split = member.node, reduction_split(member.node)
        if member.space is not Space.FULL or group.split != split:
            raise InvalidGraph(f"%{member.key} reduces other rows or columns than its group has")
        if elements(node.results[0].type.shape) != size_of(group.domain, split, result_space(node, Space.FULL, split)):
            raise InvalidGraph(f"%{member.key} reduces axes that lie apart in memory")

    def check_link(self, member: ir.Member, number: int, link: ir.Link) -> None:
        """A source is given, computed by a group, or made in place; its address is that of its axes and lies in it."""
        source = link.source
        maker = self.index.makers.get(source.index)
        is_given = any(entry.value == source for entry in self.fused.inputs)
        is_made = source.index in self.index.homes or (maker is not None and isinstance(maker.op, (*ir.INLINE, Empty)))
        if not (is_given or is_made):
            raise InvalidGraph(f"%{member.key} reads %{source.index}, which is no input and which no group computes")
        if link.axes and link.address != address(source.type.shape, link.axes):
            raise InvalidGraph(f"%{member.key} reads %{source.index} at another address than its axes say")
        if not link.edges and not all(_lies_inside(member, number, batch) for batch in BATCHES):
            raise InvalidGraph(f"%{member.key} reads outside of %{source.index}")

    def check_reads_inside(self, group: ir.Group) -> None:
        """A value that a member reads of its own group is computed by an earlier one, at the reader's own place."""
        known: set[int] = set()
        for member in group.members:
            for link in member.links:
                if self.index.homes.get(link.source.index) != group.number:
                    continue
                if link.source.index not in known:
                    raise InvalidGraph(f"%{member.key} stands before %{link.source.index}, which it reads")
                maker = self.index.maker(link.source)
                source = result_space(maker.node, maker.space, group.split)
                is_own = at_own_place(group.domain, group.split, member.space, source, link.address)
                if not is_own or not reads_inside(member, link, maker.node):
                    raise InvalidGraph(
                        f"%{member.key} reads elements of %{link.source.index} that are not at its own place"
                    )
            known.update(result.index for result in member.node.results)

    # all groups

    def check_order(self) -> None:
        """Groups do not wait for each other; ordered ones stand behind all that they wait for."""
        for pair in self.fused.before:
            if not {*pair} <= self.index.groups.keys():
                raise InvalidGraph(f"group {pair[0]} is to come before group {pair[1]}, and one of them does not exist")
        try:
            in_order(self.fused, self.index)
        except CompilerBug as bug:
            raise InvalidGraph(str(bug)) from None
        if not self.fused.is_ordered:
            return
        place = {group.number: place for place, group in enumerate(self.fused.groups)}
        needs = [(other, group.number) for group in self.fused.groups for other in self.index.direct_needs(group)]
        for first, second in (*needs, *self.fused.before):
            if place[first] > place[second]:
                raise InvalidGraph(f"group {second} stands before group {first}, for which it waits")

    def check_aliases(self) -> None:
        """Values share memory of their size, once each; an overwritten value is read before."""
        targets = {alias.value.index: alias.target for alias in self.fused.aliases}
        if len(targets) < len(self.fused.aliases):
            raise InvalidGraph("a value lies in two places")
        ancestry = Ancestry.of(self.index)
        for first, second in self.fused.before:
            ancestry.put_before(first, second)
        for alias in self.fused.aliases:
            self.check_alias(alias, targets, ancestry)

    def check_alias(self, alias: ir.Alias, targets: dict[int, Value], ancestry: Ancestry) -> None:
        value, target = alias.value, alias.target
        if elements(value.type.shape) != elements(target.type.shape) or value.type.dtype is not target.type.dtype:
            raise InvalidGraph(f"%{value.index} has not the size of %{target.index}, in which it lies")
        seen = {value.index}
        while target.index in targets and target.index not in seen:
            seen.add(target.index)
            target = targets[target.index]
        if target.index in seen:
            raise InvalidGraph(f"%{value.index} lies in itself")
        writer = self.index.homes.get(value.index)
        if writer is None:
            raise InvalidGraph(f"no group computes %{value.index}, which lies in %{target.index}")
        if isinstance(self.index.makers[value.index].op, Insert | Scan):
            return  # it only goes on with what lies there
        for reader in self.index.readers_of(alias.target):
            number = self.index.homes[reader.key]
            if number != writer and not ancestry.needs(writer, number):
                raise InvalidGraph(
                    f"group {number} may read %{alias.target.index} after group {writer} has overwritten it"
                )


def _lies_inside(member: ir.Member, number: int, batch: int) -> bool:
    """Whether all addresses of a link lie in its source, where the batch has that size."""
    link, node = member.links[number], member.node
    shape = ir.domain_shape(node) if is_elementwise(node) else node.operands[number].type.shape
    last = prod(at_batch(shape, batch)) - 1
    if node.op.category is Category.INDEXING or last < 0:
        return True  # the address is moved by an index
    spans = [
        (last // term.divisor if term.modulus is None else min(last // term.divisor, term.modulus - 1)) * term.stride
        for term in link.address.terms
    ]
    low, high = (link.address.offset + sum(s for s in spans if (s > 0) is up) for up in (False, True))
    return low >= 0 and high < prod(at_batch(link.source.type.shape, batch))
