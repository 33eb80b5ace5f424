"""An updated parameter is written over the old one, where every other reader can come first, and copied otherwise."""

from __future__ import annotations

from dataclasses import replace

from compiler.schedule.fusion.ancestry import Ancestry
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import Alias, FusedGraph
from compiler.schedule.fusion.last_write import writes_last
from compiler.schedule.fusion.storage import Storage


def update_in_place(fused: FusedGraph) -> FusedGraph:
    """The fused graph with an alias or a copy for each output that updates an input."""
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
