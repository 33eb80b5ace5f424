"""The mean over all places of a picture, from the reductions and reshapes that exporters write it with."""

from __future__ import annotations

from runtime.imports.onnx.graph import Graph, Node
from runtime.imports.onnx.passes.matching import View, axes_of, each

MEAN_OF_PLACES = "global_average_pool"


def recognise_pools(graph: Graph) -> Graph:
    """A mean over all axes but rows and channels, of which nothing but these two is left, is the library's layer."""
    graph = each(graph, ("Reshape", "Flatten", "Squeeze"), _flattened)
    return each(graph, ("ReduceMean",), _reduced)


def _flattened(view: View, node: Node) -> bool:
    pool = view.inner(node.inputs[0], "GlobalAveragePool", "ReduceMean")
    if pool is None or not _is_mean_of_places(view, pool, node.outputs[0]):
        return False
    view.replace(node, Node(MEAN_OF_PLACES, (pool.inputs[0],), node.outputs, {}, pool.place, 1), [pool])
    return True


def _reduced(view: View, node: Node) -> bool:
    if not _is_mean_of_places(view, node, node.outputs[0]):
        return False
    view.replace(node, Node(MEAN_OF_PLACES, (node.inputs[0],), node.outputs, {}, node.place, 1))
    return True


def _is_mean_of_places(view: View, pool: Node, result: str) -> bool:
    """Whether a pool takes the mean over all axes but the first two, which are those of the result."""
    value = view.graph.values[pool.inputs[0]]
    if value.rank < 3 or not value.dtype.startswith("float"):
        return False
    places = list(range(2, value.rank))
    whole = pool.op == "GlobalAveragePool" or sorted(axes_of(view, pool) or ()) == places
    return whole and view.graph.values[result].shapes == tuple(shape[:2] for shape in value.shapes)
