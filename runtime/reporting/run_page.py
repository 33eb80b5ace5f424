"""A run as one HTML page that needs nothing else: curves, predictions, samples, weights, graph, plan, settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from compiler.driver import Options
from compiler.errors.diagnostics import CheckpointError, DlcError
from compiler.inspection.plan import plan as plan_of
from compiler.inspection.view import View
from compiler.support.record import record
from runtime.analysis.evaluation_data import evaluation_data
from runtime.analysis.examined.examination import Examination, examined, rows_within
from runtime.analysis.examined.measures import Confusion
from runtime.analysis.examined.weights import Filters, WeightFacts, facts_of_tensor, first_filters
from runtime.inference.model import training_of, weight_names
from runtime.reporting.charts import line_chart, mosaic, small_histogram
from runtime.reporting.predictions_page import (
    MOST_IN_FULL,
    JsonObject,
    class_row,
    most_confused_rows,
    pairs,
    picture,
    predictions_section,
    rows,
    samples_section,
    shown,
    tables,
)
from runtime.reporting.units import duration, heading, measure, share
from runtime.runs.directory import RunDirectory, open_run
from runtime.runs.listing import Lines, RunSummary, curves_of, epochs_of, summary_of
from runtime.runs.numerics import versions_as_cell
from runtime.runs.trained import Choices, Trained, choices_of, open_trained_run, program_of
from runtime.support import regular_files
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
    settings: JsonObject
    plan: JsonObject
    graph: str  # an `<svg>` element, or a whole SVG file
    data: JsonObject
    environment: JsonObject
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


def _settings(settings: JsonObject) -> str:
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


STYLE = """
:root { color-scheme: light dark; --text: #222; --page: #fff; --soft: #f6f6f6; --line: #ccc; --grid: #ddd;
  --quiet: #666; }
@media (prefers-color-scheme: dark) {
  :root { --text: #ddd; --page: #181a1b; --soft: #242729; --line: #555; --grid: #3a3d3f; --quiet: #999; }
}
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: var(--text); background: var(--page); }
h1 { margin-bottom: 0; } h2 { margin-top: 2rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; margin: 0.6rem 0; }
th, td { text-align: left; padding: 0.15rem 1rem 0.15rem 0; vertical-align: top; }
th { border-bottom: 1px solid var(--line); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { background: var(--soft); padding: 0.8rem; overflow-x: auto; }
.wide { overflow-x: auto; }
.matrix th, .matrix td { text-align: right; padding: 0.2rem 0.45rem; border: 1px solid var(--grid); }
.matrix small { display: block; color: inherit; opacity: 0.75; }
.weights { font-size: 13px; } .shape { white-space: nowrap; } .weights td, .weights th { padding-right: 0.7rem; }
.cards { display: flex; flex-wrap: wrap; gap: 0.8rem; align-items: flex-start; }
.card { border: 1px solid var(--line); border-radius: 4px; padding: 0.6rem; max-width: 18rem; font-size: 13px;
  overflow-wrap: anywhere; }
.card table { margin: 0.3rem 0 0; } .card td { padding: 0 0.5rem 0 0; }
.card td:first-child { color: var(--quiet); overflow-wrap: break-word; max-width: 9rem; }
.picture { display: block; margin-top: 0.4rem; width: 8rem; image-rendering: pixelated; }
.filters { width: 100%; max-width: 30rem; image-rendering: pixelated; }
.tokens { line-height: 2; overflow-wrap: anywhere; }
.tokens span { padding: 0.15rem 0.1rem; margin-right: 1px; border-radius: 2px; white-space: pre-wrap; }
.chart { width: 100%; max-width: 40rem; display: block; margin: 0.6rem 0; fill: currentColor; }
.chart text { font: 11px system-ui, sans-serif; } .chart .title { font-weight: bold; }
.side { display: flex; flex-wrap: wrap; } .square { max-width: 28rem; }
.small { width: 120px; height: 26px; }
.grid { stroke: var(--grid); } .axis { stroke: var(--quiet); fill: none; }
.mark { stroke: var(--quiet); stroke-dasharray: 3; }
.point { fill: #1f77b4; fill-opacity: 0.55; } .bar { fill: #1f77b4; }
.scroll { overflow: auto; max-height: 40rem; border: 1px solid var(--line); background: #fff; }
""".strip()


_MOST_TENSORS = 400
_HEADINGS = ("tensor", "shape", "count", "mean", "std", "min", "max", "norm", "zeros", "not finite", "histogram")


def weights_section(facts: Sequence[WeightFacts], filters: Filters | None, checkpoint: str) -> str:
    """Of the first 400 tensors. The numbers are of the finite elements."""
    parameters = [one.count for one in facts if one.role == "parameter"]
    states = len(facts) - len(parameters)
    text = f"The weights of {checkpoint}: {sum(parameters):,} numbers in {len(parameters):,} parameters"
    text += f", and {states:,} states." if states else "."
    if len(facts) > _MOST_TENSORS:
        text += f" The first {_MOST_TENSORS:,} are shown."
    texts = ("tensor", "shape", "histogram")
    head = "".join(f"<th>{name}</th>" if name in texts else f'<th class="number">{name}</th>' for name in _HEADINGS)
    lines = "\n".join(map(_line, facts[:_MOST_TENSORS]))
    table = f'<div class="wide"><table class="weights">\n<tr>{head}</tr>\n{lines}\n</table></div>'
    return "\n".join([f"<p>{shown(text)}</p>", table, *([_filters(filters)] if filters is not None else [])])


def _line(one: WeightFacts) -> str:
    shape = " × ".join(map(str, one.shape)) or "one number"
    numbers = [measure(value) for value in (one.mean, one.std, one.least, one.most, one.norm)]
    finite = max(one.count - one.nonfinite, 1)
    cells = [f"{one.count:,}", *numbers, shown(share(one.zeros / finite)), f"{one.nonfinite:,}"]
    name = one.path if one.role == "parameter" else f"{one.path} ({one.role})"
    return (
        f'<tr><td>{shown(name)}</td><td class="shape">{shape}</td>'
        + "".join(f'<td class="number">{cell}</td>' for cell in cells)
        + f"<td>{small_histogram(one.bins)}</td></tr>"
    )


def _filters(found: Filters) -> str:
    count, height, width, channels = found.images.shape
    shown_count = f"{count:,}" if count == found.count else f"the first {count:,} of {found.count:,}"
    colours = (
        "The three channels are the colours; grey is 0."
        if channels == 3
        else "Red is positive, blue negative, white 0"
        + ("." if channels == 1 else f", of the mean over {channels:,} channels.")
    )
    bound = f"The strongest colour is {measure(found.bound)}."
    drawn = picture(mosaic(found.images, found.bound), f"filters of {found.path}", "filters")
    title = f"<h3>Filters of {shown(found.path)}</h3>"
    return f"{title}\n<p>{shown_count} filters of {height} × {width}. {colours} {bound}</p>\n{drawn}"


@record
class ReportSelection:
    """Which weights and rows a report is of: by default the best, and the last part of the data that there is.

    `rows` is how many are measured at most, None for as many as are quickly measured.
    """

    use_last: bool = False
    data: Path | None = None
    part: str | None = None
    rows: int | None = None


def facts_of(path: Path, options: Options, asked: ReportSelection) -> RunFacts:
    """The facts of a run in a report. The graph is that of the model without its loss. Raises CheckpointError.

    Without a checkpoint, or without its data, the report says so instead. Where other data or a part was asked for,
    what is wrong with it is raised: DataError and UsageError.
    """
    run = open_run(path)
    choices = choices_of(run)
    program = program_of(run, choices)
    compiled = replace(options, dtype=choices.dtype, batch=training_of(program).batch)
    plan = plan_of(program, compiled).to_json()
    epochs = epochs_of(run)
    times = [epoch.get("seconds") for epoch in epochs]
    data, settings = run.read_record("data.json"), run.read_record("settings.json").get("settings")
    trained, missing = _trained(run, options, asked)
    examination = None
    if trained is not None:
        try:
            examination = _examined(trained, plan, data, asked)
        except (DlcError, OSError) as error:
            if asked.data is not None or asked.part is not None:
                raise
            missing = f"The rows could not be measured: {error}"
    weights = {} if trained is None else {name: trained.tensors[name] for name in weight_names(program)}
    return RunFacts(
        summary=summary_of(path),
        curves=curves_of(epochs),
        seconds=sum(time for time in times if isinstance(time, int | float)) if times else None,
        settings=settings if isinstance(settings, Mapping) else {},
        plan=plan,
        graph=_graph(run, choices, compiled),
        data={name: data[name] for name in ("rows", "fingerprints") if name in data},
        environment=run.read_record("environment.json"),
        texts=_texts(run),
        checkpoint="" if trained is None else trained.checkpoint,
        weights=[facts_of_tensor(p.path, p.role.value, weights[p.path]) for p in program.parameters if weights],
        filters=first_filters(weights),
        examination=examination,
        missing=missing,
    )


def _graph(run: RunDirectory, choices: Choices, options: Options) -> str:
    view = View(
        run.program,
        mode="infer",
        format="svg",
        experiment=choices.experiment,
        overrides=choices.overrides,
        within=run.path / "source",
    )
    from compiler.inspection.show import show  # printers and drawings

    return show(view, options, lambda _: choices.dimensions)


def _trained(run: RunDirectory, options: Options, asked: ReportSelection) -> tuple[Trained | None, str]:
    """The model with its weights, or why there are none."""
    try:
        return open_trained_run(run.path, asked.use_last, (), options), ""
    except CheckpointError as error:
        return None, f"The run has no weights that can be read: {error}"


def _examined(trained: Trained, plan: JsonObject, data: JsonObject, asked: ReportSelection) -> Examination:
    work, batch = plan.get("flops_forward"), plan.get("batch")
    of_row = work / batch if isinstance(work, int | float) and isinstance(batch, int) else 0.0
    chosen = evaluation_data(trained, asked.data, asked.part)
    if chosen.fingerprints is not None and chosen.fingerprints != data.get("fingerprints"):
        chosen = replace(chosen, notes=("the data has changed since the run began", *chosen.notes))
    return examined(trained, chosen, rows_within(of_row) if asked.rows is None else asked.rows)


def _texts(run: RunDirectory) -> dict[str, str]:
    """The main file first, then its imports; no link that leads out of the folder, since pages are sent around."""
    folder, main = run.path / "source", run.program
    inside = (path for path in folder.rglob("*.dl") if path.resolve().is_relative_to(folder.resolve()))
    files = (main, *sorted(path for path in inside if path != main and path.is_file()))
    return {str(path.relative_to(folder)): regular_files.content(path).decode("utf-8", "replace") for path in files}


def report_json(facts: RunFacts) -> dict[str, JsonValue]:
    """NaN and Inf are null; `evaluation` is null where no rows could be measured, and `missing` says why."""
    found = facts.examination
    return {
        **{name: _finite(value) for name, value in facts.summary.to_json().items()},
        "missing": facts.missing or None,
        "checkpoint_of_weights": facts.checkpoint or None,
        "evaluation": None if found is None else _examination(found),
        "weights": [one.to_json() for one in facts.weights],
    }


def _examination(found: Examination) -> dict[str, JsonValue]:
    return {
        "data": found.data,
        "rows": found.rows,
        "measured": found.measured,
        "notes": list(found.notes),
        "rows_not_finite": found.nonfinite,
        "scalars": _finite(found.scalars),
        "classes": [_confusion(confusion) for confusion in found.confusions],
        "numbers": [fit.to_json() for fit in found.fits],
        "samples": [row.to_json() for row in found.samples],
        "texts": [text.to_json() for text in found.texts],
    }


def _confusion(found: Confusion) -> dict[str, JsonValue]:
    """The whole matrix where the page shows it, and every class; of more classes, those that occur."""
    scores = found.scores()
    is_in_full = len(found.classes) <= MOST_IN_FULL
    chosen = [n for n in range(len(found.classes)) if is_in_full or scores.present[n] + scores.taken[n] > 0]
    return {
        "target": found.target,
        "output": found.output,
        "threshold": found.threshold,
        "total": found.total,
        **found.averages(),
        "matrix": found.counts.tolist() if is_in_full else None,
        "most_confused": [dict(row) for row in most_confused_rows(found)],
        "classes": [class_row(found, scores, number) for number in chosen],
    }


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
