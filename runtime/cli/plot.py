"""Plot a run: curves, a confusion matrix, weights, activations, gradients, the filters of the first convolution.

Weights are those of the best checkpoint. The confusion matrix counts the rows that `dlc eval` measures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compiler.errors.diagnostics import UsageError
from compiler.errors.suggestions import did_you_mean
from runtime.cli.common import compile_options
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.terminal import say, say_labelled

if TYPE_CHECKING:
    from runtime.plots.figure import Figure

EXAMPLES = ("dlc plot RUN", "dlc plot RUN --what confusion --out confusion.png", "dlc plot RUN --what all --out plots")
KINDS = ("curves", "confusion", "weights", "activations", "gradients", "filters")


def configure(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="the folder of a run")
    parser.add_option(
        "--what", "LIST", f"kinds of plot, with commas: {', '.join(KINDS)}; or all (default: curves)", default="curves"
    )
    parser.add_option(
        "-o, --out", "OUT", "a .png, .svg or .pdf file, or a folder for several (default: plots/ in the run)"
    )
    parser.add_last()
    parser.add_compilation()


def run(arguments: Namespace) -> int:
    wanted = list(KINDS) if arguments.what == "all" else [_kind(word) for word in arguments.what.split(",")]
    from runtime.plots.figure import write_figure  # matplotlib is slow to import, and need not be there
    from runtime.plots.runs import FIGURES, Plotted

    plotted = Plotted(Path(arguments.run), arguments.last, compile_options(arguments))
    figures: dict[str, Figure] = {}
    for kind in wanted:
        try:
            figures[kind] = FIGURES[kind](plotted)
        except UsageError as error:
            if arguments.what != "all":
                raise
            say_labelled("note", f"no plot of {kind}: {error}")
    for kind, path in _paths(list(figures), arguments).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_figure(figures[kind], path)
        say(f"plot in {path}")
    return 0


def _kind(word: str) -> str:
    if word not in KINDS:
        message = f"--what cannot be `{word}`"
        raise UsageError(message, did_you_mean(word, KINDS) or f"the kinds are {', '.join(KINDS)}; `all` draws each")
    return word


def _paths(kinds: list[str], arguments: Namespace) -> dict[str, Path]:
    out = Path(arguments.run) / "plots" if arguments.out is None else Path(arguments.out)
    if arguments.out is None or not out.suffix:
        return {kind: out / f"{kind}.svg" for kind in kinds}
    if len(kinds) > 1:
        raise UsageError(f"{len(kinds)} plots do not fit in {out}", "name a folder, or one kind with --what")
    return dict.fromkeys(kinds, out)
