"""Joins reductions that walk the same values, where none needs the other: so these are read once for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.schedule.access import count
from compiler.schedule.fuse import LARGEST_GROUP, Fuser, Group, node_key
from compiler.types import elements

SMALL = 16  # values with this many times fewer elements than the walk are not worth it


def join_siblings(groups: Sequence[Group], fuser: Fuser) -> list[Group]:
    """The groups that are left."""
    needs = ancestors(groups, fuser)
    by_source: dict[tuple[object, ...], list[Group]] = {}
    for group in groups:
        for key in dict.fromkeys(_large_sources(group, fuser)):
            by_source.setdefault(key, []).append(group)
    for family in by_source.values():
        alive = [group for group in family if group.nodes]
        for k, first in enumerate(alive):
            for second in alive[k + 1 :]:
                if first.nodes and second.nodes and _may_join(first, second, needs):
                    _join(first, second, fuser, needs)
    return [group for group in groups if group.nodes]


def _large_sources(group: Group, fuser: Fuser) -> list[tuple[object, ...]]:
    """The walk of a group of reductions, with each large value that it reads, and how."""
    if group.split is None or group.alone or group.is_tile:
        return []
    size = count(group.domain)
    return [
        (link.source.index, link.form, group.split, group.domain)
        for node in group.nodes
        for link in fuser.node_links[node_key(node)]
        if fuser.home.get(link.source.index) is not group and SMALL * count(elements(link.source.type.shape)) > size
    ]


def ancestors(groups: Sequence[Group], fuser: Fuser) -> dict[int, int]:
    """For each group a bitset of those that it needs, directly or not."""
    direct = {
        group.number: {
            fuser.home[value.index].number
            for node in group.nodes
            for value in fuser.needs(node)
            if value.index in fuser.home
        }
        - {group.number}
        for group in groups
    }
    found: dict[int, int] = {}

    def visit(number: int) -> None:
        todo = [number]
        while todo:
            top = todo[-1]
            missing = [other for other in direct[top] if other not in found]
            if missing:
                todo.extend(missing)
                continue
            todo.pop()
            bits = 0
            for other in direct[top]:
                bits |= found[other] | 1 << other
            found[top] = bits

    for number in direct:
        if number not in found:
            visit(number)
    return found


def _may_join(first: Group, second: Group, needs: dict[int, int]) -> bool:
    apart = not needs[first.number] & second.bit and not needs[second.number] & first.bit
    return apart and len(first.nodes) + len(second.nodes) <= LARGEST_GROUP


def _join(first: Group, second: Group, fuser: Fuser, needs: dict[int, int]) -> None:
    """Move the nodes of `second` into `first`."""
    first.nodes = [*first.nodes, *second.nodes]
    first.spaces.update(second.spaces)
    for node in second.nodes:
        for result in node.results:
            fuser.home[result.index] = first
    gained = needs[first.number] | needs[second.number]
    needs[first.number] = gained
    for number, bits in needs.items():
        if bits & (first.bit | second.bit):
            needs[number] = bits | gained | first.bit | second.bit
    second.nodes = []
