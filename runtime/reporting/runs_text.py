"""Runs as tables for a terminal: a list of them, and how two differ."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from compiler.diagnostics import size
from compiler.numerics import NUMERICS
from runtime.files import JsonValue
from runtime.numerics import versions_as_cell
from runtime.reporting.tables import table_console
from runtime.reporting.units import measure
from runtime.runs import Comparison, RunSummary


def print_runs(runs: Sequence[RunSummary]) -> None:
    """One line for each run, oldest first: when, how it ended, and the scalars of its best epoch.

    The version of the numerics is shown where some run has another one than this `dlc`.
    """
    table = Table(box=box.SIMPLE, pad_edge=False)
    shows_numerics = any(run.numerics not in ((), (NUMERICS,)) for run in runs)
    for heading in ("run", "model", "began", "state", "epochs", "best", "of the best epoch", "size"):
        table.add_column(heading, justify="right" if heading in ("epochs", "best", "size") else "left")
    if shows_numerics:
        table.add_column("numerics", justify="right")
    for run in runs:
        best = "" if run.best_epoch is None else str(run.best_epoch)
        began = run.created[:16].replace("T", " ")
        scalars = _scalars({**run.scalars, **run.test})
        cells = [str(run.path), run.model, began, run.state, str(run.epochs), best, scalars, size(run.bytes)]
        table.add_row(*cells, *([versions_as_cell(run.numerics)] if shows_numerics else []))
    table_console(sys.stdout).print(table)


def print_comparison(first: Path, second: Path, found: Comparison) -> None:
    """What differs, in columns for the two runs."""
    console = table_console(sys.stdout)
    for name in found.parts:
        console.print(f"the {name} differs")
    for title, differences in (("settings", found.settings), ("metrics", found.metrics)):
        if not differences:
            console.print(f"{title}: the same")
            continue
        table = Table(box=box.SIMPLE, pad_edge=False)
        table.add_column(title)
        for run in (first, second):
            table.add_column(run.name, justify="right")
        for name, pair in differences.items():
            table.add_row(name, *map(_value, pair))
        console.print(table)


def _scalars(scalars: Mapping[str, JsonValue]) -> str:
    return "  ".join(f"{name} {_value(value)}" for name, value in scalars.items())


def _value(value: JsonValue) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case float():
            return measure(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case str():
            return value if value.isprintable() else json.dumps(value)
        case _:
            return str(value)
