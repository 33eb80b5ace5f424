"""A finding to the edits that its hint proposes: "did you mean `x`?", "write `and`"."""

from __future__ import annotations

import re

from compiler.errors.diagnostics import Diagnostic, Edit, Span
from compiler.errors.index import ERRORS
from compiler.support.record import record

_MEANT = re.compile(r"did you mean [`\"]?\.?([\w./-]+)[`\"]?\?")
_INSTEAD = re.compile(r"write `([^`…]+)`")
_STANDS_FOR_ITSELF = re.compile(r"it stands by itself: `(\w+)`")
_NAMED = re.compile(r"[`\"]([^`\"]+)[`\"]")
_WHOLE = ("E0103", "E0104", "E0111")  # the finding's place is what is replaced


@record
class Correction:
    """Edits with a title; `keeps_meaning` where they correct the text without a change of what it means."""

    title: str
    edits: tuple[Edit, ...]
    keeps_meaning: bool


def corrections(finding: Diagnostic) -> tuple[Correction, ...]:
    """The corrections of a finding, the surest first."""
    found: list[Correction] = []
    if finding.edits:
        found.append(Correction(_title_of_edits(finding), finding.edits, True))
    for note in finding.notes:
        if note.kind == "hint" and (edit := _edit_of(finding, note.message)) is not None:
            found.append(Correction(note.message.removesuffix("?").capitalize(), (edit,), False))
    if finding.severity == "warning":
        found.append(_suppression(finding))
    return tuple(found)


def _title_of_edits(finding: Diagnostic) -> str:
    entry = ERRORS.get(finding.code)
    hints = [note.message for note in finding.notes if note.kind == "hint"]
    return (hints[0] if hints else entry.hint if entry is not None else "correct it").capitalize()


def _edit_of(finding: Diagnostic, message: str) -> Edit | None:
    span = finding.span
    meant = _MEANT.search(message)
    if meant is not None:
        wrong = _wrong_name(finding)
        return None if wrong is None else Edit(wrong, meant[1])
    alone = _STANDS_FOR_ITSELF.search(message)
    if alone is not None:
        line = span.source.line(span.line)
        rest = re.match(r"(?:\.\w+)+", line[span.end_column - 1 :])
        end = span.end_column + (rest.end() if rest else 0)
        return Edit(Span(span.source, span.line, span.column, span.line, end), alone[1])
    instead = _INSTEAD.fullmatch(message)
    if instead is not None and finding.code in _WHOLE:
        return Edit(span, instead[1])
    if finding.code == "E0111" and (habit := re.search(r"is written `(\w+)` here", finding.message)) is not None:
        return Edit(span, habit[1])
    return None


def _wrong_name(finding: Diagnostic) -> Span | None:
    """The place of the first name in the message that stands in the finding's text."""
    span = finding.span
    if span.line != span.end_line:
        return None
    text = span.source.line(span.line)[span.column - 1 : span.end_column - 1]
    for name in reversed(_NAMED.findall(finding.message)):
        match = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)
        if match is not None:
            column = span.column + match.start()
            return Span(span.source, span.line, column, span.line, column + len(name))
    return None


def _suppression(finding: Diagnostic) -> Correction:
    """A comment at the end of the line that suppresses a warning."""
    span = finding.span
    line = span.source.line(span.line).rstrip("\r")
    known = re.search(r"(# *dlc: *ignore\[)([^\]]*)\]", line)
    if known is not None:
        column = known.start(2) + 1
        edit = Edit(Span(span.source, span.line, column, span.line, column), f"{finding.code}, ")
    else:
        column = len(line) + 1
        edit = Edit(Span(span.source, span.line, column, span.line, column), f"  # dlc: ignore[{finding.code}]")
    return Correction(f"Suppress {finding.code} in this line", (edit,), False)
