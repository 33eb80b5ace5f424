"""Removes `stop_gradient` and `custom_gradient`, which mean nothing once differentiation is done."""

from __future__ import annotations

from compiler.graph.ir import Graph
from compiler.graph_passes.rewrite import Rewriting
from compiler.ops.control import CustomGradient, StopGradient


def resolve_custom_gradients(graph: Graph) -> Graph:
    if not any(isinstance(node.op, (StopGradient, CustomGradient)) for node in graph.nodes):
        return graph
    rewriting = Rewriting(graph)
    for node in map(rewriting.current, graph.nodes):
        match node.op:
            case StopGradient():
                rewriting.replace(node, node.operands)
            case CustomGradient(inputs=inputs):
                rewriting.replace(node, node.operands[inputs:])
            case _:
                rewriting.keep(node)
    return rewriting.finish()
