"""The order in which groups run: that of the graph as far as needs allow, and fills just before their use."""

from __future__ import annotations

import heapq
from dataclasses import replace

from compiler.errors.diagnostics import CompilerBug
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import FusedGraph, Group


def order(fused: FusedGraph) -> FusedGraph:
    """The fused graph with its groups in the order in which they run."""
    return replace(fused, groups=tuple(in_order(fused, GroupIndex.of(fused))), is_ordered=True)


def in_order(fused: FusedGraph, index: GroupIndex) -> list[Group]:
    """The groups, each behind those that it needs; of those that are ready, the one whose first node comes first."""
    below: dict[int, list[int]] = {number: [] for number in index.groups}
    waiting = dict.fromkeys(index.groups, 0)
    edges = [(source, g.number) for g in index.groups.values() for source in index.direct_needs(g)]
    for first, second in [*edges, *fused.before]:
        below[first].append(second)
        waiting[second] += 1
    rank = {group.number: min([member.place for member in group.members]) for group in fused.groups}
    for number in [n for n, needed in waiting.items() if needed == 0 and below[n]]:
        rank[number] = min([rank[other] for other in below[number]])  # fills a buffer just before its use
    ready = [(rank[number], number) for number, needed in waiting.items() if needed == 0]
    heapq.heapify(ready)
    found: list[Group] = []
    while ready:
        _, number = heapq.heappop(ready)
        found.append(index.groups[number])
        for other in below[number]:
            waiting[other] -= 1
            if waiting[other] == 0:
                heapq.heappush(ready, (rank[other], other))
    if len(found) < len(index.groups):
        raise CompilerBug("order", f"groups wait for each other: {sorted(n for n, left in waiting.items() if left)}")
    return found
