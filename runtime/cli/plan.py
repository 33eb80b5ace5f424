"""Tabulate layers, parameters, work, kernels and memory of a model, without training it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from compiler import driver
from compiler.errors.diagnostics import size
from compiler.support.processors import usable_cores
from runtime.cli.common import chosen_program, compile_options, dimensions_if_there, print_json
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.tables import Column, print_table
from runtime.reporting.terminal import width_of_page
from runtime.reporting.units import amount, heading
from runtime.support.files import JsonObject, JsonValue

PROFILE_SECONDS, PROFILE_ROWS = 2.0, 40
EXAMPLES = ("dlc plan model.dl", "dlc plan model.dl --batch 1 --json")


def configure(parser: Parser) -> None:
    parser.add_program()
    parser.add_whole("--batch", "rows of a step (default: that of `train`)")
    parser.add_flag("--profile", "profile a step as well, by layer, as `dlc profile` does")
    parser.add_compilation(runs=False)
    parser.add_json()


def run(arguments: Namespace) -> int:
    program = chosen_program(arguments, dimensions_if_there)
    batch = arguments.batch or (program.plan.usual_rows if program.plan is not None else 1)
    options = driver.options_of(program, compile_options(arguments, batch))
    from compiler.inspection.plan import plan  # the whole compiler; `--help` must not pay for it

    report = plan(program, options)
    measured = None
    if arguments.profile:
        from runtime.analysis.profile import as_json, profile  # measuring is asked for

        mode, with_all = "infer" if program.plan is None else "train", replace(options, threads=usable_cores())
        measured = as_json(profile(program, mode, batch, with_all, PROFILE_SECONDS).report)
    if arguments.json:
        print_json(report.to_json() | ({} if measured is None else {"profile": measured}))
        return 0
    print_plan(report.to_json())
    if measured is not None:
        from runtime.reporting.profile_text import profile_text

        print(profile_text(measured, "layer", PROFILE_ROWS, width_of_page(sys.stdout)))
    return 0


_LEAST_TEXT = 16
_RANKS = {"flops_forward": 3, "kind": 2, "output": 1}  # columns that a narrow terminal does without, the highest first


def print_plan(report: JsonObject) -> None:
    """Print a plan in its JSON form to standard output."""
    singles = {name: value for name, value in report.items() if value is None or isinstance(value, int | float | str)}
    _print_pairs("model", singles)
    for name, value in report.items():
        if isinstance(value, Mapping):
            _print_pairs(name, value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            rows = [row for row in value if isinstance(row, Mapping)]
            if rows:
                _print_rows(name, rows)


def _print_rows(title: str, rows: Sequence[JsonObject]) -> None:
    columns: list[Column] = []
    for name, value in rows[0].items():
        cells = [_cell(name, row[name]) for row in rows]
        is_number = _is_number(value)
        least = None if is_number else _LEAST_TEXT
        columns.append(Column(heading(name), cells, _RANKS.get(name, 0), not is_number, least, wraps=True))
    print_table(heading(title), columns)


def _print_pairs(title: str, pairs: JsonObject) -> None:
    names = Column("", [heading(name) for name in pairs], is_text=True)
    values = Column("", [_cell(name, value) for name, value in pairs.items()], least=_LEAST_TEXT, wraps=True)
    print_table(heading(title), [names, values], has_heading=False)


def _cell(name: str, value: JsonValue) -> str:
    if _is_number(value) and isinstance(value, int | float):
        if "flops" in name:
            return amount(value)
        if "bytes" in name:
            return size(int(value))
        return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_cell(name, item) for item in value)
    return "" if value is None else str(value)


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
