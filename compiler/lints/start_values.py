"""W0109: an initialiser whose scale was derived for another activation than the one that follows.

Glorot for sigmoid and tanh (Glorot & Bengio 2010), He for rectifiers (He et al. 2015), LeCun for selu (Klambauer et al.
2017). A default that nobody chose is judged before selu only, which needs its own to normalise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from compiler.errors.diagnostics import Diagnostic, Note, Span, hint
from compiler.frontend.program import ParameterSpec
from compiler.frontend.trace import Application, Subject
from compiler.graph.ir import Node, Role, Value
from compiler.lints.flow import Flow, owner_place, place_of, unchanged
from compiler.lints.inlined import inlined
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Subtract
from compiler.ops.mathematics import Sigmoid, Tanh

_SUITS = {"sigmoid": "glorot", "tanh": "glorot", "relu": "he", "leaky_relu": "he", "selu": "lecun"}
_INITIALIZER = re.compile(r"(glorot|he|lecun)_(uniform|normal)")


def find_start_values(subject: Subject) -> Iterator[Diagnostic]:
    """Weights that are multiplied with a value, and the activation of the product, with or without a bias between."""
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
            yield _finding(spec, place, kind[0], f"{_SUITS[found[0]]}_{kind[2]}", *found)


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
            if unchanged(node, node.results[0]) is not None or self._adds_bias(node):
                return self._after_product(node.results[0])
        return None

    def _adds_bias(self, node: Node) -> bool:
        return isinstance(node.op, Add | Subtract) and any(o.index not in self._of_data for o in node.operands)


def _finding(
    spec: ParameterSpec, place: Span, chosen: str, better: str, activation: str, after: Span | None
) -> Diagnostic:
    message = f"`{chosen}` gives `{spec.path}` a scale that does not suit `{activation}`, which follows"
    notes = () if after is None or after == place else (Note(f"`{activation}` is applied here", after),)
    return Diagnostic("W0109", message, place, (hint(f"take `{better}`"), *notes), "warning")
