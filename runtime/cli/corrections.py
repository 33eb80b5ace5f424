"""Findings with edits to corrected files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from compiler.errors.diagnostics import DataError, Diagnostic, Edit, Source
from runtime.support.files import explain, rewrite_file

_MARK = b"\xef\xbb\xbf"  # of UTF-8, before the first character


def correct(findings: Sequence[Diagnostic]) -> int:
    """Make the edits of all findings; how many findings that corrects. Edits that overlap others wait for another time.

    Raises DataError where a file cannot be written.
    """
    by_source: dict[str, list[Diagnostic]] = {}
    for finding in findings:
        if finding.edits:
            by_source.setdefault(finding.span.source.name, []).append(finding)
    return sum(_corrected(found[0].span.source, found) for found in by_source.values())


def _corrected(source: Source, findings: list[Diagnostic]) -> int:
    path = Path(source.name)
    try:
        before = path.read_bytes()
        mark = _MARK if before.startswith(_MARK) else b""
        if before.removeprefix(_MARK) != source.text.encode():
            return 0  # it has changed since it was checked
        after, count = _edited(source.text, findings)
        rewrite_file(path, mark + after.encode())
    except OSError as error:
        message, fix = explain(error)
        raise DataError(message, path, fix=fix) from error
    return count


def _edited(text: str, findings: list[Diagnostic]) -> tuple[str, int]:
    starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    kept: list[tuple[int, int, str]] = []
    count = 0
    for finding in findings:
        wanted = [_place(starts, edit) for edit in finding.edits]
        if not any(begin < other_end and other < end for begin, end, _ in wanted for other, other_end, _ in kept):
            kept += wanted
            count += 1
    for begin, end, new in sorted(kept, reverse=True):
        text = text[:begin] + new + text[end:]
    return text, count


def _place(starts: list[int], edit: Edit) -> tuple[int, int, str]:
    """Where an edit begins and ends in the text. The line after the last, which has none, begins at its end."""
    span = edit.span
    end = starts[span.end_line - 1] + span.end_column - 1
    return starts[span.line - 1] + span.column - 1, min(end, starts[-1] - 1), edit.text
