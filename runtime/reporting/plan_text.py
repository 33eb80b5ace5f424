"""The plan of a model as tables for a terminal: one for each list of the report, and the totals."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from compiler.diagnostics import size
from runtime.files import JsonValue
from runtime.reporting.tables import table_console
from runtime.reporting.units import amount


def print_plan(report: Mapping[str, JsonValue]) -> None:
    """Print a plan in its JSON form to standard output."""
    console = table_console(sys.stdout)
    singles = {name: value for name, value in report.items() if value is None or isinstance(value, int | float | str)}
    console.print(_pairs("model", singles))
    for name, value in report.items():
        if isinstance(value, Mapping):
            console.print(_pairs(name, value))
        elif isinstance(value, Sequence) and not isinstance(value, str):
            rows = [row for row in value if isinstance(row, Mapping)]
            if rows:
                console.print(_rows(name, rows))


def _rows(title: str, rows: Sequence[Mapping[str, JsonValue]]) -> Table:
    table = _table(title)
    for name, value in rows[0].items():
        table.add_column(_heading(name), justify="right" if _is_number(value) else "left")
    for row in rows:
        table.add_row(*(_cell(name, value) for name, value in row.items()))
    return table


def _pairs(title: str, pairs: Mapping[str, JsonValue]) -> Table:
    table = _table(title)
    table.show_header = False
    table.add_column()
    table.add_column(justify="right")
    for name, value in pairs.items():
        table.add_row(_heading(name), _cell(name, value))
    return table


def _table(title: str) -> Table:
    return Table(title=_heading(title), title_justify="left", box=box.SIMPLE, pad_edge=False)


def _heading(name: str) -> str:
    return name.replace("_bytes", "").replace("_", " ").replace("flops", "FLOPs")


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
