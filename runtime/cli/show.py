"""Print a stage of compilation: the whole program, or the code of one line."""

from __future__ import annotations

import re
from pathlib import Path

from compiler import driver
from compiler.diagnostics import UsageError
from runtime.cli.common import (
    add_compilation,
    add_settings,
    compile_options,
    dimensions_if_there,
    folder_of_imports,
    model_file,
)
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.terminal import print_wrapped
from runtime.support.files import write_output

EXAMPLES = (
    "dlc show model.dl --stage graph",
    "dlc show model.dl:12 --stage asm",
    "dlc show model.dl --stage schedule --format svg --output schedule.svg",
)
STAGES = ("ast", "graph", "grad", "schedule", "loops", "llvm", "asm")
FORMATS = ("text", "json", "dot", "graphml", "svg")
PICTURES = FORMATS[2:]
DRAWN_STAGES = ("graph", "grad", "schedule")


def configure(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE[:LINE]", help="the model file, and a line of it")
    parser.add_argument(
        "--stage", choices=STAGES, default="graph", help="one of %(choices)s (default: graph)", metavar="STAGE"
    )
    parser.add_argument(
        "--mode", choices=["train", "infer"], default="train", help="the program to show (default: train)"
    )
    parser.add_argument("--node", metavar="PATH", help="show only the code of this layer, such as encoder.0.dense")
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="one of %(choices)s (default: text)", metavar="FORMAT"
    )
    parser.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to a file")
    add_settings(parser)
    add_compilation(parser, runs=False)


def run(arguments: Namespace) -> int:
    name, line = _place(arguments.file)
    if arguments.format in PICTURES and arguments.stage not in DRAWN_STAGES:
        raise UsageError(
            f"stage {arguments.stage} cannot be drawn",
            f"--format {arguments.format} goes with {', '.join(DRAWN_STAGES)}",
        )
    if arguments.stage == "ast" and arguments.node is not None:
        raise UsageError("the syntax of a file has no nodes", "give a line, as in `dlc show FILE:12 --stage ast`")
    view = driver.View(
        model_file(name),
        line,
        arguments.stage,
        arguments.mode,
        arguments.node,
        arguments.format,
        arguments.experiment,
        tuple(arguments.settings),
        folder_of_imports(arguments),
    )
    text = driver.show(view, compile_options(arguments), dimensions_if_there)
    if arguments.output:
        write_output(Path(arguments.output), text.encode())
    elif arguments.format == "text":
        print_wrapped(text.rstrip("\n"))
    else:
        print(text.rstrip("\n"))
    return 0


def _place(text: str) -> tuple[str, int | None]:
    numbered = re.fullmatch(r"(.+):(\d+)", text)
    if numbered is None or Path(text).exists():
        return text, None
    if int(numbered[2]) == 0:
        raise UsageError(f"{text}: lines count from 1", f"the first is {numbered[1]}:1")
    return numbered[1], int(numbered[2])
