"""The order of the passes, and the reason for each repeat. Nowhere else is it decided."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from compiler.graph.ir import Graph, Node
from compiler.graph.verify import verify as verify_graph
from compiler.graph_passes.canonicalise_contractions import canonicalise_contractions
from compiler.graph_passes.channels_last import channels_last
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.graph_passes.eliminate import eliminate_common, eliminate_dead
from compiler.graph_passes.flush_updates import flush_updates
from compiler.graph_passes.fold_products import fold_products
from compiler.graph_passes.fold_scales import fold_scales
from compiler.graph_passes.form_fma import form_fma
from compiler.graph_passes.form_moments import form_moments
from compiler.graph_passes.lay_out_pairs import has_pairs, lay_out_pairs
from compiler.graph_passes.narrow import narrow
from compiler.graph_passes.pixels_in_lanes import pixels_in_lanes
from compiler.graph_passes.scans import merge_scans, split_scans
from compiler.graph_passes.simplify import simplify
from compiler.graph_passes.unroll_taps import unroll_taps
from compiler.graph_passes.widen_columns import widen_columns
from compiler.graph_passes.widen_numbers import widen_numbers
from compiler.interface import Options
from compiler.ops.control import resolve_custom_gradients
from compiler.ops.scan import Scan
from compiler.schedule.numerics.round_products import ORDERS, round_products
from compiler.support.record import record
from compiler.types import DType

GraphPass: TypeAlias = Callable[[Graph], Graph]

SIMPLIFYING: tuple[GraphPass, ...] = (
    resolve_custom_gradients,
    merge_scans,  # while the bodies of those that differentiation made are still the same
    eliminate_dead,  # differentiation also emits cotangents that nothing asks for
    simplify,
    eliminate_common,  # before the passes that ask whether two values are the same one
    narrow,  # when slices of slices are one, and equal values are read in one place
    split_scans,  # when the laws have simplified the steps of scans
    eliminate_dead,  # products that left the loop have left their nodes there
)
GRAPH_PASSES: tuple[GraphPass, ...] = (
    *SIMPLIFYING,
    form_moments,
    fold_products,  # while products still have all their axes, also those of extent 1
    canonicalise_contractions,
    unroll_taps,  # products of single channels are known by their labels, and layouts are chosen for what is left
    channels_last,  # when products have their labels, before the laws that remove what transposes it leaves
    pixels_in_lanes,  # which needs the channels last
    widen_columns,  # as well, for the products that are left
    simplify,  # the reshapes and broadcasts that canonical contractions left behind meet their neighbours
    eliminate_common,  # canonical contractions may be equal now, as may their neighbours behind the laws
    fold_scales,  # when what follows a product has its final layout, before fma binds a scale and a shift together
    eliminate_dead,  # a product must have no dead use when fma asks for its uses
    form_fma,
    eliminate_dead,
    flush_updates,  # behind the laws, which are to see the formulas of updates as they are written
)


@record
class Pass:
    """A function from graph to graph, by its name."""

    name: str
    run: GraphPass


def to_f64(graph: Graph) -> Graph:
    """`graph` with f64 in place of f32."""
    return to_dtype(graph, DType.F64)


def laid_out(graph: Graph, rows: int) -> Graph:
    """The graph with one batch axis at most in each value, for batches of up to so many rows, rounded up.

    What holds of pairs of rows is simplified before the places that hold none come in between.
    """
    return lay_out_pairs(simplified(graph), rows) if has_pairs(graph) else graph


def passes_of(options: Options) -> tuple[Pass, ...]:
    """Everything that is done to the graph of a program until kernels are formed of it, in order."""
    # whoever simplifies a graph does without schedules
    from compiler.schedule.build import fixing
    from compiler.targets.registry import kernel_target_of

    number_pass = to_f64 if options.dtype == "f64" else widen_numbers
    optimising = [Pass(graph_pass.__name__, partial(everywhere, graph_pass)) for graph_pass in GRAPH_PASSES]
    machine = kernel_target_of(options).machine(options, runs=False)
    optimising += [Pass(round_products.__name__, rounding) for rounding in rounding_of(options)]
    fixing_passes = fixing(options.without, options.batch, machine).items()
    fixes = [Pass(name, graph_pass) for name, graph_pass in fixing_passes]
    laying_out = Pass(lay_out_pairs.__name__, partial(laid_out, rows=options.batch))
    return (Pass(number_pass.__name__, number_pass), laying_out, *optimising, *fixes)


def rounding_of(options: Options) -> Sequence[GraphPass]:
    """The pass behind all others that rounds the factors of products, where the options say so."""
    from compiler.targets.registry import kernel_target_of  # whoever simplifies a graph does without targets

    if options.products == "f32":
        return ()
    is_gpu = kernel_target_of(options).machine(options, runs=False).is_gpu
    return (partial(everywhere, partial(round_products, rounded=ORDERS[options.products, is_gpu])),)


def everywhere(graph_pass: GraphPass, graph: Graph) -> Graph:
    """A pass over the bodies of all scans, then over the graph itself."""
    if has_scans(graph):
        graph = replace(graph, nodes=tuple(_with_body(graph_pass, node) for node in graph.nodes))
    return graph_pass(graph)


def _with_body(graph_pass: GraphPass, node: Node) -> Node:
    if not isinstance(node.op, Scan):
        return node
    body = everywhere(graph_pass, node.op.body)
    return node if body is node.op.body else replace(node, op=replace(node.op, body=body))


def _in_order(passes: Iterable[GraphPass], graph: Graph) -> Graph:
    """Passes over a graph and the bodies of its scans; none makes a scan where none was."""
    if has_scans(graph):
        passes = [partial(everywhere, graph_pass) for graph_pass in passes]
    for graph_pass in passes:
        graph = graph_pass(graph)
    return graph


def has_scans(graph: Graph) -> bool:
    return any(isinstance(node.op, Scan) for node in graph.nodes)


def prepare_for_gradients(graph: Graph, becomes_double: bool = False) -> Graph:
    """A forward graph as differentiation should see it: formulas in their stable form, loops without what can leave.

    `becomes_double` as in `simplify`.
    """
    return _in_order((partial(simplify, becomes_double=becomes_double), split_scans, eliminate_dead, narrow), graph)


def simplified(graph: Graph) -> Graph:
    """The graph as the text has it, without needless nodes: no layer is laid out or joined with another."""
    return _in_order(SIMPLIFYING, graph)


EXCHANGING: tuple[GraphPass, ...] = (
    *SIMPLIFYING,
    form_moments,
    fold_products,  # convolutions are what other tools have, folds of products are not
    eliminate_dead,
)


def exchanged(graph: Graph, options: Options) -> Graph:
    """The graph as other tools take it: with the axes of convolutions and products as the text has them."""
    graph = to_f64(graph) if options.dtype == "f64" else widen_numbers(graph)
    graph = _in_order(EXCHANGING, graph)
    verify_graph(graph, "exchanged")
    return graph


def optimise_graph(graph: Graph, verify: bool = False, before_each: Callable[[], None] = lambda: None) -> Graph:
    """All passes over the graph; with `verify`, the invariants are checked after each, otherwise at the end.

    `before_each` may raise an error to end the work.
    """
    loops = has_scans(graph)  # no pass makes one where none was
    for graph_pass in GRAPH_PASSES:
        before_each()
        graph = everywhere(graph_pass, graph) if loops else graph_pass(graph)
        if verify:
            verify_graph(graph, graph_pass.__name__)
    if not verify:
        verify_graph(graph, "graph_passes")
    return graph
