"""Write one HTML file about a run: curves, predictions, samples, weights, settings, and each line of its model.

It is the page of `dlc view` with all that is known of the run, and needs nothing else: it can be sent and opened
anywhere. Of several runs, curves lie over one another; everything else is of the first. Predictions are measured as by
`dlc eval`, over the test part unless told otherwise, else the validation part, else the training rows; of many rows,
over some that are spread evenly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from compiler.driver import Options
from compiler.errors.diagnostics import SourceError
from runtime.analysis.evaluation_data import PARTS
from runtime.cli.common import compile_options, print_json
from runtime.cli.outputs import page_file
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.run_facts import ReportSelection, RunFacts, facts_of, report_json
from runtime.reporting.terminal import say, say_notes
from runtime.support.files import replace_file, write_output

EXAMPLES = (
    "dlc report RUN",
    "dlc report runs/one runs/other --out both.html",
    "dlc report RUN --part train --rows 500 --json",
)


def configure(parser: Parser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the folder of a run; of further ones, the curves")
    parser.add_option("-o, --out", "FILE", "the file to write (default: report.html in the first run)")
    parser.add_last()
    parser.add_option("--data", "PATH", "measure on this data instead", type=Path)
    parser.add_option("--part", "PART", "train, validation or test (default: the last there is)", choices=PARTS)
    parser.add_whole("--rows", "measure at most N rows (default: 10,000, fewer of a large model)")
    parser.add_json("print the numbers as JSON; the file is written only where --out names it")
    parser.add_compilation()


def run(arguments: Namespace) -> int:
    folder, *others = (Path(run) for run in arguments.runs)
    out = folder / "report.html" if arguments.out is None else page_file(arguments.out)
    asked = ReportSelection(arguments.last, arguments.data, arguments.part, arguments.rows)
    options = compile_options(arguments)
    if arguments.json and arguments.out is None:
        facts = facts_of(folder, options, asked)
        _say(facts)
    else:
        facts, page = _page(folder, others, options, asked)
        _say(facts)
        if arguments.out is None:
            replace_file(out, page)  # a link in a folder that others made leads nowhere
        else:
            write_output(out, page)
        say(f"report in {out}")
    if arguments.json:
        print_json(report_json(facts), indent=None)
    return 0


def _page(folder: Path, others: Sequence[Path], options: Options, asked: ReportSelection) -> tuple[RunFacts, bytes]:
    """What is known of the run, and the file. Raises SourceError, CheckpointError, DataError and UsageError."""
    from runtime.view.page_text import page_text  # the whole compiler
    from runtime.view.report_part import report_to_json
    from runtime.view.viewed import viewed_run

    viewed = viewed_run(folder, options, ())
    reading = viewed.reading()
    if mistakes := tuple(finding for finding in reading.findings if finding.severity == "error"):
        raise SourceError(mistakes)
    page = viewed.page(reading)
    plan = page.document["plan"]
    assert isinstance(plan, Mapping)
    facts = facts_of(folder, options, asked, plan)
    document = {**page.document, "run": None, "report": report_to_json(facts, plan, others)}
    return facts, page_text(viewed.title, document, page.code).encode("utf-8", "backslashreplace")


def _say(facts: RunFacts) -> None:
    say_notes([f"the report has no rows of the sampler `{name}`: `dlc sample` makes them" for name in facts.samplers])
    say_notes([facts.missing] if facts.missing else [])
    say_notes(() if facts.examination is None else facts.examination.notes)
