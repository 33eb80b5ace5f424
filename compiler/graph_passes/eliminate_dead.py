"""Removes the nodes on which no output depends. Inputs stay: they are the graph's interface."""

from __future__ import annotations

from dataclasses import replace

from compiler.graph.ir import Graph, Node
from compiler.graph_passes.prune_scan import pruned
from compiler.ops.scan import Scan


def eliminate_dead(graph: Graph) -> Graph:
    used = {output.value.index for output in graph.outputs}
    kept: list[Node] = []
    is_smaller = False
    for node in reversed(graph.nodes):
        for result in node.results:
            if result.index in used:
                if isinstance(node.op, Scan):
                    whole, node = node, pruned(node, used)
                    is_smaller = is_smaller or whole is not node
                kept.append(node)
                used.update([operand.index for operand in node.operands])
                break
    if len(kept) == len(graph.nodes) and not is_smaller:
        return graph
    return replace(graph, nodes=tuple(reversed(kept)))
