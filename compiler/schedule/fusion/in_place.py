"""Decides which values lie where others lie, by three passes."""

from __future__ import annotations

from dataclasses import field, replace

from compiler.graph.ir import Value
from compiler.graph.op import Category
from compiler.loops.ir import Load, StagedKernel, Store
from compiler.ops.scan import Scan
from compiler.schedule.addresses import IDENTITY, IndexMap
from compiler.schedule.fusion.ancestry import Ancestry
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import Alias, FusedGraph, Group, GroupKind
from compiler.schedule.fusion.order import in_order
from compiler.schedule.fusion.storage import Storage
from compiler.schedule.numerics.internal_ops import Insert
from compiler.schedule.to_loops import GroupLowering, LoweredGroup
from compiler.support.record import mutable_record
from compiler.tuning import Tuning
from compiler.types import BatchExtent, depends_on_batch, elements, size_at


def store_in_place(fused: FusedGraph) -> FusedGraph:
    """The fused graph in which an insertion lies inside its base, and the carry of a scan where it started."""
    found = list(fused.aliases)
    for node in [member.node for group in fused.groups for member in group.members]:
        if isinstance(node.op, Insert):
            found.append(Alias(node.results[0], node.operands[0]))
        elif isinstance(node.op, Scan):
            starts = node.operands[node.op.scanned :][: node.op.carries]
            found += [Alias(result, start) for result, start in zip(node.results, starts, strict=False)]
    return replace(fused, aliases=tuple(found))


def update_in_place(fused: FusedGraph) -> FusedGraph:
    """The fused graph with an alias or a copy for each output that updates an input.

    It is written over the input, where every other reader can come first, and copied otherwise.
    """
    index = GroupIndex.of(fused)
    ancestry, storage = Ancestry.of(index), Storage.of_graph(fused, index)
    inputs = {entry.name: entry.value for entry in fused.inputs}
    copies, before = list[Alias](), list[tuple[int, int]]()
    for output in fused.outputs:
        if output.updates is None or storage.place(output.value) == inputs[output.updates]:
            continue
        target, writer = inputs[output.updates], index.homes[output.value.index]
        readers = dict.fromkeys(index.homes[member.key] for member in index.readers_of(target))
        others = [number for number in readers if number != writer]
        is_needed = any(ancestry.needs(number, writer) for number in others)
        group, tuning = index.groups[writer], fused.machine.tuning
        if is_needed or not writes_last(group, target, output.value, index, storage, tuning):
            copies.append(Alias(output.value, target))
            continue
        for number in others:
            ancestry.put_before(number, writer)
            before.append((number, writer))
        storage.targets[output.value.index] = target
    return replace(fused, aliases=storage.aliases(fused), copies=tuple(copies), before=(*fused.before, *before))


def writes_last(
    writer: Group, target: Value, result: Value, index: GroupIndex, storage: Storage, tuning: Tuning
) -> bool:
    """Whether the kernel of `writer` reads `target` element for element, no later than `result` overwrites it."""
    maker = index.maker(result)
    if isinstance(maker.node.op, Insert | Scan):
        return False  # other parts of it are written elsewhere, and a carry is written again and again
    lowering = GroupLowering(writer, index, storage, tuning)
    own = (IDENTITY, IndexMap()) if elements(target.type.shape) == 1 else (IDENTITY,)
    levels = lowering.all_levels()
    for member in writer.members:
        for link in member.links:
            if link.source.index == target.index and (
                levels[member.key] > levels[maker.key]
                or member.space is not maker.space
                or link.address not in own
                or writer.kind is GroupKind.ALONE
                or member.node.op.category in (Category.CONTRACTION, Category.INDEXING)
            ):
                return False
    # A later pass computes again what is cheap, from the old value.
    if max(levels.values()) == levels[maker.key]:
        return True
    return not _is_read_behind(lowering.lower("probe"), storage.place(target), storage.place(result))


def _is_read_behind(lowered: LoweredGroup, old: Value, new: Value) -> bool:
    """Whether a kernel loads `old` in a later stage than the first in which it stores `new`."""
    assert isinstance(lowered.kernel, StagedKernel)
    stages = lowered.kernel.stages
    loads, stores = (
        [
            number
            for number, stage in enumerate(stages)
            for instruction in (*stage.body, *stage.after)
            if isinstance(instruction, kind) and lowered.arguments[instruction.access.buffer] == value
        ]
        for kind, value in ((Load, old), (Store, new))
    )
    return max(loads, default=0) > min(stores)


def overwrite(fused: FusedGraph) -> FusedGraph:
    """The fused graph with an alias for each large result that is written over the value that its kernel reads last.

    That takes no fresh memory, and the cache has it already. A value without the batch that rows of the batch read is
    left alone, as it may be computed once for all steps.
    """
    index = GroupIndex.of(fused)
    groups = in_order(fused, index)
    fixed = {entry.value.index for entry in (*fused.outputs, *fused.inputs)}
    for alias in fused.aliases:
        fixed |= {alias.value.index, alias.target.index}
    order = {group.number: place for place, group in enumerate(groups)}
    rows = {group.number for group in groups if _has_rows(group)}
    found = _Overwriting(index, Storage.of_graph(fused, index), order, rows, fixed, fused.batch, fused.machine.tuning)
    for group in groups:
        found.visit(group)
    aliases = (*fused.aliases, *found.aliases)
    return replace(fused, aliases=aliases, before=(*fused.before, *found.before))


@mutable_record
class _Overwriting:
    """`order` has the groups by number, `rows` those with rows of the batch; where `fixed` values lie is decided."""

    index: GroupIndex
    storage: Storage
    order: dict[int, int]
    rows: set[int]
    fixed: set[int]
    batch: int
    tuning: Tuning
    aliases: list[Alias] = field(default_factory=list[Alias])
    before: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def visit(self, group: Group) -> None:
        for member in group.members:
            result = member.node.results[0]
            if result.index in self.storage.stored and result.index not in self.fixed and self.is_large(result):
                target = next((v for v in self.read_last(group) if self.fits_over(group, v, result)), None)
                if target is not None:
                    self.fixed.add(target.index)
                    self.aliases.append(Alias(result, target))
                    self.before += [(other, group.number) for other in self.others(group, target)]

    def read_last(self, group: Group) -> list[Value]:
        """The large values that others make and nothing reads behind this group."""
        sources = {link.source.index: link.source for member in group.members for link in member.links}
        return [
            value
            for value in sources.values()
            if self.is_large(value)
            and self.index.homes.get(value.index, group.number) != group.number
            and all(self.order[other] < self.order[group.number] for other in self.others(group, value))
            and (depends_on_batch(value.type.shape) or self.rows.isdisjoint(self.others(group, value)))
        ]

    def others(self, group: Group, value: Value) -> list[int]:
        """The other groups that read a value."""
        readers = dict.fromkeys(self.index.homes[key] for key in self.index.readers.get(value.index, ()))
        return [number for number in readers if number != group.number]

    def fits_over(self, group: Group, target: Value, result: Value) -> bool:
        is_alike = elements(target.type.shape) == elements(result.type.shape) and target.type.dtype is result.type.dtype
        is_free = is_alike and target.index not in self.fixed
        return is_free and writes_last(group, target, result, self.index, self.storage, self.tuning)

    def is_large(self, value: Value) -> bool:
        bytes_ = size_at(elements(value.type.shape), self.batch) * value.type.dtype.size
        return bytes_ >= self.tuning.overwritten_bytes


def _has_rows(group: Group) -> bool:
    """Whether a group goes over rows of the batch."""
    read = (link.source.type.shape for member in group.members for link in member.links)
    return isinstance(group.domain, BatchExtent) or any(map(depends_on_batch, read))
