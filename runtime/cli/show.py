"""Print a stage of compilation: the whole program, or the code of one line.

`--print-after`, `--stop-after` and `--time-passes` show the passes between the stages `step` and `fused` instead.
Where a pass runs more than once, `PASS:2` is its second run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from compiler.errors.diagnostics import UsageError
from compiler.inspection.view import PassRun, View
from runtime.cli.common import compile_options, dimensions_if_there, folder_of_imports, model_file
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.tables import Column, laid_out
from runtime.reporting.terminal import print_wrapped
from runtime.support.files import JsonObject, JsonValue, write_output

EXAMPLES = (
    "dlc show model.dl --stage graph",
    "dlc show model.dl:12 --stage asm",
    "dlc show model.dl --stage schedule --format svg --output schedule.svg",
    "dlc show model.dl --print-after simplify",
    "dlc show model.dl --time-passes",
)
_OF_GRAPHS = ("ast", "graph", "step", "gradient", "grad", "fixed", "fused")
STAGES = (*_OF_GRAPHS, "schedule", "kernels", "tiles", "loops", "llvm", "ptx", "asm")
FORMATS = ("text", "json", "dot", "graphml", "svg")
PICTURES = FORMATS[2:]
DRAWN_STAGES = ("graph", "step", "grad", "fixed", "schedule")


def configure(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE[:LINE]", help="the model file, and a line of it")
    parser.add_option("--stage", "STAGE", "one of %(choices)s (default: graph)", choices=STAGES)
    parser.add_argument(
        "--mode", choices=["train", "infer"], default="train", help="the program to show (default: train)"
    )
    parser.add_option("--sampler", "NAME", "show the 'sample NAME …' instead of a step")
    parser.add_option("--node", "PATH", "show only the code of this layer, such as encoder.0.dense")
    parser.add_option("--format", "FORMAT", "one of %(choices)s (default: text)", choices=FORMATS, default="text")
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    parser.add_whole("--depth", "how many levels a picture of a graph shows (default: 1)")
    parser.add_option("-o, --output", "FILE", "write to a file")
    passes = parser.add_argument_group("passes, in place of a stage")
    said = "print the graph after each run of this pass, or of `all`; may be repeated"
    passes.add_argument("--print-after", metavar="PASS", action="append", default=[], help=said)
    passes.add_argument("--stop-after", metavar="PASS", help="run no pass after this one, and print its graph")
    passes.add_argument("--time-passes", action="store_true", help="tabulate how long each pass takes, and the nodes")
    parser.add_settings()
    parser.add_compilation(runs=False)


def run(arguments: Namespace) -> int:
    name, line = _place(arguments.file)
    of_passes = bool(arguments.print_after or arguments.stop_after is not None or arguments.time_passes)
    stage = arguments.stage or "graph"
    _expect_format(arguments, of_passes, stage)
    if stage == "ast" and arguments.node is not None:
        raise UsageError("the syntax of a file has no nodes", "give a line, as in `dlc show FILE:12 --stage ast`")
    view = View(
        model_file(name),
        line,
        stage,
        arguments.mode,
        arguments.node,
        arguments.format,
        arguments.experiment,
        tuple(arguments.settings),
        folder_of_imports(arguments),
        tuple(arguments.print_after),
        arguments.stop_after,
        arguments.sampler,
        arguments.depth,
    )
    from compiler.inspection import show as stages  # every stage; `--help` must not pay for it

    if of_passes:
        runs = stages.watch_passes(view, compile_options(arguments), dimensions_if_there)
        text = _passes_as_text(runs, arguments)
    else:
        text = stages.show(view, compile_options(arguments), dimensions_if_there)
    if arguments.output:
        write_output(Path(arguments.output), text.encode())
    elif arguments.format == "text":
        print_wrapped(text.rstrip("\n"))
    else:
        print(text.rstrip("\n"))
    return 0


def _expect_format(arguments: Namespace, of_passes: bool, stage: str) -> None:
    """Raises UsageError for a format that the stage or the passes do not have."""
    if of_passes and arguments.stage is not None:
        raise UsageError("passes are shown in place of a stage", "leave out --stage")
    is_of_levels = arguments.format in ("svg", "dot") and stage != "schedule"
    if arguments.depth is not None and not is_of_levels:
        raise UsageError("--depth is for pictures of graphs", "add --format svg or --format dot")
    if arguments.format not in PICTURES:
        return
    if of_passes and (arguments.print_after or arguments.time_passes):
        raise UsageError("a picture is of one graph", "give --stop-after alone")
    if not of_passes and stage not in DRAWN_STAGES:
        raise UsageError(
            f"stage {stage} cannot be drawn", f"--format {arguments.format} goes with {', '.join(DRAWN_STAGES)}"
        )


def _passes_as_text(runs: Sequence[PassRun], arguments: Namespace) -> str:
    """The graphs that were asked for, each below a comment that names its pass, and the table of times."""
    if arguments.format == "json":
        return json.dumps({"passes": [_as_json(run) for run in runs]})
    shown = [run for run in runs if run.text is not None]
    if arguments.format in PICTURES or (len(shown) == 1 and arguments.stop_after and not arguments.time_passes):
        return shown[-1].text or ""
    texts = [f"# after {run.name} (nodes: {run.nodes_before} -> {run.nodes})\n{run.text}" for run in shown]
    return "\n".join([*texts, *(_times(runs) if arguments.time_passes else [])])


def _as_json(run: PassRun) -> JsonObject:
    figures: dict[str, JsonValue] = {
        "pass": run.name,
        "seconds": run.seconds,
        "nodes_before": run.nodes_before,
        "nodes": run.nodes,
    }
    return figures if run.text is None else {**figures, "graph": json.loads(run.text)}


def _times(runs: Sequence[PassRun]) -> list[str]:
    whole = sum(run.seconds for run in runs)
    columns = (
        Column("pass", [*(run.name for run in runs), "all"], is_text=True),
        Column("ms", [f"{1000 * seconds:.1f}" for seconds in (*(run.seconds for run in runs), whole)]),
        Column("share", [f"{seconds / max(whole, 1e-9):.0%}" for seconds in (*(run.seconds for run in runs), whole)]),
        Column("nodes", [str(run.nodes) for run in (*runs, runs[-1])]),
    )
    return laid_out(columns, None)


def _place(text: str) -> tuple[str, int | None]:
    numbered = re.fullmatch(r"(.+):(\d+)", text)
    if numbered is None or Path(text).exists():
        return text, None
    if int(numbered[2]) == 0:
        raise UsageError(f"{text}: lines count from 1", f"the first is {numbered[1]}:1")
    return numbered[1], int(numbered[2])
