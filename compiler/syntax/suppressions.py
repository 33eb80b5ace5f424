"""Comments that suppress a warning: `# dlc: ignore[W0102]`, at the end of its line or alone in the line before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from compiler.errors.diagnostics import Diagnostic, Edit, Source, Span, hint
from compiler.support.record import record
from compiler.syntax.lexer import lex

_SUPPRESSION = re.compile(r"# *dlc: *(?P<words>ignore\b.*)")
_CODES = re.compile(r"ignore\[(?P<codes>W[0-9]{4}(?:, *W[0-9]{4})*)\]")
_ALWAYS_TOLD = ("W0101", "W0102", "W0103")
"""Lints of every declaration, used or not: a suppression of other lints may serve another program."""


@record
class Suppression:
    """The comment at `span` suppresses `codes` in `line`; without codes it only looks like a suppression."""

    codes: tuple[str, ...]
    line: int
    span: Span


def without_suppressed(found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """The findings without the warnings that are suppressed."""
    known: dict[Source, dict[int, set[str]]] = {}

    def is_suppressed(finding: Diagnostic) -> bool:
        source = finding.span.source
        if source not in known:
            lines = known[source] = {}
            for suppression in suppressions_in(source):
                lines.setdefault(suppression.line, set()).update(suppression.codes)
        return finding.severity == "warning" and finding.code in known[source].get(finding.span.line, ())

    return tuple(finding for finding in found if not is_suppressed(finding))


def idle_suppressions(sources: Iterable[Source], found: Iterable[Diagnostic]) -> Iterator[Diagnostic]:
    """W0113: comments that suppress nothing of what was `found`."""
    told = {(d.span.source.name, d.span.line, d.code) for d in found}
    for source in sources:
        for suppression in suppressions_in(source):
            idle = [
                c for c in suppression.codes if c in _ALWAYS_TOLD and (source.name, suppression.line, c) not in told
            ]
            if not suppression.codes:
                advice = hint("suppressions look like `# dlc: ignore[W0102]` or `# dlc: ignore[W0102, W0108]`")
                message = "this comment looks like a suppression, but names no codes in brackets"
                yield Diagnostic("W0113", message, suppression.span, (advice,), "warning")
            elif idle:
                edits = (Edit(_with_blanks(suppression), ""),) if len(idle) == len(suppression.codes) else ()
                message = f"this line has no {' or '.join(idle)} to suppress"
                yield Diagnostic("W0113", message, suppression.span, (hint("remove the comment"),), "warning", edits)


def suppressions_in(source: Source) -> Iterator[Suppression]:
    if "dlc:" not in source.text:
        return
    for comment in lex(source).comments:
        match = _SUPPRESSION.search(comment.text)
        if match is None or comment.is_doc:
            continue
        codes = _CODES.match(match["words"])
        column = comment.column + match.start()
        span = Span(source, comment.line, column, comment.line, comment.column + len(comment.text))
        line = comment.line + 1 if comment.stands_alone else comment.line
        yield Suppression(tuple(re.split(", *", codes["codes"])) if codes else (), line, span)


def _with_blanks(suppression: Suppression) -> Span:
    """The comment with the blanks before it, or its whole line where nothing else stands there."""
    span = suppression.span
    before = span.source.line(span.line)[: span.column - 1]
    if before.strip():
        return Span(span.source, span.line, len(before.rstrip()) + 1, span.end_line, span.end_column)
    return Span(span.source, span.line, 1, span.line + 1, 1)
