"""A program to the graph of its gradients as a text can say it: each node knows the level of the model it belongs to.

The graph is that of a training step up to the gradients, simplified. Random draws are inputs of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

from compiler.errors.diagnostics import UsageError
from compiler.frontend.program import Program
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphInput, GraphOutput, Node, Origin, Role, Value, needed_by
from compiler.graph_passes.eliminate import eliminate_common, eliminate_dead
from compiler.graph_passes.scans import merge_scans
from compiler.inspection.levels import Level, levels_of
from compiler.ops.autodiff import backward_origins, cotangents_of
from compiler.ops.build import filled
from compiler.ops.control import CustomGradient, StopGradient, resolve_custom_gradients
from compiler.ops.scan import Scan, scan_body
from compiler.ops.sources import RandomUniform
from compiler.pipeline import everywhere, prepare_for_gradients, simplified
from compiler.support.record import record

LOSS = "loss"


@record
class Derivative:
    """`graph` gives the loss and the gradient of each trained parameter, by its path.

    The origins of its nodes have the key of a level in place of a path. `forward` are the values that the loss is made
    of, `slopes` leads from the index of a cotangent to that of its value, and `draws` from inputs to what draws them.
    `same` leads from a value that only steers differentiation to the one that it stands for.
    """

    graph: Graph
    root: Level
    forward: frozenset[int]
    slopes: Mapping[int, int]
    draws: Mapping[str, Node]
    same: Mapping[int, int]


def derivative_of(program: Program, is_simplified: bool = True) -> Derivative:
    """Raises UsageError where there is no loss, or a step of a scan draws random numbers.

    Without `is_simplified`, the laws of operations are left to who compiles the text.
    """
    if program.plan is None:
        raise UsageError(f"{program.name} has no `train`, so no loss to differentiate")
    trained = {path for rule in program.plan.rules for path in rule.paths}
    levels, is_double = levels_of(program), program.plan.is_double
    return derivative_of_graph(program.training_graph, trained, levels, is_double, is_simplified)


def derivative_of_graph(
    graph: Graph, wanted: Collection[str], root: Level, is_double: bool = False, is_simplified: bool = True
) -> Derivative:
    """That of the output `loss`, a scalar, in the inputs with the names `wanted`. Raises UsageError as above."""
    whole, draws = _with_draws_as_inputs(graph)
    ready = prepare_for_gradients(_stamped(whole, _keys(root)), is_double)
    builder = GraphBuilder.extending(ready)
    loss = ready.output(LOSS).value
    entries = [entry for entry in ready.inputs if entry.name in wanted]
    with builder.at(backward_origins(builder.definition(loss))):
        start = {loss.index: filled(builder, 1, loss.type)}
    found = cotangents_of(builder, ready.nodes, start, [entry.value for entry in entries])
    outputs = [GraphOutput(LOSS, Role.OUTPUT, loss)]
    for entry in entries:
        slope = found.get(entry.value.index) or filled(builder, 0, entry.value.type)
        outputs.append(GraphOutput(entry.name, Role.OUTPUT, slope))
    whole = replace(builder.build(), outputs=tuple(outputs))
    made = _with_apart_bodies(simplified(whole) if is_simplified else _tidied(whole))
    _, forward = needed_by(made.nodes, [made.output(LOSS).value.index])
    slopes = {cotangent.index: index for index, cotangent in found.items()}
    return Derivative(made, root, frozenset(forward), slopes, draws, dict(_standing_for(graph.nodes)))


_TIDYING = (resolve_custom_gradients, merge_scans, eliminate_dead, eliminate_common, eliminate_dead)


def _tidied(graph: Graph) -> Graph:
    """The graph as differentiation made it, without what nobody reads or what is there twice."""
    for graph_pass in _TIDYING:
        graph = everywhere(graph_pass, graph)
    return graph


def _standing_for(nodes: Sequence[Node]) -> Iterator[tuple[int, int]]:
    found: dict[int, int] = {}
    for node in nodes:
        if isinstance(node.op, (CustomGradient, StopGradient)):
            behind = node.operands[node.op.inputs :] if isinstance(node.op, CustomGradient) else node.operands
            found.update((r.index, found.get(o.index, o.index)) for r, o in zip(node.results, behind, strict=True))
    yield from found.items()


def _keys(root: Level) -> dict[int, str]:
    """The key of the innermost level that makes each value."""
    found: dict[int, str] = {}
    for level in root.walk():  # outer ones first
        found.update(dict.fromkeys(level.values, level.key))
    return found


def _stamped(graph: Graph, keys: Mapping[int, str]) -> Graph:
    """The graph with the keys of levels as paths of origins, in the bodies of scans too."""

    def stamped(node: Node) -> Node:
        key = keys.get(node.results[0].index, "")
        origins = tuple(Origin(o.span, o.calls, key, o.direction) for o in node.origins)
        op = replace(node.op, body=_mapped(node.op.body, stamped)) if isinstance(node.op, Scan) else node.op
        return Node(op, node.operands, node.results, origins)

    return _mapped(graph, stamped)


def _with_apart_bodies(graph: Graph) -> Graph:
    """The graph with values in the bodies of scans that no other value has the index of."""
    fresh = count(GraphBuilder.extending(graph).next_index)

    def renewed(node: Node, known: dict[int, Value]) -> Node:
        op = replace(node.op, body=apart(node.op.body)) if isinstance(node.op, Scan) else node.op
        for result in node.results:
            known[result.index] = Value(next(fresh), result.type)
        operands, results = (tuple(known[v.index] for v in vs) for vs in (node.operands, node.results))
        return Node(op, operands, results, node.origins)

    def apart(body: Graph) -> Graph:
        known = {entry.value.index: Value(next(fresh), entry.value.type) for entry in body.inputs}
        nodes = [renewed(node, known) for node in body.nodes]
        inputs = [known[entry.value.index] for entry in body.inputs]
        return scan_body(inputs, nodes, [known[output.value.index] for output in body.outputs])

    scans = (isinstance(node.op, Scan) for node in graph.nodes)
    if not any(scans):
        return graph
    return _mapped(
        graph, lambda n: replace(n, op=replace(n.op, body=apart(n.op.body))) if isinstance(n.op, Scan) else n
    )


def _mapped(graph: Graph, change: Callable[[Node], Node]) -> Graph:
    return replace(graph, nodes=tuple(map(change, graph.nodes)))


def _with_draws_as_inputs(graph: Graph) -> tuple[Graph, dict[str, Node]]:
    """The graph with an input in place of each draw, named after the layer that draws."""
    inputs, nodes, draws = list(graph.inputs), list[Node](), dict[str, Node]()
    for node in graph.nodes:
        if not isinstance(node.op, RandomUniform):
            _expect_no_draws(node)
            nodes.append(node)
            continue
        path = next((origin.path for origin in node.origins if origin.path), "")
        name = f"{path}.draw" if path else "draw"
        while name in draws:
            stem, _, number = name.rpartition("_")
            name = f"{stem}_{int(number) + 1}" if stem and number.isdigit() else f"{name}_2"
        draws[name] = node
        inputs.append(GraphInput(name, Role.DATA, node.results[0]))
    return replace(graph, inputs=tuple(inputs), nodes=tuple(nodes)), draws


def _expect_no_draws(node: Node) -> None:
    body = node.op.body.nodes if isinstance(node.op, Scan) else ()
    for inner in body:
        if isinstance(inner.op, RandomUniform):
            line = node.origins[0].user_span.line if node.origins else 0
            message = f"the gradient of line {line} has no text: each step of its `scan` draws random numbers"
            raise UsageError(message, "draw in front of the `scan`, and scan the draws")
        _expect_no_draws(inner)
