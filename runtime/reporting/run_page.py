"""A run as one HTML page that needs nothing else: curves, graph, plan, settings, data and environment."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from compiler.diagnostics import size
from compiler.harmless import harmless_lines
from compiler.record import record
from runtime.files import JsonValue
from runtime.numerics import versions_as_cell
from runtime.reporting.line_chart import line_chart
from runtime.reporting.units import amount, duration, heading, measure
from runtime.runs import Lines, RunSummary

Record = Mapping[str, JsonValue]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222; }
h1 { margin-bottom: 0; } h2 { margin-top: 2rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: 0.6rem 0; }
th, td { text-align: left; padding: 0.15rem 1rem 0.15rem 0; vertical-align: top; }
th { border-bottom: 1px solid #999; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f6f6f6; padding: 0.8rem; overflow-x: auto; }
.chart { width: 100%; max-width: 40rem; display: block; margin: 0.6rem 0; }
.chart text { font: 11px system-ui, sans-serif; } .chart .title { font-weight: bold; }
.grid { stroke: #ddd; } .axis { stroke: #444; fill: none; } .mark { stroke: #888; stroke-dasharray: 3; }
.scroll { overflow: auto; max-height: 40rem; border: 1px solid #ddd; }
""".strip()


@record
class RunFacts:
    """Everything that the page shows. `texts` are the sources by name, the main one first."""

    summary: RunSummary
    curves: Mapping[str, Lines]
    seconds: float | None
    settings: Record
    plan: Record
    graph: str  # an `<svg>` element, or a whole SVG file
    data: Record
    environment: Record
    texts: Mapping[str, str]


def run_page(facts: RunFacts) -> str:
    """The page as text."""
    summary = facts.summary
    title = f"{summary.model}: {summary.path.name}"
    charts = [line_chart(name, lines, "epoch", summary.best_epoch) for name, lines in facts.curves.items()]
    sections = {
        "Result": _result(facts),
        "Curves": "\n".join(charts) or "<p>No epoch has ended yet.</p>",
        "Settings": _settings(facts.settings),
        "Model": f'<div class="scroll">{_embedded(facts.graph)}</div>',
        "Plan": _tables(facts.plan),
        "Data": _tables(facts.data),
        "Environment": _tables({"": facts.environment}),
        "Text": "".join(f"<h3>{_shown(name)}</h3><pre>{_shown(text)}</pre>" for name, text in facts.texts.items()),
    }
    body = "\n".join(f"<section><h2>{name}</h2>\n{content}\n</section>" for name, content in sections.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{_shown(title)}</title>\n'
        f"<style>\n{_STYLE}\n</style></head>\n<body><h1>{_shown(title)}</h1>\n{body}\n</body></html>\n"
    )


def _result(facts: RunFacts) -> str:
    run = facts.summary
    rows: dict[str, JsonValue] = {
        "state": run.state,
        "began": run.created.replace("T", " "),
        "time": None if facts.seconds is None else duration(facts.seconds),
        "epochs": run.epochs,
        "steps": run.step,
        "best epoch": run.best_epoch,
        "version of the numerics": versions_as_cell(run.numerics) or None,
        **run.scalars,
        **run.test,
    }
    return _pairs({name: value for name, value in rows.items() if value is not None})


def _settings(settings: Record) -> str:
    rows = [
        {"setting": name, "value": entry.get("value"), "from": entry.get("from")}
        for name, entry in settings.items()
        if isinstance(entry, Mapping)
    ]
    return _rows(rows)


def _embedded(svg: str) -> str:
    """An SVG file without what may only stand at the beginning of a file."""
    start = svg.find("<svg")
    return svg[start:] if start >= 0 else ""


def _tables(record: Record) -> str:
    """A table for each mapping and each list of rows, after one for the single values."""
    single = {name: value for name, value in record.items() if not isinstance(value, Mapping) and not _is_rows(value)}
    parts = [_pairs(single, has_keys=True)] if single else []
    for name, value in record.items():
        title = f"<h3>{_shown(heading(name))}</h3>\n" if name else ""
        if isinstance(value, Mapping) and value:
            parts.append(title + _pairs(value, has_keys=True))
        elif _is_rows(value) and isinstance(value, Sequence):
            parts.append(title + _rows([row for row in value if isinstance(row, Mapping)]))
    return "\n".join(parts)


def _is_rows(value: JsonValue) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(v, Mapping) for v in value)


def _pairs(pairs: Record, has_keys: bool = False) -> str:
    """A table of names and values; with `has_keys`, names are keys of a record, or of files."""
    said = {str(name): heading(str(name)) if has_keys and str(name).isidentifier() else str(name) for name in pairs}
    rows = "\n".join(
        f"<tr><td>{_shown(said[str(name)])}</td>{_cell(str(name), value)}</tr>" for name, value in pairs.items()
    )
    return f"<table>\n{rows}\n</table>"


def _rows(rows: Sequence[Record]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{_shown(heading(name))}</th>" for name in rows[0])
    lines = "\n".join("<tr>" + "".join(_cell(name, row.get(name)) for name in rows[0]) + "</tr>" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{lines}\n</table>"


def _cell(name: str, value: JsonValue) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"<td{' class=' + chr(34) + 'number' + chr(34) if is_number else ''}>{_shown(_text(name, value))}</td>"


def _shown(text: str) -> str:
    """Text of others as a page may hold it: it can neither be read as a part of the page nor steer what shows it."""
    return html.escape(harmless_lines(text))


def _text(name: str, value: JsonValue) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
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
            return ", ".join(f"{key}: {_text(str(key), item)}" for key, item in value.items())
        case _:
            return ", ".join(_text(name, item) for item in value)
