"""A run directory to the facts of its report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from compiler.driver import Options
from compiler.errors.diagnostics import CheckpointError, DlcError
from compiler.inspection.plan import plan as plan_of
from compiler.inspection.view import View
from compiler.support.record import record
from runtime.analysis.evaluation_data import evaluation_data
from runtime.analysis.examined.confusion import Confusion
from runtime.analysis.examined.examination import Examination, examined, rows_within
from runtime.analysis.examined.weights import first_filters, weight_facts
from runtime.inference.model import training_of, weight_names
from runtime.reporting.predictions_page import MOST_IN_FULL, class_row, most_confused_rows
from runtime.reporting.run_page import RunFacts
from runtime.runs.directory import RunDirectory, open_run
from runtime.runs.listing import curves_of, epochs_of, summary_of
from runtime.runs.trained import Choices, Trained, choices_of, open_trained_run, program_of
from runtime.support import regular_files
from runtime.support.files import JsonObject, JsonValue


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
    data = _record(run, "data.json")
    trained, missing = _trained(run, options, asked)
    examination = None
    if trained is not None:
        try:
            examination = _examined(trained, plan, data, asked)
        except (DlcError, OSError) as error:
            if asked.data is not None or asked.part is not None:
                raise
            missing = f"The rows could not be measured: {error}"
    weights = {} if trained is None else {n: trained.tensors[n] for n in weight_names(program)}
    return RunFacts(
        summary=summary_of(path),
        curves=curves_of(epochs),
        seconds=sum(time for time in times if isinstance(time, int | float)) if times else None,
        settings=_mapping(_record(run, "settings.json").get("settings")),
        plan=plan,
        graph=_graph(run, choices, compiled),
        data={name: data[name] for name in ("rows", "fingerprints") if name in data},
        environment=_record(run, "environment.json"),
        texts=_texts(run),
        checkpoint="" if trained is None else checkpoint_text(trained),
        weights=weight_facts(program, weights) if weights else (),
        filters=first_filters(weights),
        examination=examination,
        missing=missing,
    )


def checkpoint_text(trained: Trained) -> str:
    """`the best checkpoint, after 400 steps`."""
    kind = "best" if trained.is_best else "last"
    return f"the {kind} checkpoint, after {trained.step or 0:,} steps"


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


def _record(run: RunDirectory, name: str) -> JsonObject:
    try:
        return _mapping(run.read_json(name))
    except CheckpointError:  # the run ended early, or the file is damaged; the rest can be shown
        return {}


def _mapping(value: JsonValue) -> JsonObject:
    return value if isinstance(value, Mapping) else {}


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
