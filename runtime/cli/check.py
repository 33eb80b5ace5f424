"""Report every mistake in model files; nothing is compiled. The exit code is 1 when there is an error."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from compiler import driver
from compiler.diagnostics import SourceError
from runtime.cli.common import add_json, model_files, print_json
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.terminal import say, wants_colour, width_of_terminal

EXAMPLES = ("dlc check model.dl", "dlc check examples --json")


def configure(parser: Parser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="model files, or folders of them")
    add_json(parser, "print the findings as a JSON list")


def run(arguments: Namespace) -> int:
    files = model_files(arguments.files)
    findings = [finding for file in files for finding in driver.check(file, _dimensions_of)]
    errors = sum(finding.severity == "error" for finding in findings)
    if arguments.json:
        print_json([driver.to_json(finding) for finding in findings])
    elif findings:
        print(driver.render(SourceError(tuple(findings)), wants_colour(sys.stdout), width_of_terminal()))
    say(_summary(len(files), errors, len(findings) - errors))
    return 1 if errors else 0


def _dimensions_of(question: driver.DataQuestion) -> Mapping[str, int]:
    from runtime.data.dimensions import dimensions_if_there  # loads NumPy, and few models ask

    return dimensions_if_there(question)


def _summary(files: int, errors: int, warnings: int) -> str:
    found = [_counted(count, word) for count, word in ((errors, "error"), (warnings, "warning")) if count]
    return f"{_counted(files, 'file')} checked: {' and '.join(found) or 'no mistakes'}"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
