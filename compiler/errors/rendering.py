"""Diagnostics to text for a terminal, and to plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from unicodedata import category

from compiler.errors.diagnostics import Diagnostic, Note, SourceError, Span, columns_of, hint, wrapped
from compiler.errors.index import ERRORS
from compiler.support.harmless import harmless, harmless_lines
from compiler.support.record import record

MOST_SHOWN = 100
_TAB = 4
_WIDTH = 100  # of source lines where there is no terminal
_HANGING = "    "  # before what a long message goes on with
_STYLES = {"error": "1;31", "warning": "1;33", "note": "1;36", "hint": "1;32", "gutter": "34", "message": "1"}


def render(
    error: SourceError | Diagnostic | Iterable[Diagnostic], colour: bool = False, width: int | None = None
) -> str:
    """The full text of one or more diagnostics, each with its source lines, without a final newline.

    width: columns of the terminal; longer source lines are cut around the marked place, and messages go on in further
    lines. Without a terminal, a message is one line, and source lines are cut at 100 columns. Of very many diagnostics,
    the first are shown, errors before warnings, and the others are counted.
    """
    if isinstance(error, Diagnostic):
        diagnostics = [error]
    else:
        diagnostics = list(error.diagnostics if isinstance(error, SourceError) else error)
    paint = _Paint(colour)
    shown = _first(diagnostics)
    texts = ["\n".join(_diagnostic_lines(diagnostic, paint, width)) for diagnostic in shown]
    if more := len(diagnostics) - len(shown):
        texts.append(f"and {more:,} more, which may follow from these")
    return "\n\n".join(texts)


def _first(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    """At most `MOST_SHOWN`, in their order."""
    if len(diagnostics) <= MOST_SHOWN:
        return diagnostics
    by_weight = sorted(range(len(diagnostics)), key=lambda place: diagnostics[place].severity != "error")
    return [diagnostics[place] for place in sorted(by_weight[:MOST_SHOWN])]


def to_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """A diagnostic as JSON data. Lines and columns count from 1; the end column is one past the last character."""
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        **_place(diagnostic.span),
        "notes": [
            {"kind": note.kind, "message": note.message, **(_place(note.span) if note.span else {})}
            for note in _notes_of(diagnostic)
        ],
        "edits": [{"text": edit.text, **_place(edit.span)} for edit in diagnostic.edits],
    }


@record
class _Paint:
    colour: bool

    def __call__(self, style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.colour and text else text


def _place(span: Span) -> dict[str, Any]:
    return {
        "file": span.source.name,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def _notes_of(diagnostic: Diagnostic) -> tuple[Note, ...]:
    """Its notes, with a hint in any case: that of its code where it has none of its own."""
    entry = ERRORS.get(diagnostic.code)
    if entry is None or any(note.kind == "hint" for note in diagnostic.notes):
        return diagnostic.notes
    return (*diagnostic.notes, hint(entry.hint))


def _diagnostic_lines(diagnostic: Diagnostic, paint: _Paint, width: int | None) -> Iterator[str]:
    notes = _notes_of(diagnostic)
    spans = [diagnostic.span, *(note.span for note in notes if note.span)]
    gutter = max(len(str(span.end_line)) for span in spans)
    label = f"{diagnostic.severity}[{diagnostic.code}]"
    first, *rest = _said(f"{label}: {diagnostic.message}", width, _HANGING)
    yield paint(diagnostic.severity, label) + paint("message", first.removeprefix(label))
    yield from (paint("message", line) for line in rest)
    yield from _excerpt(diagnostic.span, gutter, diagnostic.severity, paint, width)
    for note in notes:
        if note.span is None:
            yield from _remark(note, gutter, paint, width)
    for note in notes:
        if note.span is not None:
            first, *rest = _said(f"{note.kind}: {note.message}", width, _HANGING)
            yield paint(note.kind, note.kind) + first.removeprefix(note.kind)
            yield from rest
            yield from _excerpt(note.span, gutter, note.kind, paint, width)


def _said(text: str, width: int | None, hanging: str, indent: str = "") -> list[str]:
    """The lines of a message, those after its own newlines behind `indent`, and cut ones behind `hanging`."""
    first, *rest = harmless_lines(text).split("\n")
    return [
        *wrapped(first, width, hanging),
        *(part for line in rest for part in wrapped(indent + line, width, hanging)),
    ]


def _remark(note: Note, gutter: int, paint: _Paint, width: int | None) -> Iterator[str]:
    plain = f"{' ' * gutter} = {note.kind}: "
    indent = " " * len(plain)
    first, *rest = _said(plain + note.message, width, indent, indent)
    lead = f"{' ' * gutter} {paint('gutter', '=')} {paint(note.kind, note.kind)}: "
    yield lead + first.removeprefix(plain)
    yield from rest


def _excerpt(span: Span, gutter: int, style: str, paint: _Paint, columns: int | None) -> Iterator[str]:
    width = columns or _WIDTH
    blank = " " * gutter
    yield f"{blank}{paint('gutter', '-->')} {harmless(str(span))}"
    last = max(span.line, span.end_line)
    shown = [span.line] if last == span.line else [span.line, last]
    yield f"{blank} {paint('gutter', '|')}"
    for number in shown:
        if number == last and last > span.line + 1:
            yield paint("gutter", "...")
        text = span.source.line(number).rstrip("\r")
        start = span.column - 1 if number == span.line else len(text) - len(text.lstrip())
        stop = span.end_column - 1 if number == last else len(text.rstrip())
        line, marks = _marked(text, start, max(stop, start + 1), max(width - gutter - 3, 20))
        yield f"{paint('gutter', f'{number:>{gutter}} |')} {line}".rstrip()
        yield f"{blank} {paint('gutter', '|')} {marks.replace('^', '')}{paint(style, '^' * marks.count('^'))}"


def _marked(text: str, start: int, stop: int, width: int) -> tuple[str, str]:
    """The line as shown, and below it carets under the characters from `start` to `stop`; both at most `width` wide."""
    cells: list[str] = []
    column, first, last = 0, 0, 0
    for index, character in enumerate(text):
        if index == start:
            first = column
        cell = _cell(character, column)
        cells.append(cell)
        column += columns_of(cell)
        if index == stop - 1:
            last = column
    first = first if start < len(text) else column
    last = max(last if stop <= len(text) else column, first + 1)
    line = "".join(cells)
    if max(column, last) <= width:
        return line, " " * first + "^" * (last - first)
    return _cut(line, first, last, width)


def _cut(line: str, first: int, last: int, width: int) -> tuple[str, str]:
    """A part of a long line with the marked cells, with `…` where text is left out."""
    left = max(0, min(first - width // 3, columns_of(line) - width + 2))
    kept, column = "", 0
    for character in line:
        if column >= left and columns_of(kept) + columns_of(character) <= width - 2:
            kept += character
        column += columns_of(character)
    lead = "…" if left else ""
    tail = "…" if left + columns_of(kept) < column else ""
    start = first - left + len(lead)
    length = max(1, min(last - first, width - start))
    return lead + kept + tail, " " * start + "^" * length


def _cell(character: str, column: int) -> str:
    """The shown form of a character. Control characters never reach the terminal."""
    if character == "\t":
        return " " * (_TAB - column % _TAB)
    return "\ufffd" if category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else character
