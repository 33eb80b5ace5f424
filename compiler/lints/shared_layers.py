"""W0114: a layer given as a setting that is applied at two places, one after the other, with the same parameters."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.errors.diagnostics import Diagnostic, Note, Span, hint
from compiler.frontend.trace import Application, Subject
from compiler.lints.flow import Flow
from compiler.lints.inlined import inlined


def find_shared_layers(subject: Subject) -> Iterator[Diagnostic]:
    """Where one application gets what another made: two branches with the same layer are most likely meant."""
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
        if span.source == call.source and span.line <= call.line <= span.end_line:
            return name if name in settings else None
    return None
