"""Runs as a table of text, and the differences of two."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from compiler.errors.diagnostics import size
from compiler.support.numerics import NUMERICS
from runtime.reporting.tables import Column, print_table
from runtime.reporting.units import measure, value_text
from runtime.runs.listing import RunDifferences, RunSummary
from runtime.runs.numerics import versions_as_cell
from runtime.support.files import JsonValue


def print_runs(runs: Sequence[RunSummary], stream: TextIO | None = None) -> None:
    """One line for each run, oldest first: when, how it ended, and the scalars of its best epoch.

    The version of the numerics is shown where some run has another one than this `dlc`.
    """
    scalars = ["  ".join(f"{n} {_value(v)}" for n, v in {**run.scalars, **run.test}.items()) for run in runs]
    columns = [
        Column("run", [str(run.path) for run in runs], is_text=True, least=24),
        Column("model", [run.model for run in runs], 3, is_text=True, least=12),
        Column("began", [run.created[:16].replace("T", " ") for run in runs], 5, is_text=True),
        Column("state", [run.state for run in runs], 1, is_text=True),
        Column("epochs", [str(run.epochs) for run in runs], 2),
        Column("best", ["" if run.best_epoch is None else str(run.best_epoch) for run in runs], 6),
        Column("of the best epoch", scalars, is_text=True, least=20, wraps=True),
        Column("size", [size(run.bytes) for run in runs], 4),
    ]
    if any(run.numerics not in ((), (NUMERICS,)) for run in runs):
        columns.append(Column("numerics", [versions_as_cell(run.numerics) for run in runs], 7))
    print_table("", columns, stream)


def print_comparison(first: Path, second: Path, found: RunDifferences) -> None:
    """The differences, in columns for the two runs."""
    for name in found.parts:
        print(f"the {name} differs")
    for title, differences in (("settings", found.settings), ("metrics", found.metrics)):
        if not differences:
            print(f"{title}: the same")
            continue
        pairs = [tuple(map(_value, pair)) for pair in differences.values()]
        sides = [
            Column(run.name, [pair[side] for pair in pairs], least=12, wraps=True)
            for side, run in enumerate((first, second))
        ]
        print_table("", [Column(title, list(differences), is_text=True), *sides])


def _value(value: JsonValue) -> str:
    match value:
        case None | bool():
            return value_text(value)
        case float():
            return measure(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case str():
            return value if value.isprintable() else json.dumps(value)
        case _:
            return str(value)
