"""The groups of a graph become kernels in order, and it is settled which values lie where another one lay."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from compiler.graph.ir import Graph, GraphOutput, Value
from compiler.graph.op import Category
from compiler.ops.scan import Scan
from compiler.record import record
from compiler.schedule.access import IDENTITY, Form
from compiler.schedule.alone import lower_alone
from compiler.schedule.fuse import Fuser, Group, fuse, node_key
from compiler.schedule.join_siblings import ancestors, join_siblings
from compiler.schedule.overwrite import Overwriting, is_read_behind
from compiler.schedule.placement import Insert
from compiler.schedule.read_unpadded import read_unpadded
from compiler.schedule.scan import body_on_stacks
from compiler.schedule.share_storage import share_storage
from compiler.schedule.to_loops import GroupLowering, Lowered
from compiler.types import elements


@dataclass(slots=True)
class Builder:
    """The kernels of one graph in the making; the body of a scan has a builder of its own."""

    graph: Graph
    groups: list[Group]
    fuser: Fuser
    batch: int
    aliases: dict[int, Value] = field(default_factory=dict[int, Value])
    needed: set[int] = field(default_factory=set[int])
    above: dict[int, int] = field(default_factory=dict[int, int])  # a bitset of the groups before each
    before_some: int = 0  # all of these bitsets as one
    extra_edges: list[tuple[Group, Group]] = field(default_factory=list[tuple[Group, Group]])
    copies: list[tuple[Value, Value, GraphOutput]] = field(default_factory=list[tuple[Value, Value, GraphOutput]])
    position: dict[int, int] = field(default_factory=dict[int, int])
    watches: dict[int, str] = field(default_factory=dict[int, str])
    watched: bool = True  # whether what the graph gives is checked for NaN

    def kernels(self) -> list[tuple[Group, Lowered | LoweredScan]]:
        """The groups in order, each with its kernel."""
        self.position = {node_key(node): k for k, node in enumerate(self.graph.nodes)}
        for group in self.groups:
            group.nodes.sort(key=lambda n: self.position[node_key(n)])
        self.groups = share_storage(self.graph, self.groups, self.fuser, self.position)
        if "siblings" not in self.fuser.without:
            self.groups = join_siblings(self.groups, self.fuser)
        if "windows" not in self.fuser.without:
            self.groups = read_unpadded(self.graph, self.groups, self.fuser)
        self.find_needed()
        self.alias_in_place()
        self.alias_updates()
        if "overwrite" not in self.fuser.without:
            self.alias_last_read()
        return [(g, self.lower(g, k)) for k, g in enumerate(self.ordered())]

    # which values need storage, and whose

    def find_needed(self) -> None:
        self.needed = {o.value.index for o in self.graph.outputs}
        for group in self.groups:
            for node in group.nodes:
                for value in self.fuser.sources(node):
                    if self.fuser.home.get(value.index) is not group:
                        self.needed.add(value.index)
                if isinstance(node.op, Insert) or group.alone:
                    self.needed.update(result.index for result in node.results)
        if self.watched:
            self.watches = {o.value.index: o.name for o in self.graph.outputs if o.value.type.dtype.is_float}

    def storage(self, value: Value) -> Value:
        while value.index in self.aliases:
            value = self.aliases[value.index]
        return value

    def alias_in_place(self) -> None:
        """What an insertion gives lies where its base lay, and a carry where it started."""
        for node in self.graph.nodes:
            match node.op:
                case Insert():
                    self.aliases[node.results[0].index] = node.operands[0]
                case Scan(scanned=scanned, carries=carries):
                    starts = node.operands[scanned : scanned + carries]
                    self.aliases.update((r.index, s) for r, s in zip(node.results, starts, strict=False))
                case _:
                    pass

    def alias_updates(self) -> None:
        """An updated parameter is written in place where everything else that reads it can come first."""
        self.above = ancestors(self.groups, self.fuser)  # those that fusion knew are not those of joined groups
        for above in self.above.values():
            self.before_some |= above
        inputs = {i.name: i.value for i in self.graph.inputs}
        for output in self.graph.outputs:
            if output.updates is None:
                continue
            target = inputs[output.updates]
            if self.storage(output.value) == target:
                continue
            writer = self.fuser.home[output.value.index]
            readers = (self.fuser.home[node_key(n)] for n in self.fuser.readers.get(target.index, ()))
            others = [g for g in {g.number: g for g in readers}.values() if g is not writer]
            needed = any(self.above[g.number] & writer.bit for g in others)
            if needed or not self.writes_last(writer, target, output.value):
                self.copies.append((output.value, target, output))
                continue
            for group in others:
                self.put_before(group, writer)
            self.aliases[output.value.index] = target

    def alias_last_read(self) -> None:
        """A large result lies where a value lay that nothing reads any more."""
        fixed = {o.value.index for o in self.graph.outputs} | {i.value.index for i in self.graph.inputs}
        fixed |= {value.index for value in self.aliases.values()} | set(self.aliases)
        order = {group.number: place for place, group in enumerate(self.ordered())}
        found = Overwriting(self.fuser, order, self.needed, fixed, self.batch, self.writes_last).run(self.groups)
        for result, (target, edges) in found.items():
            self.aliases[result.index] = target
            self.extra_edges += edges

    def put_before(self, first: Group, second: Group) -> None:
        """Promise that `first` comes before `second`."""
        self.extra_edges.append((first, second))
        gained = self.above[first.number] | first.bit
        if self.before_some & second.bit:  # mostly an update of a parameter, behind which there is nothing
            for number, above in self.above.items():
                if above & second.bit:
                    self.above[number] = above | gained
        self.above[second.number] |= gained
        self.before_some |= gained

    def writes_last(self, writer: Group, target: Value, result: Value) -> bool:
        """In its own kernel the old value must be read element for element, no later than it is overwritten."""
        producer = self.fuser.links.producers[result.index]
        if isinstance(producer.op, Insert | Scan):
            return False  # other parts of it are written elsewhere, and a carry is written again and again
        lowering = self.lowering(writer, "probe")
        own = (IDENTITY, Form()) if elements(target.type.shape) == 1 else (IDENTITY,)
        levels = lowering.levels
        for node in writer.nodes:
            levels[node_key(node)] = lowering.level(node)
        for node in writer.nodes:
            for link in self.fuser.node_links[node_key(node)]:
                if link.source == target and (
                    levels[node_key(node)] > levels[node_key(producer)]
                    or writer.spaces[node_key(node)] is not writer.spaces[node_key(producer)]
                    or link.form not in own
                    or writer.alone
                    or node.op.category in (Category.CONTRACTION, Category.INDEXING)
                ):
                    return False
        # A later pass computes again what is cheap, from the old value.
        if max(levels.values()) == levels[node_key(producer)]:
            return True
        lowered = self.lowering(writer, "probe").lower()
        return not is_read_behind(lowered, self.storage(target), self.storage(result))

    # order

    def ordered(self) -> list[Group]:
        below: dict[int, list[Group]] = {g.number: [] for g in self.groups}
        waiting = {g.number: 0 for g in self.groups}
        for group in self.groups:
            sources = {
                self.fuser.home[v.index].number: self.fuser.home[v.index]
                for node in group.nodes
                for v in self.fuser.needs(node)
                if v.index in self.fuser.home and self.fuser.home[v.index] is not group
            }
            for source in sources.values():
                below[source.number].append(group)
                waiting[group.number] += 1
        for first, second in self.extra_edges:
            below[first.number].append(second)
            waiting[second.number] += 1
        rank = {g.number: min(self.position[node_key(n)] for n in g.nodes) for g in self.groups}
        for number in [n for n, needed in waiting.items() if needed == 0 and below[n]]:
            rank[number] = min(rank[group.number] for group in below[number])  # fills a buffer just before its use
        by_number = {g.number: g for g in self.groups}
        ready = [(rank[n], n) for n, count_ in waiting.items() if count_ == 0]
        heapq.heapify(ready)
        order: list[Group] = []
        while ready:
            _, number = heapq.heappop(ready)
            order.append(by_number[number])
            for group in below[number]:
                waiting[group.number] -= 1
                if waiting[group.number] == 0:
                    heapq.heappush(ready, (rank[group.number], group.number))
        assert len(order) == len(self.groups), "the groups form a cycle"
        return order

    def lowering(self, group: Group, name: str) -> GroupLowering:
        return GroupLowering(
            group,
            self.fuser,
            lambda v: v.index in self.needed,
            self.storage,
            lambda v: self.watches.get(v.index),
            name,
        )

    def lower(self, group: Group, number: int) -> Lowered | LoweredScan:
        node = group.nodes[0]
        if isinstance(node.op, Scan):
            body = body_on_stacks(node.op)
            groups, fuser = fuse(body, self.fuser.without)
            inner = Builder(body, groups, fuser, self.batch, watched=False)
            sources = tuple(link.source for link in self.fuser.node_links[node_key(node)])
            return LoweredScan(node.op, sources, node.results, inner, inner.kernels())
        words = dict.fromkeys(n.op.name for n in group.nodes if n.op.name not in ("broadcast", "reshape"))
        name = f"k{number}_{'_'.join(words)[:48]}"
        if group.alone:
            return lower_alone(node, self.fuser, self.storage, name)
        return self.lowering(group, name).lower()


@record
class LoweredScan:
    """A scan: the values behind its operands, its results, and the kernels of its body."""

    op: Scan
    sources: tuple[Value, ...]
    results: tuple[Value, ...]
    body: Builder
    kernels: list[tuple[Group, Lowered | LoweredScan]]
