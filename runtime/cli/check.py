"""Report every mistake in model files, and every likely mistake as a warning; nothing is compiled.

The exit code is 1 when there is an error. A comment in its line suppresses a warning: `# dlc: ignore[W0102]`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from compiler import driver
from compiler.driver import DataQuestion
from compiler.errors import rendering
from compiler.errors.diagnostics import DataError, Diagnostic, Edit, Source, SourceError, UsageError
from compiler.errors.suggestions import counted, did_you_mean
from runtime.cli.common import folder_of_imports, model_files, print_json
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.terminal import say, wants_colour, width_of
from runtime.support.files import explained, rewrite_file

EXAMPLES = ("dlc check model.dl", "dlc check examples --json", "dlc check model.dl --ignore W0102,W0107 --fix")
_ROUNDS = 10  # one correction may make room for another


def configure(parser: Parser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="model files, or folders of them")
    parser.add_settings()
    parser.add_option("--select", "CODES", "report only these warnings, such as W0106,W0108 or W01", default="")
    parser.add_option("--ignore", "CODES", "report all warnings but these", default="")
    parser.add_flag("--fix", "apply the corrections that keep the meaning")
    parser.add_flag("--no-data", "check the text alone, without loading its data")
    parser.add_json("print the findings as a JSON list")


def run(arguments: Namespace) -> int:
    files = model_files(arguments.files)
    selected, ignored = _codes("--select", arguments.select), _codes("--ignore", arguments.ignore)
    findings = _findings(arguments, files, selected, ignored)
    corrected = 0
    if arguments.fix:
        for _ in range(_ROUNDS):
            count = correct(findings)
            if not count:
                break
            corrected += count
            findings = _findings(arguments, files, selected, ignored)
    errors = sum(finding.severity == "error" for finding in findings)
    if arguments.json:
        print_json([rendering.to_json(finding) for finding in findings])
    elif findings:
        print(rendering.render(SourceError(tuple(findings)), wants_colour(sys.stdout), width_of(sys.stdout)))
    say(_summary(len(files), errors, findings, corrected))
    return 1 if errors else 0


def _codes(option: str, text: str) -> tuple[str, ...]:
    """The codes of an option, whole or by their beginnings. Raises UsageError for one that no warning has."""
    codes = tuple(code.strip() for code in text.split(",") if code.strip())
    if codes:
        from compiler.errors.index import ERRORS  # a long text that few commands need

        known = [code for code in ERRORS if code.startswith("W")]
        for code in codes:
            if not any(name.startswith(code) for name in known):
                fix = did_you_mean(code, known) or f"there are {', '.join(known)}"
                raise UsageError(f"{option}: no warning has the code `{code}`", fix)
    return codes


def _findings(
    arguments: Namespace, files: Sequence[Path], selected: tuple[str, ...], ignored: tuple[str, ...]
) -> list[Diagnostic]:
    """All errors, and the warnings that are wanted."""
    settings, within = tuple(arguments.settings), folder_of_imports(arguments)
    found = [finding for file in files for finding in _of_file(arguments, file, settings, within)]
    return [
        finding
        for finding in found
        if finding.severity == "error"
        or (not finding.code.startswith(ignored or "-") and finding.code.startswith(selected or "W"))
    ]


def _of_file(
    arguments: Namespace, file: Path, settings: tuple[tuple[str, str], ...], within: Path | None
) -> Sequence[Diagnostic]:
    """Of the text; and of the data that it names, where it has no mistake itself."""
    if arguments.no_data:
        return driver.check(file, arguments.experiment, settings, None, within)
    asked: list[Diagnostic] = []

    def dimensions_of(question: DataQuestion) -> Mapping[str, int]:
        # loads NumPy and every format of data, and few models ask
        from runtime.analysis.checked_data import dimensions_or_mistakes

        found, mistakes = dimensions_or_mistakes(question)
        asked.extend(mistakes)
        return found

    found = (*driver.check(file, arguments.experiment, settings, dimensions_of, within), *dict.fromkeys(asked))
    if any(finding.severity == "error" for finding in found):
        return found
    from runtime.analysis.checked_data import data_findings  # loads NumPy and every format of data

    return (*found, *data_findings(file, arguments.experiment, settings, within))


def _summary(files: int, errors: int, findings: Sequence[Diagnostic], corrected: int) -> str:
    warnings = len(findings) - errors
    found = [counted(count, word) for count, word in ((errors, "error"), (warnings, "warning")) if count]
    text = f"{counted(files, 'file')} checked: {' and '.join(found) or 'no mistakes'}"
    open_ones = sum(bool(finding.edits) for finding in findings)
    if corrected:
        return f"{text}; {corrected} corrected"
    return f"{text}; --fix corrects {open_ones} of them" if open_ones else text


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
    with explained(DataError, path):
        before = path.read_bytes()
        mark = _MARK if before.startswith(_MARK) else b""
        if before.removeprefix(_MARK) != source.text.encode():
            return 0  # it has changed since it was checked
        after, count = _edited(source.text, findings)
        rewrite_file(path, mark + after.encode())
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
