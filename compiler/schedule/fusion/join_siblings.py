"""Joins reductions over the same values, where none needs the other: so these are read once for all of them."""

from __future__ import annotations

from dataclasses import replace

from compiler.schedule.addresses import count
from compiler.schedule.fusion import cost
from compiler.schedule.fusion.ancestry import Ancestry
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import FusedGraph, Group, GroupKind
from compiler.tuning import Tuning
from compiler.types import elements


def join_siblings(fused: FusedGraph) -> FusedGraph:
    """The fused graph in which such groups are one."""
    index, tuning = GroupIndex.of(fused), fused.machine.tuning
    ancestry = Ancestry.of(index)
    by_source: dict[tuple[object, ...], list[int]] = {}
    for group in fused.groups:
        for key in dict.fromkeys(_large_sources(group, index, tuning)):
            by_source.setdefault(key, []).append(group.number)
    for family in by_source.values():
        alive = [number for number in family if number in index.groups]
        for k, first in enumerate(alive):
            for second in alive[k + 1 :]:
                if first not in index.groups or second not in index.groups:
                    continue
                apart = not ancestry.needs(first, second) and not ancestry.needs(second, first)
                if apart and cost.is_small_enough(index.groups[first], index.groups[second], tuning):
                    kept, gone = index.groups[first], index.groups.pop(second)
                    index.put(replace(kept, members=(*kept.members, *gone.members)))
                    ancestry.join(first, second)
    return index.rebuilt(fused)


def _large_sources(group: Group, index: GroupIndex, tuning: Tuning) -> list[tuple[object, ...]]:
    """The split of a group of reductions, with each large value that it reads, and how."""
    if group.split is None or group.kind is not GroupKind.ELEMENTS:
        return []
    size, share = count(group.domain), tuning.sibling_share
    return [
        (link.source.index, link.address, group.split, group.domain)
        for member in group.members
        for link in member.links
        if index.homes.get(link.source.index) != group.number and share * count(elements(link.source.type.shape)) > size
    ]
