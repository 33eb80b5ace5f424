"""W0118: a target where a loss or metric takes what the model says, and labels of floats that are no distributions."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostics import Diagnostic, hint
from compiler.frontend.trace import Application, Subject
from compiler.graph.ir import Role, Value
from compiler.lints.flow import Flow
from compiler.lints.laid_open import laid_open

_SAID = ("logits", "log_probability", "probability", "prediction", "score", "scores")
"""What parameters are called that take what a model says, in the library and as a rule elsewhere."""
_TRUE = ("label", "target")


def find_exchanged_arguments(subject: Subject) -> Iterator[Diagnostic]:
    """Where the user calls a function of both, in the loss, the metrics or the model."""
    graph = laid_open(subject.program.inference)
    trained = {entry.value.index for entry in graph.inputs if entry.role is Role.PARAMETER}
    learned = Flow(graph).depending([e.value for e in graph.inputs if e.value.index in trained])
    for application in subject.trace.applications.get("inference", []):
        said = next((name for name in _SAID if name in application.operands), None)
        true = next((name for name in _TRUE if name in application.operands), None)
        if said is None or true is None or application.call.source.is_library:
            continue
        first, second = application.operands[said], application.operands[true]
        if first.index not in learned and second.index in learned:
            yield _exchanged(application, said, true)
        elif true == "label" and second.type.dtype.is_float and not _is_distribution(second, first):
            yield _no_distribution(application, first, second)


def _is_distribution(label: Value, scores: Value) -> bool:
    return label.type.rank == scores.type.rank and label.type.shape[-1:] == scores.type.shape[-1:]


def _exchanged(application: Application, said: str, true: str) -> Diagnostic:
    name = application.declaration.name
    message = f"`{name}` takes `{said}`, what the model says, before `{true}`, but here the data stands first"
    advice = hint(f"exchange them: `{name}(…)` of what the model says and then the {true}")
    return Diagnostic("W0118", message, application.user_call, (advice,), "warning")


def _no_distribution(application: Application, scores: Value, label: Value) -> Diagnostic:
    name = application.declaration.name
    message = f"`{name}` takes a label of floats for a distribution over the classes of {scores.type}, not {label.type}"
    advice = hint("declare classes as integers without that axis, such as `i32[batch]`")
    return Diagnostic("W0118", message, application.user_call, (advice,), "warning")
