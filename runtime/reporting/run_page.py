"""A run as one HTML page that needs nothing else: curves, predictions, samples, weights, graph, plan, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.support.record import record
from runtime.analysis.examined.examination import Examination
from runtime.analysis.examined.weights import Filters, WeightFacts
from runtime.reporting.line_chart import line_chart
from runtime.reporting.page_parts import Record, pairs, rows, shown, tables
from runtime.reporting.page_style import STYLE
from runtime.reporting.predictions_page import predictions_section, samples_section
from runtime.reporting.units import duration, heading
from runtime.reporting.weights_page import weights_section
from runtime.runs.listing import Lines, RunSummary
from runtime.runs.numerics import versions_as_cell
from runtime.support.files import JsonValue

# Whatever the text of others holds, a browser loads nothing and runs nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@record
class RunFacts:
    """Everything that the page shows. `texts` are the sources by name, the main one first.

    `checkpoint` says which weights they are; without a checkpoint there are none. `missing` says why predictions or
    weights are not there.
    """

    summary: RunSummary
    curves: Mapping[str, Lines]
    seconds: float | None
    settings: Record
    plan: Record
    graph: str  # an `<svg>` element, or a whole SVG file
    data: Record
    environment: Record
    texts: Mapping[str, str]
    checkpoint: str
    weights: Sequence[WeightFacts]
    filters: Filters | None
    examination: Examination | None
    missing: str


def run_page(facts: RunFacts) -> str:
    """The page as text."""
    summary = facts.summary
    title = f"{summary.model}: {summary.path.name}"
    found, missing = facts.examination, f"<p>{shown(facts.missing)}</p>"
    sections = {
        "Result": _result(facts),
        "Curves": _curves(facts),
        "Predictions": missing if found is None else predictions_section(found, facts.checkpoint),
        "Samples": missing if found is None else samples_section(found.samples, found.texts),
        "Weights": weights_section(facts.weights, facts.filters, facts.checkpoint) if facts.weights else missing,
        "Settings": _settings(facts.settings),
        "Model": f'<div class="scroll">{_embedded(facts.graph)}</div>',
        "Plan": tables(facts.plan),
        "Data": tables(facts.data),
        "Environment": tables({"": facts.environment}),
        "Text": "".join(f"<h3>{shown(name)}</h3><pre>{shown(text)}</pre>" for name, text in facts.texts.items()),
    }
    body = "\n".join(f"<section><h2>{name}</h2>\n{content}\n</section>" for name, content in sections.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width"><title>{shown(title)}</title>\n'
        f"<style>\n{STYLE}\n</style></head>\n<body><h1>{shown(title)}</h1>\n{body}\n</body></html>\n"
    )


def scalar_heading(name: str) -> str:
    """`mean squared error, validation` for `val_mean_squared_error`; without a prefix it is that of the training."""
    for prefix, part in (("val_", "validation"), ("test_", "test")):
        if name.startswith(prefix):
            return f"{heading(name.removeprefix(prefix))}, {part}"
    return f"{heading(name)}, training"


def _result(facts: RunFacts) -> str:
    run = facts.summary
    named: dict[str, JsonValue] = {
        "state": run.state,
        "began": run.created.replace("T", " "),
        "time": None if facts.seconds is None else duration(facts.seconds),
        "epochs": run.epochs,
        "steps": run.step,
        "best epoch": run.best_epoch,
        "version of the numerics": versions_as_cell(run.numerics) or None,
        **{scalar_heading(name): value for name, value in {**run.scalars, **run.test}.items()},
    }
    return pairs({name: value for name, value in named.items() if value is not None})


def _curves(facts: RunFacts) -> str:
    best = facts.summary.best_epoch
    charts = [line_chart(heading(name), lines, "epoch", best) for name, lines in facts.curves.items()]
    return "\n".join(charts) or "<p>No epoch has ended yet.</p>"


def _settings(settings: Record) -> str:
    return rows(
        [
            {"setting": name, "value": entry.get("value"), "from": entry.get("from")}
            for name, entry in settings.items()
            if isinstance(entry, Mapping)
        ]
    )


def _embedded(svg: str) -> str:
    """An SVG file without what may only stand at the beginning of a file."""
    start = svg.find("<svg")
    return svg[start:] if start >= 0 else ""
