"""Explain an error code at length: its meaning, an example, and the correction."""

from __future__ import annotations

import sys

from compiler.errors import index
from compiler.errors.diagnostics import wrapped
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.tables import cut
from runtime.reporting.terminal import width_of

EXAMPLES = ("dlc explain E0201",)


def configure(parser: Parser) -> None:
    parser.add_argument("code", metavar="CODE", help="the code that a message begins with")


def run(arguments: Namespace) -> int:
    width = width_of(sys.stdout)
    for line in index.explain(arguments.code).rstrip().split("\n"):
        hanging = "" if line == line.lstrip(" ") else " " * 8  # the rest of a line of code
        print("\n".join(cut(part, width) for part in wrapped(line, width, hanging)))
    return 0
