"""The order of the passes, and the reason for each repeat. Nowhere else is it decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from compiler.graph.ir import Graph
from compiler.graph.verify import verify as verify_graph
from compiler.graph_passes.canonicalise_contractions import canonicalise_contractions
from compiler.graph_passes.channels_last import channels_last
from compiler.graph_passes.eliminate_common import eliminate_common
from compiler.graph_passes.eliminate_dead import eliminate_dead
from compiler.graph_passes.fold_products import fold_products
from compiler.graph_passes.fold_scales import fold_scales
from compiler.graph_passes.form_fma import form_fma
from compiler.graph_passes.form_moments import form_moments
from compiler.graph_passes.resolve_custom_gradients import resolve_custom_gradients
from compiler.graph_passes.simplify import simplify
from compiler.graph_passes.unroll_taps import unroll_taps
from compiler.graph_passes.widen_columns import widen_columns

GraphPass: TypeAlias = Callable[[Graph], Graph]

GRAPH_PASSES: tuple[GraphPass, ...] = (
    resolve_custom_gradients,
    eliminate_dead,  # differentiation also emits cotangents that nothing asks for
    simplify,
    eliminate_common,  # before the passes that ask whether two values are the same one
    form_moments,
    fold_products,  # while products still have all their axes, also those of extent 1
    canonicalise_contractions,
    unroll_taps,  # products of single channels are known by their labels, and layouts are chosen for what is left
    channels_last,  # when products have their labels, before the laws that remove what transposes it leaves
    widen_columns,  # which needs the channels last
    simplify,  # the reshapes and broadcasts that canonical contractions left behind meet their neighbours
    eliminate_common,  # canonical contractions may be equal now, as may what the laws made of their neighbours
    fold_scales,  # when what follows a product has its final layout, before fma binds a scale and a shift together
    eliminate_dead,  # a product must have no dead use when fma asks for its uses
    form_fma,
    eliminate_dead,
)


def optimise_graph(graph: Graph, verify: bool = False) -> Graph:
    """All passes over the graph; with `verify`, the invariants are checked after each, otherwise at the end."""
    for graph_pass in GRAPH_PASSES:
        graph = graph_pass(graph)
        if verify:
            verify_graph(graph, graph_pass.__name__)
    if not verify:
        verify_graph(graph, "graph_passes")
    return graph
