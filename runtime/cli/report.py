"""Write one HTML file about a run: its curves, model, plan, settings and where they came from, data and text.

The file needs nothing else: it can be sent and opened anywhere.
"""

from __future__ import annotations

from pathlib import Path

from runtime.cli.common import add_compilation, compile_options
from runtime.cli.parser import Namespace, Parser
from runtime.files import write_output
from runtime.reporting.run_page import run_page
from runtime.reporting.terminal import say
from runtime.run_report import facts_of

EXAMPLES = ("dlc report RUN", "dlc report RUN --out digits.html")


def configure(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    parser.add_argument("-o", "--out", metavar="FILE", help="the file to write (default: report.html in the run)")
    add_compilation(parser)


def run(arguments: Namespace) -> int:
    folder = Path(arguments.run)
    page = run_page(facts_of(folder, compile_options(arguments)))
    out = folder / "report.html" if arguments.out is None else Path(arguments.out)
    write_output(out, page.encode("utf-8", "backslashreplace"))
    say(f"report in {out}")
    return 0
