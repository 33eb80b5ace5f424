"""The order of the passes over an imported graph."""

from __future__ import annotations

from collections.abc import Callable

from runtime.imports.onnx.graph import Graph
from runtime.imports.onnx.passes.activations import recognise_activations
from runtime.imports.onnx.passes.attention import recognise_attention
from runtime.imports.onnx.passes.batch_norms import recognise_batch_norms
from runtime.imports.onnx.passes.kept_axes import keep_axes
from runtime.imports.onnx.passes.linear import drop_identities, drop_unused, join_biases, lift_reshapes
from runtime.imports.onnx.passes.moves import plain_gathers, shorten_moves
from runtime.imports.onnx.passes.norms import recognise_norms
from runtime.imports.onnx.passes.plain_forms import (
    plain_extremes,
    plain_indices,
    recognise_means,
    recognise_relu,
    recognise_softmax,
)
from runtime.imports.onnx.passes.pools import recognise_pools
from runtime.imports.onnx.passes.recurrent import join_directions, rows_first
from runtime.imports.onnx.passes.rotary import recognise_repeats, recognise_rotary

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    drop_identities,
    plain_gathers,
    plain_indices,
    plain_extremes,
    keep_axes,
    drop_identities,
    drop_unused,  # so that what is taken into a reduction is read by it alone
    recognise_means,
    recognise_softmax,
    recognise_relu,
    recognise_batch_norms,
    drop_unused,
    lift_reshapes,
    join_biases,
    recognise_activations,
    recognise_norms,
    recognise_pools,
    recognise_repeats,
    recognise_rotary,
    shorten_moves,
    drop_identities,
    recognise_attention,
    rows_first,
    drop_unused,  # so that what a layer took in is read by it alone
    shorten_moves,
    drop_identities,
    drop_unused,
    join_directions,
    drop_unused,
)


def recognised(graph: Graph) -> Graph:
    """The graph with layers of the library in place of smaller operations."""
    for each in PASSES:
        graph = each(graph)
    graph.count_readers()
    return graph
