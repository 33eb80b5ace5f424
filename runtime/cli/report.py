"""Write one HTML file about a run: its curves, predictions, samples, weights, model, plan, settings, data and text.

The file needs nothing else: it can be sent and opened anywhere. Predictions are measured as by `dlc eval`, over the
test part unless told otherwise, else the validation part, else the training rows; of many rows, over some that are
spread evenly.
"""

from __future__ import annotations

from pathlib import Path

from runtime.analysis.evaluation_data import PARTS
from runtime.cli.common import compile_options, print_json
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.run_page import ReportSelection, facts_of, report_json, run_page
from runtime.reporting.terminal import say, say_notes
from runtime.support.files import replace_file, write_output

EXAMPLES = ("dlc report RUN", "dlc report RUN --out digits.html", "dlc report RUN --part train --rows 500 --json")


def configure(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    parser.add_option("-o, --out", "FILE", "the file to write (default: report.html in the run)")
    parser.add_last()
    parser.add_option("--data", "PATH", "measure on this data instead", type=Path)
    parser.add_option("--part", "PART", "train, validation or test (default: the last there is)", choices=PARTS)
    parser.add_whole("--rows", "measure at most N rows (default: 10,000, fewer of a large model)")
    parser.add_json("print the numbers as JSON; the file is written only where --out names it")
    parser.add_compilation()


def run(arguments: Namespace) -> int:
    folder = Path(arguments.run)
    asked = ReportSelection(arguments.last, arguments.data, arguments.part, arguments.rows)
    facts = facts_of(folder, compile_options(arguments), asked)
    notes = () if facts.examination is None else facts.examination.notes
    say_notes([facts.missing] if facts.missing else [])
    say_notes(notes)
    if arguments.out is not None or not arguments.json:
        page = run_page(facts).encode("utf-8", "backslashreplace")
        out = folder / "report.html" if arguments.out is None else Path(arguments.out)
        if arguments.out is None:
            replace_file(out, page)  # a link in a folder that others made leads nowhere
        else:
            write_output(out, page)
        say(f"report in {out}")
    if arguments.json:
        print_json(report_json(facts), indent=None)
    return 0
