"""Lets a kernel write over a large value that it is the last to read: no fresh memory, and the cache has it already.

A value without the batch that rows of the batch read is left alone, as it may be computed once for all steps.
"""

from __future__ import annotations

from dataclasses import field, replace

from compiler.graph.ir import Value
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import Alias, FusedGraph, Group
from compiler.schedule.fusion.last_write import writes_last
from compiler.schedule.fusion.order import in_order
from compiler.schedule.fusion.storage import Storage
from compiler.support.record import mutable_record
from compiler.tuning import Tuning
from compiler.types import BatchExtent, depends_on_batch, elements, size_at


def overwrite(fused: FusedGraph) -> FusedGraph:
    """The fused graph with an alias for each result that is written over the value that its kernel reads last."""
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
