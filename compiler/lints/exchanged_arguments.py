"""W0118: a target where a loss or metric takes the prediction, and labels of floats that are no distributions."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.errors.diagnostics import Diagnostic, hint
from compiler.frontend.bodies.exchanged import are_exchanged, learned_values, places_of
from compiler.frontend.trace import Application, Subject
from compiler.graph.ir import Value
from compiler.lints.inlined import inlined


def find_exchanged_arguments(subject: Subject) -> Iterator[Diagnostic]:
    """Where the user calls a function of both, in the loss, the metrics or the model."""
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
