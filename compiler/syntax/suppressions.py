"""Comments that waive a warning: `# dlc: ignore[W0102]`, at the end of its line or alone in the line before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from compiler.diagnostics import Diagnostic, Edit, Source, Span, hint
from compiler.record import record
from compiler.syntax.lexer import lex

_WAIVER = re.compile(r"# *dlc: *(?P<words>ignore\b.*)")
_CODES = re.compile(r"ignore\[(?P<codes>W[0-9]{4}(?:, *W[0-9]{4})*)\]")
_ALWAYS_TOLD = ("W0101", "W0102", "W0103")
"""What is found in every declaration, used or not: a waiver of other lints may serve another program."""


@record
class Waiver:
    """The comment at `span` waives `codes` in `line`; without codes it is no waiver, though it looks like one."""

    codes: tuple[str, ...]
    line: int
    span: Span


def without_waived(found: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """The findings without the warnings that are waived."""
    known: dict[str, dict[int, set[str]]] = {}

    def is_waived(finding: Diagnostic) -> bool:
        source = finding.span.source
        if source.name not in known:
            lines = known[source.name] = {}
            for waiver in waivers_in(source):
                lines.setdefault(waiver.line, set()).update(waiver.codes)
        return finding.severity == "warning" and finding.code in known[source.name].get(finding.span.line, ())

    return tuple(finding for finding in found if not is_waived(finding))


def idle_waivers(sources: Iterable[Source], found: Iterable[Diagnostic]) -> Iterator[Diagnostic]:
    """W0113: comments that waive nothing of what was `found`."""
    told = {(d.span.source.name, d.span.line, d.code) for d in found}
    for source in sources:
        for waiver in waivers_in(source):
            idle = [c for c in waiver.codes if c in _ALWAYS_TOLD and (source.name, waiver.line, c) not in told]
            if not waiver.codes:
                advice = hint("suppressions look like `# dlc: ignore[W0102]` or `# dlc: ignore[W0102, W0108]`")
                message = "this comment looks like a suppression, but names no codes in brackets"
                yield Diagnostic("W0113", message, waiver.span, (advice,), "warning")
            elif idle:
                edits = (Edit(_with_blanks(waiver), ""),) if len(idle) == len(waiver.codes) else ()
                message = f"this line has no {' or '.join(idle)} to suppress"
                yield Diagnostic("W0113", message, waiver.span, (hint("remove the comment"),), "warning", edits)


def waivers_in(source: Source) -> Iterator[Waiver]:
    if "dlc:" not in source.text:
        return
    for comment in lex(source).comments:
        match = _WAIVER.search(comment.text)
        if match is None or comment.is_doc:
            continue
        codes = _CODES.match(match["words"])
        column = comment.column + match.start()
        span = Span(source, comment.line, column, comment.line, comment.column + len(comment.text))
        line = comment.line + 1 if comment.stands_alone else comment.line
        yield Waiver(tuple(re.split(", *", codes["codes"])) if codes else (), line, span)


def _with_blanks(waiver: Waiver) -> Span:
    """The comment with the blanks before it, or its whole line where nothing else stands there."""
    span = waiver.span
    before = span.source.line(span.line)[: span.column - 1]
    if before.strip():
        return Span(span.source, span.line, len(before.rstrip()) + 1, span.end_line, span.end_column)
    return Span(span.source, span.line, 1, span.line + 1, 1)
