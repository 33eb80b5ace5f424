"""W0107, W0109 and W0114: parameters that are not trained, that start with the wrong scale, or that are shared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from compiler.errors.diagnostics import Diagnostic, Note, Span, hint
from compiler.frontend.applications import Application
from compiler.frontend.program import ParameterSpec
from compiler.frontend.trace import Subject
from compiler.frontend.update_rules import UpdateRule
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.lints.flow import Flow, inlined, owner_place, place_of, unchanged
from compiler.ops.autodiff import gradients_of
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Subtract
from compiler.ops.mathematics import Sigmoid, Tanh


def find_unreached_parameters(subject: Subject) -> Iterator[Diagnostic]:
    """W0107: parameters that keep their start values, because no gradient of the loss reaches them.

    One finding for each place that makes such parameters.
    """
    plan = subject.program.plan
    if plan is None:
        return
    if not plan.updates:
        yield from _unreached(subject, plan.rules, "loss")
    for block in plan.updates:
        yield from _unreached(subject, block.rules, block.loss)


def _unreached(subject: Subject, rules: Sequence[UpdateRule], name: str) -> Iterator[Diagnostic]:
    """Those that `rules` update by the gradient of the output `name`."""
    graph = subject.program.training_graph
    loss = graph.output(name).value
    trained = {path for rule in rules for path in rule.paths}
    values = {i.name: i.value for i in graph.inputs if i.role is Role.PARAMETER and i.name in trained}
    reached = _reached(graph, loss, list(values.values()))
    places: dict[str, list[ParameterSpec]] = {}
    for spec in subject.program.parameters:
        if spec.path in trained and (spec.path not in values or values[spec.path].index not in reached):
            places.setdefault(str(owner_place(spec)), []).append(spec)
    for specs in places.values():
        unreached = [values[spec.path] for spec in specs if spec.path in values]
        yield _finding(graph, loss, owner_place(specs[0]), [spec.path for spec in specs], unreached)


def _reached(graph: Graph, loss: Value, values: Sequence[Value]) -> set[int]:
    """Those of the values that the gradient of the loss reaches, by index."""
    found = gradients_of(GraphBuilder.continuing(graph), graph.nodes, loss, values)
    return {value.index for value, gradient in zip(values, found, strict=True) if gradient is not None}


def _finding(graph: Graph, loss: Value, place: Span, paths: list[str], unreached: list[Value]) -> Diagnostic:
    named = " and ".join(f"`{path}`" for path in paths) if len(paths) < 3 else f"`{paths[0]}` and {len(paths) - 1} more"
    start, them = ("they start", "them") if len(paths) > 1 else ("it starts", "it")
    left = f"training leaves {named} as {start}"
    flow = Flow(graph)
    if loss.index not in flow.depending(unreached):
        message = f"{left}: the loss does not depend on {them}"
        return Diagnostic("W0107", message, place, (hint("use it, or leave it out"),), "warning")
    message = f"{left}: no gradient reaches {them}"
    advice = hint("list in `freeze` the parameters that are meant to stay")
    return Diagnostic("W0107", message, place, (advice, *_barrier(graph, flow, loss, unreached)), "warning")


def _barrier(graph: Graph, flow: Flow, loss: Value, unreached: list[Value]) -> tuple[Note, ...]:
    """A note on the first node between the parameters and the loss that lets no gradient through."""
    between = flow.depending(unreached) & flow.reaching([loss])
    values = [r for node in graph.nodes for r in node.results if r.index in between and r.type.dtype.is_float]
    reached = _reached(graph, loss, values) | {loss.index}
    for node in graph.nodes:
        if any(result.index in reached for result in node.results) and any(
            operand.index in between and operand.index not in reached for operand in node.operands
        ):
            place = place_of(node)
            return () if place is None else (Note(f"`{node.op.name}` here passes no gradient", place),)
    return ()


def find_shared_layers(subject: Subject) -> Iterator[Diagnostic]:
    """W0114: a layer given as a setting that is applied at two places, one after the other, with the same parameters.

    Where one application gets what another made: two branches with the same layer are most likely meant.
    """
    flow = Flow(inlined(subject.program.training_graph))
    owners = {spec.path.rpartition(".")[0] for spec in subject.program.parameters}
    declared = _settings(subject)
    first: dict[str, Application] = {}
    told: set[str] = set()  # who applies a layer again and again, as a Runge-Kutta step does, is asked once
    for application in subject.trace.applications.get("training", []):
        path, call = application.path, application.call
        setting = _setting_of(declared, application)
        if setting is None or not any(owner == path or owner.startswith(f"{path}.") for owner in owners):
            continue
        before = first.setdefault(path, application)
        if before.call == call or path in told:
            continue
        made = flow.depending(list(before.results))
        if any(operand.index in made for operand in application.operands.values()):
            message = f"`{setting}` is applied to its own output, with the same parameters"
            advice = hint(f"`fresh({setting})` has parameters of its own")
            note = Note("it is first applied here", before.call)
            told.add(path)
            yield Diagnostic("W0114", message, call, (advice, note), "warning")


def _settings(subject: Subject) -> list[tuple[Span, set[str]]]:
    """The declarations of the user's that are applied, with the names of their settings."""
    found = [(subject.model.span, {parameter.name for parameter in subject.model.settings})]
    applied = {a.declaration.span: a.declaration for a in subject.trace.applications.get("training", [])}
    for span, declaration in applied.items():
        if not span.source.is_library:
            found.append((span, {parameter.name for group in declaration.groups for parameter in group}))
    return found


def _setting_of(declared: list[tuple[Span, set[str]]], application: Application) -> str | None:
    """The setting by whose name a layer is applied in the user's text."""
    call = application.call
    if application.declaration.keyword != "layer" or call.source.is_library:
        return None
    name = call.text.partition("(")[0].strip()
    for span, settings in declared:
        if span.source.name == call.source.name and span.line <= call.line <= span.end_line:
            return name if name in settings else None
    return None


_SUITS = {"sigmoid": "glorot", "tanh": "glorot", "relu": "he", "leaky_relu": "he", "selu": "lecun"}
_INITIALIZER = re.compile(r"(glorot|he|lecun)_(uniform|normal)")


def find_start_values(subject: Subject) -> Iterator[Diagnostic]:
    """W0109: an initialiser whose scale was derived for another activation than the one that follows.

    Glorot for sigmoid and tanh (Glorot & Bengio 2010), He for rectifiers (He et al. 2015), LeCun for selu (Klambauer et
    al. 2017). A default that nobody chose is judged before selu only, which needs its own to normalise. It looks at
    weights that are multiplied with a value, and the activation of the product, with or without a bias between.
    """
    search = _Search(subject)
    values = {i.name: i.value for i in subject.program.training_graph.inputs if i.role is Role.PARAMETER}
    for spec in subject.program.parameters:
        form = subject.trace.initializers.get(spec.path)
        if form is None or not form.module.is_library or spec.path not in values:
            continue
        kind = _INITIALIZER.fullmatch(form.declaration.name)
        found = search.activation_after(values[spec.path]) if kind else None
        if kind is None or found is None or _SUITS[found[0]] == kind[1]:
            continue
        place = owner_place(spec)
        if found[0] == "selu" or kind[0] in place.text:
            yield _other_scale(spec, place, kind[0], f"{_SUITS[found[0]]}_{kind[2]}", *found)


class _Search:
    """The way from weights to the activation of their product."""

    def __init__(self, subject: Subject) -> None:
        graph = inlined(subject.program.training_graph)
        self._flow = Flow(graph)
        self._of_data = self._flow.depending([i.value for i in graph.inputs if i.role is Role.DATA])
        self._applied: dict[int, Application] = {}
        for application in subject.trace.applications.get("training", []):
            if application.is_library and not application.call.source.is_library:
                for operand in application.operands.values():
                    self._applied.setdefault(operand.index, application)

    def activation_after(self, weights: Value) -> tuple[str, Span | None] | None:
        """The name and place of the activation, if it is one that a family of initialisers was made for."""
        for node in self._flow.takers(weights):
            if isinstance(node.op, Contraction):
                return self._after_product(node.results[0])
            if unchanged(node, node.results[0]) is not None:
                return self.activation_after(node.results[0])
        return None

    def _after_product(self, product: Value) -> tuple[str, Span | None] | None:
        application = self._applied.get(product.index)
        if application is not None:
            name = application.declaration.name
            return (name, application.user_call) if name in _SUITS else None
        for node in self._flow.takers(product):
            if isinstance(node.op, Sigmoid | Tanh) and not node.origins[0].span.source.is_library:
                return node.op.name, place_of(node)
            adds_bias = isinstance(node.op, Add | Subtract) and any(o.index not in self._of_data for o in node.operands)
            if adds_bias or unchanged(node, node.results[0]) is not None:
                return self._after_product(node.results[0])
        return None


def _other_scale(
    spec: ParameterSpec, place: Span, chosen: str, better: str, activation: str, after: Span | None
) -> Diagnostic:
    message = f"`{chosen}` gives `{spec.path}` a scale that does not suit `{activation}`, which follows"
    notes = () if after is None or after == place else (Note(f"`{activation}` is applied here", after),)
    return Diagnostic("W0109", message, place, (hint(f"take `{better}`"), *notes), "warning")
