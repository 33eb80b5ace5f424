"""Removes the nodes on which no output depends. Inputs stay: they are the graph's interface."""

from __future__ import annotations

from dataclasses import replace

from compiler.graph.ir import Graph, Node


def eliminate_dead(graph: Graph) -> Graph:
    used = {output.value.index for output in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        for result in node.results:
            if result.index in used:
                kept.append(node)
                used.update([operand.index for operand in node.operands])
                break
    return graph if len(kept) == len(graph.nodes) else replace(graph, nodes=tuple(reversed(kept)))
