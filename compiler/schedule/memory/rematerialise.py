"""Rematerialisation: the backward pass computes cheap values again instead of keeping them.

Runs on the fixed graph, in front of fusion. The same ops are done again on the same numbers in the same order,
so no bit changes. Chen, Xu, Zhang & Guestrin, "Training deep nets with sublinear memory cost", 2016.

A value is *early* when it is known before the loss, and *kept* when a later node reads it. A kept value that comes from
others by elementwise ops and short products may be computed again: from values that are kept in any case, or from
*roots* that are not, if these are smaller than all that comes from them, as the input of an activation is, of which
result and slope are kept. Values of one op and type are decided alike, so that equal blocks of a network keep equal
kernels: where one of them could be computed again only if another were kept, as in a chain of residual blocks, all are
kept. `After` puts what is done again behind a *gate*, a product of the backward pass; without it, fusion would do it
early, beside its first time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field, replace

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Direction, Graph, Node, Role, Value, behind, needed_by
from compiler.graph.op import Category
from compiler.ops.scan import Scan
from compiler.ops.sources import BatchSize, Constant, Iota
from compiler.schedule.addresses import VIEWS
from compiler.schedule.fusion.ir import CONTRACTIONS
from compiler.schedule.numerics.internal_ops import After, Copy, SplitContraction
from compiler.support.record import mutable_record, record
from compiler.tuning import Tuning
from compiler.types import TensorType, depends_on_batch, elements, size_at

SOURCES = (Constant, Iota, BatchSize)
FREE = (*VIEWS, *SOURCES)
HEAVY = (Category.CONTRACTION, Category.CONTROL)
LASTING = (Role.PARAMETER, Role.SETTING, Role.SEED, Role.STEP)
DRAWS = ("threefry", "random_uniform")


def rematerialise(graph: Graph, batch: int, tuning: Tuning) -> Graph:
    """The graph of a training step in which late nodes read rematerialised values, where this saves much.

    Bytes are counted at the nominal `batch`.
    """
    loss = next((output.value for output in graph.outputs if output.name == "loss"), None)
    if loss is None or all(output.updates is None for output in graph.outputs):
        return graph
    timeline = Timeline.of(graph, loss, batch, tuning)
    kept = timeline.kept()
    if sum(map(timeline.size, kept)) < tuning.spared_bytes:
        return graph
    choice = Rematerialisation(timeline, kept)
    return _Rewriter(timeline, choice).run() if choice.choose() >= tuning.spared_bytes else graph


@mutable_record
class Timeline:
    """When each value of a graph is known, counted in products on the longest way to it; `end` is the loss's."""

    graph: Graph
    batch: int
    tuning: Tuning
    producers: dict[int, Node]
    times: dict[int, int]
    forward: set[int]  # values on which the loss depends
    lasting: set[int]  # inputs that stay as they are until the end of the step
    end: int
    uses: dict[int, list[Node]] = field(default_factory=dict[int, list[Node]])  # late readers, behind views
    sizes: dict[TensorType, int] = field(default_factory=dict[TensorType, int])

    @classmethod
    def of(cls, graph: Graph, loss: Value, batch: int, tuning: Tuning) -> Timeline:
        producers = {result.index: node for node in graph.nodes for result in node.results}
        times = {entry.value.index: 0 for entry in graph.inputs}
        for node in graph.nodes:
            time = max([times[operand.index] for operand in node.operands], default=0)
            if node.op.category in HEAVY:
                time += isinstance(node.op, (*CONTRACTIONS, Scan))
            for result in node.results:
                times[result.index] = time
        _, forward = needed_by(graph.nodes, (loss.index,))
        lasting = {entry.value.index for entry in graph.inputs if entry.role in LASTING}
        return cls(graph, batch, tuning, producers, times, forward, lasting, times[loss.index])

    def is_late(self, node: Node) -> bool:
        value = node.results[0]
        return self.times[value.index] >= self.end and value.index not in self.forward

    def size(self, value: Value) -> int:
        """Bytes at the nominal batch."""
        if (known := self.sizes.get(value.type)) is not None:
            return known
        found = value.type.dtype.size * size_at(elements(value.type.shape), self.batch)
        return self.sizes.setdefault(value.type, found)

    def stored(self, value: Value) -> Value:
        """The value behind views."""
        return behind(value, self.producers, VIEWS)

    def kept(self) -> list[Value]:
        """The large early values of the batch that late nodes read, in the order in which they are made."""
        found: dict[int, Value] = {}
        for node in self.graph.nodes:
            if not self.is_late(node) or isinstance(node.op, VIEWS):
                continue
            early = [operand for operand in node.operands if self.times[operand.index] < self.end]
            for value in dict.fromkeys(map(self.stored, early)):
                is_large = self.size(value) >= self.tuning.spared_value_bytes
                if is_large and value.index in self.producers and depends_on_batch(value.type.shape):
                    found[value.index] = value
                    self.uses.setdefault(value.index, []).append(node)
        return [result for node in self.graph.nodes for result in node.results if result.index in found]

    def is_repeatable(self, node: Node) -> bool:
        """Whether doing a node a second time costs less than keeping its result."""
        op = node.op
        if isinstance(op, CONTRACTIONS):
            shape = dict(zip(op.lhs, node.operands[0].type.shape, strict=True))
            summed = tuple(extent for label, extent in shape.items() if label in op.rhs and label not in op.out)
            length = elements(summed)
            return not isinstance(op, SplitContraction) and isinstance(length, int) and length <= self.tuning.spared_sum
        is_plain = op.category is Category.ELEMENTWISE and not isinstance(op, Copy) and op.name not in DRAWS
        return is_plain or isinstance(op, FREE)


@record
class Way:
    """How a value is computed again: from `leaves`; of these, `reads` are large, and `roots` would have to be kept.

    It `is_cheap` without products and where the leaves are kept in any case.
    """

    leaves: frozenset[int]
    reads: frozenset[int]
    roots: frozenset[int]
    is_cheap: bool


@mutable_record
class Rematerialisation:
    """Which of the kept `values` are computed `again`, and by which way."""

    timeline: Timeline
    values: list[Value]
    again: dict[int, Way] = field(default_factory=dict[int, Way])
    kept: set[int] = field(default_factory=set[int])
    roots: dict[int, Value] = field(default_factory=dict[int, Value])

    def choose(self) -> int:
        """Decide; the bytes of rematerialised values."""
        self.kept = {value.index for value in self.values}
        possible = {v.index for v in self.values if (way := self.way(v)) is not None and not way.roots}
        families: dict[frozenset[int], list[Value]] = {}
        taken: set[int] = set()
        for value in self.values:
            way = self.way(value)
            if way is not None and way.roots:
                families.setdefault(way.roots, []).append(value)
            elif way is not None:
                taken.add(value.index)
                self.kept.discard(value.index)
        for roots, family in families.items():
            added = sum(self.timeline.size(self.roots[root]) for root in roots - self.kept)
            if added < sum(map(self.timeline.size, family)):
                members = {value.index for value in family}
                taken |= members
                self.kept = (self.kept | roots) - members
        self.settle(taken, possible)
        return sum(self.timeline.size(value) for value in self.values if value.index in self.again)

    def settle(self, taken: set[int], possible: set[int]) -> None:
        """Drop from `taken` what has no way, and all of a kind of which one was `possible` and is not taken."""
        while True:
            ways = {value.index: self.way(value) for value in self.values if value.index in taken}
            self.again = {index: way for index, way in ways.items() if way is not None and not way.roots}
            left = (taken | possible) - self.again.keys()
            uneven = {self.kind(value) for value in self.values if value.index in left}
            dropped = {value.index for value in self.values if value.index in taken and self.kind(value) in uneven}
            if not dropped:
                return
            taken -= dropped
            self.kept |= dropped

    def kind(self, value: Value) -> tuple[str, TensorType]:
        """The common properties of values that are decided alike."""
        return self.timeline.producers[value.index].op.name, value.type

    def way(self, target: Value) -> Way | None:
        """How to compute `target` from other values; None where this takes too much."""
        timeline, tuning, size = self.timeline, self.timeline.tuning, self.timeline.size(target)
        leaves: set[int] = set()
        reads: set[int] = set()
        roots: set[int] = set()
        seen = {target.index}
        todo = [target]
        ops, is_cheap = 0, True
        while todo:
            value = todo.pop()
            node = timeline.producers.get(value.index)
            is_free = node is not None and isinstance(node.op, FREE)
            if value is not target and not is_free:
                is_small = timeline.size(value) * tuning.spared_beside <= size
                if is_small or value.index in self.kept or value.index in timeline.lasting:
                    is_cheap = is_cheap and value.index not in self.roots
                    leaves.add(value.index)
                    reads.update(() if is_small else (value.index,))
                    continue
            if node is None or not timeline.is_repeatable(node):
                if value is target:
                    return None
                roots.add(value.index)
                self.roots[value.index] = value
                continue
            ops, is_cheap = ops + (not is_free), is_cheap and not isinstance(node.op, CONTRACTIONS)
            for operand in node.operands:
                if operand.index not in seen:
                    seen.add(operand.index)
                    todo.append(operand)
        if ops > tuning.spared_ops or len(reads) + len(roots) > tuning.spared_reads:
            return None
        return Way(frozenset(leaves), frozenset(reads), frozenset(roots), is_cheap)


@mutable_record
class Family:
    """Values that are computed again from the same large ones, behind the same gate."""

    values: list[Value] = field(default_factory=list[Value])
    leaves: set[int] = field(default_factory=set[int])
    is_cheap: bool = True
    gate: Value | None = None
    copies: dict[int, Value] = field(default_factory=dict[int, Value])


class _Rewriter:
    """Gives late readers copies of the nodes that they need, each family behind a gate."""

    def __init__(self, timeline: Timeline, choice: Rematerialisation) -> None:
        self.timeline, self.graph = timeline, timeline.graph
        self.builder = GraphBuilder.continuing(timeline.graph)
        self.place = {r.index: place for place, node in enumerate(self.graph.nodes) for r in node.results}
        self.before = self.dependencies()
        families: dict[frozenset[int], Family] = {}
        for value in choice.values:
            if (way := choice.again.get(value.index)) is not None:
                family = families.setdefault(way.reads, Family())
                family.values.append(value)
                family.leaves |= way.leaves
                family.is_cheap = family.is_cheap and way.is_cheap
        self.families: dict[int, Family] = {}
        for family in families.values():
            family.gate = self.gate(family)
            if family.gate is not None:
                self.families.update((value.index, family) for value in family.values)

    def dependencies(self) -> list[int]:
        """For each node a bitset of those that it needs, with itself."""
        found: list[int] = []
        for place, node in enumerate(self.graph.nodes):
            bits = 1 << place
            for operand in node.operands:
                if operand.index in self.place:
                    bits |= found[self.place[operand.index]]
            found.append(bits)
        return found

    def gate(self, family: Family) -> Value | None:
        """The last product that reaches a reader together with the family, and that waits for none of the readers."""
        readers = {
            self.place[n.results[0].index]: n for value in family.values for n in self.timeline.uses[value.index]
        }
        waiting = 0
        for place in readers:
            waiting |= 1 << place
        gates = [gate for reader in readers.values() for gate in self.products_before(reader)]
        free = [gate for gate in gates if not self.before[self.place[gate.index]] & waiting]
        gate = max(free, key=lambda value: self.place[value.index], default=None)
        end = self.timeline.end + (0 if family.is_cheap else self.timeline.tuning.spared_near)
        if gate is None or self.timeline.times[gate.index] <= end:
            return None
        gained = self.before[self.place[gate.index]]
        self.before = [bits | gained if bits & waiting else bits for bits in self.before]
        return gate

    def products_before(self, reader: Node) -> Iterator[Value]:
        """The late products whose results reach a node by nothing but other ops."""
        seen: set[int] = set()
        todo = [*reader.operands]
        while todo:
            value = todo.pop()
            node = self.timeline.producers.get(value.index)
            if value.index in seen or node is None or not self.timeline.is_late(node):
                continue
            seen.add(value.index)
            if isinstance(node.op, CONTRACTIONS):
                yield value
            else:
                todo.extend(node.operands)

    def run(self) -> Graph:
        nodes = [self.redirected(node) if self.timeline.is_late(node) else node for node in self.graph.nodes]
        return replace(self.graph, nodes=tuple(self.in_order(nodes)))

    def redirected(self, node: Node) -> Node:
        operands: list[Value] = []
        for operand in node.operands:
            family = self.families.get(self.timeline.stored(operand).index)
            operands.append(operand if family is None else self.copied(operand, family))
        return node if tuple(operands) == node.operands else replace(node, operands=tuple(operands))

    def copied(self, value: Value, family: Family) -> Value:
        """`value`, computed again behind the gate of its family."""
        assert family.gate is not None
        node = self.timeline.producers.get(value.index)
        if node is not None and isinstance(node.op, SOURCES):
            return value
        if value.index not in family.copies:
            origins = () if node is None else node.origins
            with self.builder.at(tuple(origin.towards(Direction.BACKWARD) for origin in origins)):
                if node is None or value.index in family.leaves:
                    copy = self.builder.emit(After(), value, family.gate)
                else:
                    copy = self.builder.emit(node.op, *(self.copied(operand, family) for operand in node.operands))
            family.copies[value.index] = copy
        return family.copies[value.index]

    def in_order(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes that outputs need, in their order but for those that others wait for now."""
        producers = {r.index: node for node in (*nodes, *self.builder.nodes) for r in node.results}
        needed: set[int] = set()
        todo = [output.value.index for output in self.graph.outputs]
        while todo:
            index = todo.pop()
            node = producers.get(index)
            if node is not None and index not in needed:
                needed.add(index)
                todo.extend(operand.index for operand in node.operands)
        ordered: dict[int, Node] = {}
        for node in nodes:
            waiting = [node] if any(result.index in needed for result in node.results) else []
            while waiting:
                top = waiting[-1]
                missing = [producers[o.index] for o in top.operands if o.index in producers and o.index not in ordered]
                if missing:
                    waiting.extend(missing)
                    continue
                waiting.pop()
                ordered.update((result.index, top) for result in top.results)
        return list({id(node): node for node in ordered.values()}.values())
