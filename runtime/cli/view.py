"""Look through the compiler: each line of a model with its shape, cost and code, on one page.

The page is served to this machine alone, at an address with a token. It follows the text as it is edited there; nothing
is saved unless asked. With --html it is one file, which loads nothing from elsewhere and can be sent around. Figures
are those of `dlc plan` and `dlc profile`, and code is that of `dlc show`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.errors import rendering
from compiler.errors.diagnostics import SourceError, UsageError
from runtime.cli.common import compile_options, folder_of_imports, model_file, print_json
from runtime.cli.listening import listening_on_loopback
from runtime.cli.outputs import page_file
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.terminal import say, say_notes, wants_colour, width_of
from runtime.support.files import write_output

if TYPE_CHECKING:
    from compiler.errors.diagnostics import Diagnostic
    from compiler.inspection.reading import Reading
    from runtime.support.files import JsonObject
    from runtime.view.viewed import Viewed

EXAMPLES = (
    "dlc view model.dl",
    "dlc view model.dl --html model.html",
    "dlc view RUN --html run.html --profile",
    "dlc view RUN OTHER_RUN",
)


def configure(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE|RUN", help="the model file (.dl), or the folder of a run")
    parser.add_argument("other", metavar="OTHER_RUN", nargs="?", help="a run to compare with a run, line by line")
    parser.add_option("--html", "OUT", "write the page as one HTML file, and serve nothing")
    parser.add_whole("--port", "the port of the page (default: a free one)", least=0, most=65535, default=0)
    parser.add_settings()
    parser.add_whole("--batch", "rows of a step (default: that of `train`; 1 without)")
    parser.add_flag("--profile", "measure a step as well, as `dlc profile` does, for the time of each line")
    parser.add_positive("--seconds", "S", "the duration of the measurement (default: 3)", default=3.0)
    parser.add_compilation(runs=False)
    parser.add_json("print where the page is, as JSON")


def run(arguments: Namespace) -> int:
    if arguments.html is not None:
        return _write(_viewed(arguments), arguments)
    if arguments.profile:
        raise UsageError("--profile goes with --html", "a page on a server measures when it is asked to")
    with listening_on_loopback(arguments.port, "`dlc view`", ", or give --html OUT") as listening:
        from runtime.view.server import serve  # packages of the extra

        viewed = _viewed(arguments)
        is_saved = serve(viewed, listening, lambda url, reading: _announce(url, reading, arguments))
    say("the page is closed" if is_saved else "the page is closed; its changes of the text were not saved")
    return 0


def _mistakes(reading: Reading) -> tuple[Diagnostic, ...]:
    return tuple(finding for finding in reading.findings if finding.severity == "error")


def _announce(url: str, reading: Reading, arguments: Namespace) -> None:
    """The address, below the mistakes of the text, which the page shows too and can mend."""
    if mistakes := _mistakes(reading):
        print(rendering.render(mistakes, wants_colour(sys.stderr), width_of(sys.stderr)), file=sys.stderr)
    if arguments.json:
        print_json({"url": url})
    else:
        print(url)
    sys.stdout.flush()
    say("Ctrl-C closes the page")


def _write(viewed: Viewed, arguments: Namespace) -> int:
    """The page as a file."""
    from runtime.view.page_text import page_text

    out = page_file(arguments.html)
    reading = viewed.reading()
    if mistakes := _mistakes(reading):
        raise SourceError(mistakes)
    measured = viewed.profile(reading, arguments.seconds) if arguments.profile else None
    if measured is not None:
        say_notes([str(note) for note in measured["notes"]] if isinstance(measured["notes"], list) else [])
    page = viewed.page(reading, measured)
    document = page.document if viewed.other is None else {**page.document, "comparison": _comparison(viewed)}
    content = page_text(viewed.title, document, page.code).encode("utf-8", "backslashreplace")
    write_output(out, content)
    if arguments.json:
        print_json({"file": str(out), "bytes": len(content)})
    else:
        say(f"page in {out}")
    return 0


def _comparison(viewed: Viewed) -> JsonObject:
    """The run beside the other one, for the first row of the data."""
    from runtime.view.comparison import comparison_to_json, sides_of

    assert viewed.other is not None
    return comparison_to_json(*sides_of(viewed), 0)


def _viewed(arguments: Namespace) -> Viewed:
    """The file or the run that is named. Raises UsageError and CheckpointError."""
    options, overrides, path = (
        compile_options(arguments, arguments.batch),
        tuple(arguments.settings),
        Path(arguments.file),
    )
    from runtime.analysis.profile import is_run
    from runtime.view.viewed import viewed_file, viewed_run

    if is_run(path):
        if arguments.experiment is not None:
            raise UsageError("--experiment goes with a model file", "a run is of one experiment")
        found = viewed_run(path, options, overrides)
    else:
        file = model_file(arguments.file)
        found = viewed_file(file, options, arguments.experiment, overrides, folder_of_imports(arguments))
    return replace(found, batch=arguments.batch, other=_other(arguments, found))


def _other(arguments: Namespace, first: Viewed) -> Viewed | None:
    """The run to compare with. Raises UsageError unless both are runs."""
    if arguments.other is None:
        return None
    from runtime.analysis.profile import is_run
    from runtime.view.viewed import viewed_run

    path = Path(arguments.other)
    for given, is_one in ((arguments.file, first.run is not None), (arguments.other, is_run(path))):
        if not is_one:
            raise UsageError(f"{given} is no run", "two runs are compared: dlc view RUN OTHER_RUN")
    return viewed_run(path, compile_options(arguments, arguments.batch), tuple(arguments.settings))
