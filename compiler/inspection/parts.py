"""Parts of graphs and of fused graphs that can be read back: values from outside become inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from compiler.graph.ir import Graph, GraphInput, GraphOutput, Node, Origin, Role, Value
from compiler.schedule.fusion.ir import Alias, FusedGraph

Chooser = Callable[[Sequence[Origin]], bool]


def own_origins(origins: Sequence[Origin]) -> Sequence[Origin]:
    """Those in the user's own text, or all where there are none."""
    return [o for o in origins if not o.user_span.source.is_library] or origins


def part_of_graph(graph: Graph, chosen: Chooser) -> Graph:
    """The graph with the chosen nodes alone, and with the constants and others without an origin that these read."""
    read = {operand for node in graph.nodes if chosen(node.origins) for operand in node.operands}
    kept = [n for n in graph.nodes if chosen(n.origins) or (not n.origins and read & {*n.results})]
    if not kept:
        return replace(graph, inputs=(), nodes=(), outputs=())
    keys = {node.results[0] for node in kept}
    others = [operand for node in graph.nodes if node.results[0] not in keys for operand in node.operands]
    read = [operand for node in kept for operand in node.operands]
    inputs, outputs = _interface(kept, read, others, graph)
    return replace(graph, inputs=inputs, nodes=tuple(kept), outputs=outputs)


def part_of_fused(fused: FusedGraph, chosen: Chooser) -> FusedGraph:
    """The fused graph with the groups of which a member is chosen, and the views and constants that these need."""
    groups = [g for g in fused.groups if any(chosen(m.node.origins) for m in g.members)]
    members = [m for group in groups for m in group.members]
    unplaced = {result: (place, node) for place, node in fused.unplaced for result in node.results}
    read = [value for m in members for value in (*m.node.operands, *m.needs)]
    needed = list(read)
    found: dict[int, tuple[int, Node]] = {}
    while needed:
        value = needed.pop()
        if value in unplaced and value.index not in found:
            found[value.index] = unplaced[value]
            needed += unplaced[value][1].operands
            read += unplaced[value][1].operands
    numbers = {group.number for group in groups}
    others = [v for g in fused.groups if g.number not in numbers for m in g.members for v in m.needs]
    nodes = [*(m.node for m in members), *(node for _, node in found.values())]
    inputs, outputs = _interface(nodes, read, [v for v in others if v not in unplaced], fused)
    known = {*(entry.value for entry in inputs), *(result for node in nodes for result in node.results)}
    return replace(
        fused,
        inputs=inputs,
        unplaced=tuple(entry for entry in fused.unplaced if entry[1].results[0].index in found),
        groups=tuple(groups),
        outputs=outputs,
        aliases=_within(fused.aliases, known),
        copies=_within(fused.copies, known),
        before=tuple(pair for pair in fused.before if {*pair} <= numbers),
    )


def _within(pairs: Iterable[Alias], known: set[Value]) -> tuple[Alias, ...]:
    return tuple(pair for pair in pairs if {pair.value, pair.target} <= known)


def _interface(
    nodes: Sequence[Node], read: Iterable[Value], others: Iterable[Value], whole: Graph | FusedGraph
) -> tuple[tuple[GraphInput, ...], tuple[GraphOutput, ...]]:
    """The inputs and outputs of nodes that read some values, while others are read elsewhere.

    They are those of the whole, and what crosses the border under its number.
    """
    given = dict.fromkeys(result for node in nodes for result in node.results)
    kept = [output for output in whole.outputs if output.value in given]
    wanted, updated = dict.fromkeys(read), {output.updates for output in kept}
    entries = [entry for entry in whole.inputs if entry.value in wanted or entry.name in updated]
    known = {*given, *(entry.value for entry in entries)}
    entries += [GraphInput(f"%{value.index}", Role.DATA, value) for value in wanted if value not in known]
    leaving = {*others} - {output.value for output in kept}
    kept += [GraphOutput(f"%{value.index}", Role.OUTPUT, value) for value in given if value in leaving]
    return tuple(entries), tuple(kept)
