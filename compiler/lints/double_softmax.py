"""W0106: probabilities where a loss wants logits, which it turns into probabilities itself."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.errors.diagnostics import Diagnostic, Note, Span, hint
from compiler.frontend.trace import Application, Subject
from compiler.lints.flow import Flow, place_of
from compiler.lints.inlined import inlined
from compiler.ops.elementwise import Sigmoid

_INSTEAD = {
    "cross_entropy": "sparse_categorical_cross_entropy` (for classes) or `categorical_cross_entropy",
    "binary_cross_entropy_with_logits": "binary_cross_entropy",
}
"""Losses of the library that want logits, with those that want probabilities."""
_OWN = {"cross_entropy": "softmax", "binary_cross_entropy_with_logits": "sigmoid"}
"""The functions that they apply to logits."""


def find_double_softmax(subject: Subject) -> Iterator[Diagnostic]:
    """A tensor parameter called `logits` that is given what `softmax` or `sigmoid` made."""
    applications = subject.trace.applications.get("training", [])
    flow = Flow(inlined(subject.program.training_graph))
    made = [a for a in applications if a.is_library and a.declaration.name == "softmax"]
    softmaxes = {flow.source(application.results[0]).index: application for application in made}
    for application in applications:
        logits = application.operands.get("logits")
        if logits is None or _is_inside_library(application):
            continue
        source = flow.source(logits)
        maker = flow.maker(source)
        if source.index in softmaxes:
            yield _finding(application, "softmax", softmaxes[source.index].user_call)
        elif maker is not None and isinstance(maker.op, Sigmoid):
            yield _finding(application, "sigmoid", place_of(maker))


def _is_inside_library(application: Application) -> bool:
    """Whether another function of the library passes its own `logits` on."""
    return application.call.source.is_library


def _finding(application: Application, function: str, place: Span | None) -> Diagnostic:
    loss = application.declaration.name
    advice = f"give the loss the operand of `{function}`"
    if loss in _INSTEAD:
        advice += f", or take a loss of probabilities: `{_INSTEAD[loss]}`"
    notes = () if place is None else (Note(f"`{function}` is applied here", place),)
    own = f" and applies `{_OWN[loss]}` itself" if loss in _OWN else ""
    already = " already" if _OWN.get(loss) == function else ""
    message = f"`{loss}` wants logits{own}, but these went through `{function}`{already}"
    return Diagnostic("W0106", message, application.user_call, (hint(advice), *notes), "warning")
