"""An experiment, or a bare model, to what its elaboration knows, as plain data that a change elsewhere in the text only
moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from compiler.errors.diagnostics import Diagnostic, Edit, Note, Source, Span
from compiler.frontend.data_parts import SettingValue
from compiler.frontend.elaborator import Session
from compiler.frontend.program import ParameterSpec
from compiler.frontend.settings import plain
from compiler.frontend.tensors.shapes import axis_texts, tensor_text
from compiler.frontend.trace import Seen
from compiler.frontend.values import Poison, RunTimeNumber, TensorValue, TupleValue, Value, describe
from compiler.graph.ir import Role
from compiler.support.record import record
from compiler.syntax import tree
from compiler.types import static_elements

MOST_VALUES = 8
"""Different values that one place is told to have, as in the rounds of a loop."""


@record
class Dimension:
    """A dimension of a tensor as messages print it, and the place in the user's text that gave it its extent."""

    text: str
    origin: Span | None


@record
class Meaning:
    """The values at a place of the text, each once, in words or as the type of a tensor.

    `dimensions` are those of the first.
    """

    place: Span
    texts: tuple[str, ...]
    dimensions: tuple[Dimension, ...] = ()
    is_tensor: bool = False


@record
class SettingFact:
    """A setting of an experiment or bare model, whose declaration begins in `line`: its value, and who decided it."""

    experiment: str
    line: int
    name: str
    value: str
    origin: str


@record
class SubjectFacts:
    """What elaboration knows of one subject. `stretches` are the first and last lines of the declarations that it sees.

    `counted` has by line the sizes of parameters by their paths.
    """

    findings: tuple[Diagnostic, ...]
    meanings: tuple[Meaning, ...]
    settings: tuple[SettingFact, ...]
    counted: tuple[tuple[int, Mapping[str, int]], ...]
    stretches: tuple[tuple[int, int], ...]
    can_move: bool

    def at(self, starts: tuple[int, ...], source: Source) -> SubjectFacts:
        """The same facts in a text where these declarations, with the same lines, begin in the lines `starts`."""
        move = _Move(self.stretches, starts, source)
        return SubjectFacts(
            tuple(map(move.finding, self.findings)),
            tuple(map(move.meaning, self.meanings)),
            tuple(replace(setting, line=move.line(setting.line)) for setting in self.settings),
            tuple((move.line(line), sizes) for line, sizes in self.counted),
            tuple((start, start + last - first) for start, (first, last) in zip(starts, self.stretches, strict=True)),
            self.can_move,
        )


def in_text(finding: Diagnostic, source: Source) -> Diagnostic:
    """A finding whose places have the newest text of their file, which is the same in their lines."""
    return _Move((), (), source).finding(finding)


class _Move:
    """Moves places of a file to those of the same declarations in its newer text; other lines stay where they are."""

    def __init__(self, stretches: tuple[tuple[int, int], ...], starts: tuple[int, ...], source: Source) -> None:
        self.source = source
        self.lines = {
            line: line - first + start
            for start, (first, last) in zip(starts, stretches, strict=True)
            for line in range(first, last + 1)
        }

    def line(self, line: int) -> int:
        return self.lines.get(line, line)

    def span(self, span: Span) -> Span:
        if span.source.name != self.source.name:
            return span
        return Span(self.source, self.line(span.line), span.column, self.line(span.end_line), span.end_column)

    def finding(self, finding: Diagnostic) -> Diagnostic:
        notes = (Note(n.message, None if n.span is None else self.span(n.span), n.kind) for n in finding.notes)
        edits = (Edit(self.span(edit.span), edit.text) for edit in finding.edits)
        return replace(finding, span=self.span(finding.span), notes=tuple(notes), edits=tuple(edits))

    def meaning(self, meaning: Meaning) -> Meaning:
        dimensions = (Dimension(d.text, None if d.origin is None else self.span(d.origin)) for d in meaning.dimensions)
        return replace(meaning, place=self.span(meaning.place), dimensions=tuple(dimensions))


def subject_facts(
    session: Session,
    subject: tree.Train | tree.Model,
    findings: tuple[Diagnostic, ...],
    source: Source,
    stretches: tuple[tuple[int, int], ...],
) -> SubjectFacts:
    """What the elaboration of a subject saw in the file `source`, in which the declarations at `stretches` are its
    concern."""
    experiment = (subject.name or subject.model.id) if isinstance(subject, tree.Train) else subject.name
    settings = tuple(
        SettingFact(experiment, subject.span.line, name, _setting(value), origin)
        for name, (value, origin) in session.settings.entries.items()
    )
    meanings = tuple(_meanings(session, source.name))
    counted = tuple(_counted(session, source.name).items())
    lines = {line for first, last in stretches for line in range(first, last + 1)}
    places = [m.place for m in meanings] + [d.origin for m in meanings for d in m.dimensions if d.origin is not None]
    for finding in findings:
        places += [finding.span, *(n.span for n in finding.notes if n.span), *(e.span for e in finding.edits)]
    inner = (place for place in places if place.source.name == source.name)
    is_inside = all(place.line in lines and place.end_line in lines for place in inner)
    can_move = is_inside and all(line in lines for line, _ in counted)
    facts = SubjectFacts(findings, meanings, settings, counted, stretches, can_move)
    return facts.at(tuple(first for first, _ in stretches), source)


def _meanings(session: Session, name: str) -> list[Meaning]:
    found: dict[tuple[int, int, int, int], Meaning] = {}
    for seen in session.trace.seen or ():
        place = seen.place
        key = (place.line, place.column, place.end_line, place.end_column)
        known = found.get(key)
        if place.source.name != name or (known is not None and len(known.texts) >= MOST_VALUES):
            continue
        text = _text_of(seen)
        if known is None and text:
            found[key] = Meaning(place, (text,), _dimensions(seen), isinstance(seen.value, TensorValue))
        elif known is not None and text and text not in known.texts:
            found[key] = replace(known, texts=(*known.texts, text))
    return list(found.values())


def _counted(session: Session, name: str) -> dict[int, dict[str, int]]:
    """The sizes of parameters by the lines that led to them."""
    found: dict[int, dict[str, int]] = {}
    for spec in session.parameters.values():
        for line in _lines_of(spec, name) if spec.role is Role.PARAMETER else ():
            found.setdefault(line, {})[spec.path] = static_elements(spec.type.shape)
    return found


def _lines_of(spec: ParameterSpec, name: str) -> set[int]:
    return {place.line for place in (*spec.calls, spec.span) if place.source.name == name}


def _text_of(seen: Seen) -> str:
    match seen.value:
        case TensorValue():
            return tensor_text(seen.value, seen.scopes)
        case Poison():
            return ""
        case TupleValue(items) if all(isinstance(item, TensorValue) for item in items):
            return ", ".join(tensor_text(item, seen.scopes) for item in items if isinstance(item, TensorValue))
        case _:
            return describe(seen.value)


def _dimensions(seen: Seen) -> tuple[Dimension, ...]:
    value: Value = seen.value
    if not isinstance(value, TensorValue):
        return ()
    texts = axis_texts(value, seen.scopes)
    return tuple(Dimension(text, axis.origin) for text, axis in zip(texts, value.axes, strict=True))


def _setting(value: Value) -> str:
    """A setting as `.dl` text has it; a number that only the run knows is its formula."""
    if isinstance(value, RunTimeNumber) and value.value is None:
        return value.name
    return _shown(plain(value))


def _shown(value: SettingValue) -> str:
    """A setting as `.dl` text has it."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case tuple():
            return f"[{', '.join(map(_shown, value))}]"
        case _:
            return str(value)
