"""Format model files in place; the meaning never changes. `-` formats standard input to standard output."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from compiler.errors.diagnostics import DataError, Source
from compiler.errors.suggestions import counted
from compiler.syntax.format import format_source
from runtime.cli.common import model_files
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.terminal import exact, say
from runtime.support.files import rewrite_file

EXAMPLES = ("dlc fmt model.dl", "dlc fmt --check examples", "dlc fmt - < model.dl")


def configure(parser: Parser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="model files, folders of them, or -")
    parser.add_flag("--check", "change nothing; exit with 1 if a file would change")
    parser.add_flag("--diff", "print the changes and make none; exit with 1 if there are any")


def run(arguments: Namespace) -> int:
    if arguments.files == ["-"]:
        exact(sys.stdout).write(format_source(Source("<stdin>", sys.stdin.read())))
        return 0
    files = model_files(arguments.files)
    changes = [(file, before, after) for file in files for before, after in [_formatted(file)] if before != after]
    only_look = arguments.check or arguments.diff
    for file, before, after in changes:
        if arguments.diff:
            texts = before.splitlines(), after.splitlines()
            print("\n".join(difflib.unified_diff(*texts, str(file), str(file), lineterm="")))
        elif arguments.check:
            print(file)
        else:
            rewrite_file(file, after.encode())
    changed, same = counted(len(changes), "file"), len(files) - len(changes)
    say(f"{changed} {'would change' if only_look else 'changed'}, {same} left as they are")
    return 1 if only_look and changes else 0


def _formatted(file: Path) -> tuple[str, str]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text (byte {error.start})", file, fix="save it as UTF-8") from None
    return text, format_source(Source(str(file), text))
