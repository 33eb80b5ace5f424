"""Tabulate layers, parameters, work, kernels and memory of a model, without training it."""

from __future__ import annotations

from compiler import driver
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

EXAMPLES = ("dlc plan model.dl", "dlc plan model.dl --batch 1 --json")


def configure(parser: Parser) -> None:
    add_program(parser)
    parser.add_argument("--batch", type=whole_number(1), metavar="N", help="rows of a step (default: that of `train`)")
    add_compilation(parser, runs=False)
    add_json(parser)


def run(arguments: Namespace) -> int:
    overrides = tuple(arguments.settings)
    file, within = model_file(arguments.file), folder_of_imports(arguments)
    program = driver.load(file, arguments.experiment, overrides, dimensions_if_there, within)
    batch = arguments.batch or (program.plan.usual_rows if program.plan is not None else 1)
    report = driver.plan(program, driver.options_of(program, compile_options(arguments, batch)))
    if arguments.json:
        print_json(report.to_json())
        return 0
    from runtime.reporting.plan_text import print_plan  # rich is slow to import, and JSON does without

    print_plan(report.to_json())
    return 0
