"""Parts of a display as HTML: escaped text, tables of names and values, curves; and values as people read them."""

from __future__ import annotations

import html
import shlex
from collections.abc import Mapping, Sequence

from compiler.errors.diagnostics import size
from compiler.support.harmless import harmless_lines
from runtime.reporting.charts import line_chart
from runtime.reporting.tables import Column
from runtime.reporting.units import amount, heading, is_number, measure, value_text
from runtime.runs.listing import Lines
from runtime.support.files import JsonObject, JsonValue


def scalar_heading(name: str) -> str:
    """`mean squared error, validation` for `val_mean_squared_error`; without a prefix it is that of the training."""
    for prefix, part in (("val_", "validation"), ("test_", "test")):
        if name.startswith(prefix):
            return f"{heading(name.removeprefix(prefix))}, {part}"
    return f"{heading(name)}, training"


def curves_section(curves: Mapping[str, Lines], best_epoch: int | None) -> str:
    """A chart of each scalar over the epochs; a dotted line marks the best."""
    charts = [line_chart(heading(name), lines, "epoch", best_epoch) for name, lines in curves.items()]
    return "\n".join(charts) or "<p>No epoch has ended yet.</p>"


def shown(text: str) -> str:
    """Text of others as a page may hold it: it can neither be read as a part of the page nor steer what shows it."""
    return html.escape(harmless_lines(text))


def tables(record: JsonObject) -> str:
    """A table for each mapping and each list of rows, after one for the single values."""
    single = {name: value for name, value in record.items() if not isinstance(value, Mapping) and not _is_rows(value)}
    parts = [pairs(single, has_keys=True)] if single else []
    for name, value in record.items():
        title = f"<h3>{shown(heading(name))}</h3>\n" if name else ""
        if isinstance(value, Mapping) and value:
            parts.append(title + pairs(value, has_keys=True))
        elif _is_rows(value) and isinstance(value, Sequence):
            parts.append(title + rows([row for row in value if isinstance(row, Mapping)]))
    return "\n".join(parts)


def pairs(named: JsonObject, has_keys: bool = False) -> str:
    """A table of names and values; with `has_keys`, names are keys of a record, or of files."""
    said = {str(name): heading(str(name)) if has_keys and str(name).isidentifier() else str(name) for name in named}
    lines = "\n".join(
        f"<tr><td>{shown(said[str(name)])}</td>{_cell(str(name), value)}</tr>" for name, value in named.items()
    )
    return f"<table>\n{lines}\n</table>"


def rows(records: Sequence[JsonObject]) -> str:
    """A table with a line for each record; the names of the first are the headings."""
    if not records:
        return ""
    head = "".join(f"<th{_of_numbers(name, records)}>{shown(heading(name))}</th>" for name in records[0])
    lines = "\n".join("<tr>" + "".join(_cell(name, row.get(name)) for name in records[0]) + "</tr>" for row in records)
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{lines}\n</table></div>'


def column_table(columns: Sequence[Column]) -> str:
    """A table of text as HTML."""
    kinds = ["" if column.is_text else _NUMBER for column in columns]
    head = "".join(f"<th{kind}>{shown(column.heading)}</th>" for kind, column in zip(kinds, columns, strict=True))
    lines = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{shown(cell)}</td>" for kind, cell in zip(kinds, cells, strict=True)) + "</tr>"
        for cells in zip(*(column.cells for column in columns), strict=True)
    )
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{lines}\n</table></div>'


def text_of(name: str, value: JsonValue) -> str:
    """A value as people read it, in the unit that its name implies."""
    match value:
        case None | bool():
            return value_text(value)
        case int() | float() if "flops" in name:
            return amount(value)
        case int() if "bytes" in name:
            return size(value)
        case float():
            return measure(value)
        case int():
            return f"{value:,}"
        case str():
            return value
        case Mapping():
            return ", ".join(f"{key}: {text_of(str(key), item)}" for key, item in value.items())
        case _ if name == "command_line":
            return shlex.join(map(str, value))
        case _:
            return ", ".join(text_of(name, item) for item in value)


def _is_rows(value: JsonValue) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(v, Mapping) for v in value)


def _cell(name: str, value: JsonValue) -> str:
    return f"<td{_NUMBER if is_number(value) else ''}>{shown(text_of(name, value))}</td>"


def _of_numbers(name: str, records: Sequence[JsonObject]) -> str:
    return _NUMBER if all(is_number(row.get(name)) for row in records) else ""


_NUMBER = ' class="number"'
