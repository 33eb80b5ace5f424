"""W0106 and W0118: arguments of losses and metrics that do not suit their parameters."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.errors.diagnostics import Diagnostic, Note, Span, hint
from compiler.frontend.applications import Application
from compiler.frontend.tensors.binding import are_exchanged, learned_values, places_of
from compiler.frontend.trace import Subject
from compiler.graph.ir import Value
from compiler.lints.flow import Flow, inlined, place_of
from compiler.ops.mathematics import Sigmoid

_INSTEAD = {
    "cross_entropy": "sparse_categorical_cross_entropy` (for classes) or `categorical_cross_entropy",
    "binary_cross_entropy_with_logits": "binary_cross_entropy",
}
"""Losses of the library that want logits, with those that want probabilities."""
_OWN = {"cross_entropy": "softmax", "binary_cross_entropy_with_logits": "sigmoid"}
"""The functions that they apply to logits."""


def find_double_softmax(subject: Subject) -> Iterator[Diagnostic]:
    """W0106: probabilities for a parameter `logits`, which the loss turns into probabilities itself."""
    applications = subject.trace.applications.get("training", [])
    flow = Flow(inlined(subject.program.training_graph))
    made = [a for a in applications if a.is_library and a.declaration.name == "softmax"]
    softmaxes = {flow.source(application.results[0]).index: application for application in made}
    for application in applications:
        logits = application.operands.get("logits")
        if logits is None or application.call.source.is_library:
            continue  # another function of the library may pass its own `logits` on
        source = flow.source(logits)
        maker = flow.maker(source)
        if source.index in softmaxes:
            yield _finding(application, "softmax", softmaxes[source.index].user_call)
        elif maker is not None and isinstance(maker.op, Sigmoid):
            yield _finding(application, "sigmoid", place_of(maker))


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


def find_exchanged_arguments(subject: Subject) -> Iterator[Diagnostic]:
    """W0118: a target where a loss or metric takes the prediction, and labels of floats that are no distributions.

    In the user's own calls, of the loss, the metrics or the model.
    """
    graph = inlined(subject.program.inference_graph)
    learned = learned_values(graph.inputs, graph.nodes)
    for application in subject.trace.applications.get("inference", []):
        places = places_of(application.operands)
        if places is None or application.call.source.is_library:
            continue
        said, true = places
        first, second = application.operands[said], application.operands[true]
        if are_exchanged(application.operands, learned):
            yield _exchanged(application, said, true)
        elif true == "label" and second.type.dtype.is_float and not _is_distribution(second, first):
            yield _no_distribution(application, first, second)


def _is_distribution(label: Value, scores: Value) -> bool:
    return label.type.rank == scores.type.rank and label.type.shape[-1:] == scores.type.shape[-1:]


def _exchanged(application: Application, said: str, true: str) -> Diagnostic:
    name = application.declaration.name
    message = f"`{name}` takes `{said}`, the prediction, before `{true}`, but here the data stands first"
    advice = hint(f"exchange them: `{name}(…)` of the prediction and then the {true}")
    return Diagnostic("W0118", message, application.user_call, (advice,), "warning")


def _no_distribution(application: Application, scores: Value, label: Value) -> Diagnostic:
    name = application.declaration.name
    message = f"`{name}` takes a label of floats for a distribution over the classes of {scores.type}, not {label.type}"
    advice = hint("declare classes as integers without that axis, such as `i32[batch]`")
    return Diagnostic("W0118", message, application.user_call, (advice,), "warning")
