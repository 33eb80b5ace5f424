"""Every question of an editor about a text, put at its places; answers must lie in the text and fit each other."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from compiler.editing.callees import Callees
from compiler.editing.completion import completions
from compiler.editing.context import call_at
from compiler.editing.corrections import corrections
from compiler.editing.document import Document
from compiler.editing.facts import Examiner, Facts
from compiler.editing.hints import hints
from compiler.editing.hover import hover
from compiler.editing.outline import Entry, folds, outline
from compiler.editing.renaming import conflict, places_of, reason_against
from compiler.editing.signatures import signature_text
from compiler.editing.tokens import coloured
from compiler.errors.diagnostics import Source, SourceError, Span
from compiler.syntax.format import format_source
from compiler.syntax.modules import read_opened
from compiler.syntax.parser import Parser
from compiler.syntax.recovery import Recovery

PARSER, CALLEES = Parser(), Callees()
Place = tuple[int, int]
_PIECES = ("(", "{", "[", '"', "}", ")", " = ", " |> ", ".", "\t", "é", "😀", "#")
_STRANGE = ("\0", "\t", "\r", "\\", "\x85", "\u2028", "\ud800", "\U0010ffff")


def document_of(source: Source) -> Document:
    """A text as the server has it, with its imports."""
    loaded = read_opened(source, lambda read: Recovery(PARSER).read(read).module, {})
    return Document(Recovery(PARSER).read(source), CALLEES, loaded.modules[:-1])


def places_in(text: str) -> list[Place]:
    """Every line and column, the end of each line included."""
    return [(n, c) for n, line in enumerate(text.split("\n"), 1) for c in range(1, len(line) + 2)]


def ask_everywhere(document: Document, facts: Facts, places: Sequence[Place]) -> None:
    """Put every question. Raises AssertionError for an answer that lies outside of the text."""
    ask_of_the_whole(document, facts)
    for line, column in places:
        ask_at(document, facts, line, column)


def ask_of_the_whole(document: Document, facts: Facts) -> None:
    words = coloured(document)
    ends = 0, 0
    for word in words:
        assert ends <= (word.line, word.column), word
        ends = word.line, word.column + word.length
        assert ends[1] <= len(document.lines[word.line - 1]) + 1, word
    for entry in outline(document):
        _expect_inside(document, entry)
    for fold in folds(document):
        assert 1 <= fold.first < fold.last <= len(document.lines)
    for hint in hints(document, facts, {}):
        assert 1 <= hint.line <= len(document.lines)
        assert 1 <= hint.column <= len(document.lines[hint.line - 1]) + 1
    for finding in facts.findings:
        for correction in corrections(finding):
            assert correction.title
            assert correction.edits
    try:
        format_source(document.source)
    except SourceError:
        assert document.syntax.mistakes


def _expect_inside(document: Document, entry: Entry) -> None:
    for span in (entry.span, entry.place):
        _expect_place(document, span)
    assert (entry.span.line, entry.span.column) <= (entry.place.line, entry.place.column)
    assert (entry.place.end_line, entry.place.end_column) <= (entry.span.end_line, max(entry.span.end_column, 2))
    for part in entry.parts:
        _expect_inside(document, part)


def _expect_place(document: Document, span: Span) -> None:
    assert 1 <= span.line <= span.end_line <= len(document.lines), span
    assert 1 <= span.column <= len(document.lines[span.line - 1]) + 1, span


def ask_at(document: Document, facts: Facts, line: int, column: int) -> None:
    told = hover(document, facts, line, column, lambda span: f"{span.source.name}#L{span.line}")
    if told is not None:
        assert told.place.line == line
        assert told.place.column <= column <= told.place.end_column
        assert told.text.strip()
    for found in completions(document, line, column):
        assert found.name
    call = call_at(document, line, column)
    if call is not None and call.callee is not None:
        assert signature_text(call.callee).label
    occurrence = document.occurrence_at(line, column)
    if occurrence is not None and occurrence.symbol is not None:
        symbol = occurrence.symbol
        if symbol.place is not None:
            assert symbol.place.text == symbol.name
            assert any(place.place == occurrence.place for place in places_of(document, symbol))
        if not reason_against(document, occurrence):
            assert conflict(document, symbol, symbol.name) == ""
            assert conflict(document, symbol, "for")


def examined(examiner: Examiner, source: Source) -> Facts:
    """The facts of a text; its data is left alone."""
    return examiner.examine(source)


def damaged(text: str, chooser: random.Random) -> Iterator[str]:
    """Texts as they are while somebody types, and worse: cut, with pieces left out, and with strange characters."""
    lines = text.split("\n")
    begin = chooser.randrange(len(text) + 1)
    end = min(len(text), begin + chooser.randrange(60))
    yield text[:begin]
    yield text[:begin] + text[end:]
    yield (
        text[:begin]
        + chooser.choice(["(", "{", "[", '"', "}", ")", " = ", " |> ", ".", "\t", "é", "😀", "#"])
        + text[begin:]
    )
    yield text.replace("\n", "\r\n")
    yield (
        text[:begin]
        + "".join(chr(chooser.choice((0, 9, 13, 92, 0x85, 0x2028, 0xD800, 0x10FFFF))) for _ in range(4))
        + text[end:]
    )
    number = chooser.randrange(len(lines))
    yield "\n".join([*lines[:number], lines[number][: len(lines[number]) // 2], *lines[number + 1 :]])
    chooser.shuffle(lines)
    yield "\n".join(lines)
