"""Explain an error code at length: what it means, an example, and what to do."""

from __future__ import annotations

from compiler import driver
from runtime.cli.parser import Namespace, Parser

EXAMPLES = ("dlc explain E0201",)


def configure(parser: Parser) -> None:
    parser.add_argument("code", metavar="CODE", help="the code that a message begins with")


def run(arguments: Namespace) -> int:
    print(driver.explain(arguments.code.strip().upper()).rstrip())
    return 0
