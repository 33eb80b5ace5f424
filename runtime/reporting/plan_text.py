"""A plan as tables of text: the figures of the model, its layers, its kernels, its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TextIO

from compiler.errors.diagnostics import size
from runtime.reporting.tables import Column, print_table
from runtime.reporting.units import amount, heading, is_number
from runtime.support.files import JsonObject, JsonValue

_LEAST_TEXT = 16
_RANKS = {"flops_forward": 3, "kind": 2, "output": 1}  # columns that a narrow terminal does without, the highest first


def print_plan(report: JsonObject, stream: TextIO | None = None) -> None:
    """Print a plan in its JSON form, by default to standard output."""
    singles = {name: value for name, value in report.items() if value is None or isinstance(value, int | float | str)}
    _print_pairs("model", singles, stream)
    for name, value in report.items():
        if isinstance(value, Mapping):
            _print_pairs(name, value, stream)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            rows = [row for row in value if isinstance(row, Mapping)]
            if rows:
                _print_rows(name, rows, stream)


def _print_rows(title: str, rows: Sequence[JsonObject], stream: TextIO | None) -> None:
    columns: list[Column] = []
    for name, value in rows[0].items():
        cells = [_cell(name, row[name]) for row in rows]
        is_numeric = is_number(value)
        least = None if is_numeric else _LEAST_TEXT
        columns.append(Column(heading(name), cells, _RANKS.get(name, 0), not is_numeric, least, wraps=True))
    print_table(heading(title), columns, stream)


def _print_pairs(title: str, pairs: JsonObject, stream: TextIO | None) -> None:
    names = Column("", [heading(name) for name in pairs], is_text=True)
    values = Column("", [_cell(name, value) for name, value in pairs.items()], least=_LEAST_TEXT, wraps=True)
    print_table(heading(title), [names, values], stream, has_heading=False)


def _cell(name: str, value: JsonValue) -> str:
    if is_number(value) and isinstance(value, int | float):
        if "flops" in name:
            return amount(value)
        if "bytes" in name:
            return size(int(value))
        return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_cell(name, item) for item in value)
    return "" if value is None else str(value)
