"""What leaves a scan: products before and behind its loop, and sums of products as one product."""

from __future__ import annotations

from differentiation import gradient_graph
from op_samples import float_inputs
from scan_graphs import behind_the_loop, lstm, masked, random_draws, scan_graph

from compiler.graph.ir import Graph, Node
from compiler.ops.contraction import Contraction
from compiler.ops.scan import Scan
from compiler.pipeline import optimise_graph, prepare_for_gradients


def scans(graph: Graph) -> list[Scan]:
    return [node.op for node in graph.nodes if isinstance(node.op, Scan)]


def products(nodes: tuple[Node, ...]) -> int:
    return sum(isinstance(node.op, Contraction) for node in nodes)


def test_the_step_of_an_lstm_has_one_product_in_each_direction() -> None:
    forward = prepare_for_gradients(scan_graph(lstm))
    (scan,) = scans(forward)
    assert products(scan.body.nodes) == 1
    assert products(forward.nodes) == 1
    whole = optimise_graph(gradient_graph(forward, "y2", float_inputs(forward)))
    there, back = scans(whole)
    assert (products(there.body.nodes), products(back.body.nodes)) == (1, 1)
    assert back.carries == 2  # the gradients of h and c; those of weights are products behind the loop
    assert products(whole.nodes) == 4  # x W before the loop; x.T dz, h.T dz and dz W.T behind it


def test_products_leave_in_both_directions() -> None:
    (scan,) = scans(optimise_graph(scan_graph(behind_the_loop)))
    assert products(scan.body.nodes) == 1
    assert not any(node.op.name == "gather" for node in scan.body.nodes)


def test_what_needs_its_step_stays() -> None:
    (scan,) = scans(optimise_graph(scan_graph(masked)))
    assert products(scan.body.nodes) == 1
    (outer,) = scans(optimise_graph(scan_graph(random_draws)))
    assert sum(isinstance(node.op, Scan) for node in outer.body.nodes) == 1


def test_a_scan_is_made_once_for_all_its_stacks() -> None:
    forward = scan_graph(lstm)
    whole = gradient_graph(forward, "y2", float_inputs(forward))
    assert len(scans(whole)) == 3  # forward, forward with stacks for the gradient, backward
    assert len(scans(optimise_graph(whole))) == 2
