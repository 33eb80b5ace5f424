"""Tabulate layers, parameters, work, kernels and memory of a model, without training it."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from compiler import driver
from compiler.support.processors import usable_cores
from runtime.cli.common import (
    add_compilation,
    add_json,
    add_program,
    compile_options,
    dimensions_if_there,
    folder_of_imports,
    model_file,
    print_json,
)
from runtime.cli.parser import Namespace, Parser, whole_number
from runtime.reporting.plan_text import print_plan
from runtime.reporting.terminal import width_of_page

PROFILE_SECONDS, PROFILE_ROWS = 2.0, 40
EXAMPLES = ("dlc plan model.dl", "dlc plan model.dl --batch 1 --json")


def configure(parser: Parser) -> None:
    add_program(parser)
    parser.add_argument("--batch", type=whole_number(1), metavar="N", help="rows of a step (default: that of `train`)")
    parser.add_argument(
        "--profile", action="store_true", help="profile a step as well, by layer, as `dlc profile` does"
    )
    add_compilation(parser, runs=False)
    add_json(parser)


def run(arguments: Namespace) -> int:
    overrides = tuple(arguments.settings)
    file, within = model_file(arguments.file), folder_of_imports(arguments)
    program = driver.load(file, arguments.experiment, overrides, dimensions_if_there, within)
    batch = arguments.batch or (program.plan.usual_rows if program.plan is not None else 1)
    options = driver.options_of(program, compile_options(arguments, batch))
    from compiler.inspection.plan import plan  # the whole compiler; `--help` must not pay for it

    report = plan(program, options)
    measured = _measured(program, batch, options) if arguments.profile else None
    if arguments.json:
        print_json(report.to_json() | ({} if measured is None else {"profile": measured}))
        return 0
    print_plan(report.to_json())
    if measured is not None:
        from runtime.reporting.profile_text import profile_text

        print(profile_text(measured, "layer", PROFILE_ROWS, width_of_page(sys.stdout)))
    return 0


def _measured(program: driver.Program, batch: int, options: driver.Options) -> dict[str, Any]:
    """The profile of a step with all threads, or of the model where there is no training."""
    from runtime.analysis.profile import as_json, profile  # measuring is asked for

    mode = "infer" if program.plan is None else "train"
    return as_json(profile(program, mode, batch, replace(options, threads=usable_cores()), PROFILE_SECONDS))
