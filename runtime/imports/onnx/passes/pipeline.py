"""The order of the passes over an imported graph."""

from __future__ import annotations

from collections.abc import Callable

from runtime.imports.onnx.graph import Graph
from runtime.imports.onnx.passes.activations import recognise_activations
from runtime.imports.onnx.passes.linear import drop_identities, join_biases, lift_reshapes

PASSES: tuple[Callable[[Graph], Graph], ...] = (drop_identities, lift_reshapes, join_biases, recognise_activations)


def recognised(graph: Graph) -> Graph:
    """The graph with layers of the library in place of smaller operations."""
    for each in PASSES:
        graph = each(graph)
    graph.count_readers()
    return graph
