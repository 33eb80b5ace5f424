"""W0107: parameters that keep their start values, because no gradient of the loss reaches them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compiler.autodiff import gradients_of
from compiler.errors.diagnostics import Diagnostic, Note, Span, hint
from compiler.frontend.program import ParameterSpec
from compiler.frontend.trace import Subject
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Role, Value
from compiler.lints.flow import Flow, owner_place, place_of


def find_unreached_parameters(subject: Subject) -> Iterator[Diagnostic]:
    """One finding for each place that makes such parameters."""
    graph, plan = subject.program.training_graph, subject.program.plan
    if plan is None:
        return
    trained = {path for rule in plan.rules for path in rule.paths}
    values = {i.name: i.value for i in graph.inputs if i.role is Role.PARAMETER and i.name in trained}
    reached = _reached(graph, list(values.values()))
    places: dict[str, list[ParameterSpec]] = {}
    for spec in subject.program.parameters:
        if spec.path in trained and (spec.path not in values or values[spec.path].index not in reached):
            places.setdefault(str(owner_place(spec)), []).append(spec)
    for specs in places.values():
        unreached = [values[spec.path] for spec in specs if spec.path in values]
        yield _finding(graph, owner_place(specs[0]), [spec.path for spec in specs], unreached)


def _reached(graph: Graph, values: Sequence[Value]) -> set[int]:
    """Those of the values that the gradient of the loss reaches, by index."""
    found = gradients_of(GraphBuilder.continuing(graph), graph.nodes, graph.output("loss").value, values)
    return {value.index for value, gradient in zip(values, found, strict=True) if gradient is not None}


def _finding(graph: Graph, place: Span, paths: list[str], unreached: list[Value]) -> Diagnostic:
    named = " and ".join(f"`{path}`" for path in paths) if len(paths) < 3 else f"`{paths[0]}` and {len(paths) - 1} more"
    start, them = ("they start", "them") if len(paths) > 1 else ("it starts", "it")
    left = f"training leaves {named} as {start}"
    flow = Flow(graph)
    loss = graph.output("loss").value
    if loss.index not in flow.depending(unreached):
        message = f"{left}: the loss does not depend on {them}"
        return Diagnostic("W0107", message, place, (hint("use it, or leave it out"),), "warning")
    message = f"{left}: no gradient reaches {them}"
    barrier = _barrier(graph, flow, unreached)
    notes = () if barrier is None else tuple(_barrier_note(barrier))
    advice = hint("list it in `freeze` if that is meant")
    return Diagnostic("W0107", message, place, (advice, *notes), "warning")


def _barrier(graph: Graph, flow: Flow, unreached: list[Value]) -> Node | None:
    """The first node between the parameters and the loss that lets no gradient through."""
    loss = graph.output("loss").value
    between = flow.depending(unreached) & flow.reaching([loss])
    values = [r for node in graph.nodes for r in node.results if r.index in between and r.type.dtype.is_float]
    reached = _reached(graph, values) | {loss.index}
    for node in graph.nodes:
        if any(result.index in reached for result in node.results) and any(
            operand.index in between and operand.index not in reached for operand in node.operands
        ):
            return node
    return None


def _barrier_note(node: Node) -> Iterator[Note]:
    place = place_of(node)
    if place is not None:
        yield Note(f"`{node.op.name}` here passes no gradient", place)
