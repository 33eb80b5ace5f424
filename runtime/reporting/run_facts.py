"""The contents of a report about a run: its records, its predictions for rows of the data, and its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from compiler.driver import Options
from compiler.errors.diagnostics import CheckpointError, DlcError
from compiler.inspection.plan import plan as plan_of
from compiler.support.record import record
from runtime.analysis.evaluation_data import evaluation_data
from runtime.analysis.examined.examination import Examination, examined, rows_within
from runtime.analysis.examined.measures import ClassScores, Confusion
from runtime.analysis.examined.weights import Filters, WeightFacts, facts_of_tensor, first_filters
from runtime.inference.model import training_of, weight_names
from runtime.runs.directory import RunDirectory, open_run
from runtime.runs.listing import RunSummary, epochs_of, summary_of
from runtime.runs.trained import Trained, choices_of, open_trained_run, program_of
from runtime.support.files import JsonObject, JsonValue

MOST_IN_FULL = 20
"""Classes of which the whole matrix is shown; of more, those that are confused most."""
_MOST_CONFUSED = 20


@record
class RunFacts:
    """`checkpoint` says which weights they are; without a checkpoint there are none.

    `missing` says why predictions or weights are not there.
    """

    summary: RunSummary
    seconds: float | None
    settings: JsonObject
    data: JsonObject
    environment: JsonObject
    checkpoint: str
    weights: Sequence[WeightFacts]
    filters: Filters | None
    examination: Examination | None
    missing: str
    samplers: Sequence[str]


@record
class ReportSelection:
    """Which weights and rows a report is of: by default the best, and the last part of the data that there is.

    `rows` is how many are measured at most, None for as many as are quickly measured.
    """

    use_last: bool = False
    data: Path | None = None
    part: str | None = None
    rows: int | None = None


def facts_of(path: Path, options: Options, asked: ReportSelection, plan: JsonObject | None = None) -> RunFacts:
    """The facts of a run in a report; `plan` is that of its step, where it was made already. Raises CheckpointError.

    Without a checkpoint, or without its data, the report says so instead. Where other data or a part was asked for,
    what is wrong with it is raised: DataError and UsageError.
    """
    run = open_run(path)
    choices = choices_of(run)
    program = program_of(run, choices)
    compiled = replace(options, dtype=choices.dtype, batch=training_of(program).batch)
    if plan is None:
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
        seconds=sum(time for time in times if isinstance(time, int | float)) if times else None,
        settings=settings if isinstance(settings, Mapping) else {},
        data={name: data[name] for name in ("rows", "fingerprints") if name in data},
        environment=run.read_record("environment.json"),
        checkpoint="" if trained is None else trained.checkpoint,
        weights=[facts_of_tensor(p.path, p.role.value, weights[p.path]) for p in program.parameters if weights],
        filters=first_filters(weights),
        examination=examination,
        missing=missing,
        samplers=[sampler.name for sampler in program.samplers],
    )


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


def report_json(facts: RunFacts) -> dict[str, JsonValue]:
    """NaN and Inf are null; `evaluation` is null where no rows could be measured, and `missing` says why."""
    found = facts.examination
    return {
        **{name: finite_json(value) for name, value in facts.summary.to_json().items()},
        "missing": facts.missing or None,
        "checkpoint_of_weights": facts.checkpoint or None,
        "evaluation": None if found is None else evaluation_json(found),
        "weights": [one.to_json() for one in facts.weights],
    }


def evaluation_json(found: Examination) -> dict[str, JsonValue]:
    """Predictions for rows of the data, with the rows themselves."""
    return {
        "data": found.data,
        "rows": found.rows,
        "measured": found.measured,
        "notes": list(found.notes),
        "rows_not_finite": found.nonfinite,
        "scalars": finite_json(found.scalars),
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


def class_row(found: Confusion, scores: ClassScores, number: int) -> dict[str, JsonValue]:
    """A class with its counts and shares."""
    return {
        "class": found.classes[number],
        "count": int(scores.present[number]),
        "predicted": int(scores.taken[number]),
        "right": int(scores.hits[number]),
        "precision": float(scores.precision[number]),
        "recall": float(scores.recall[number]),
        "f1": float(scores.f1[number]),
    }


def most_confused_rows(found: Confusion) -> list[dict[str, JsonValue]]:
    """The pairs of classes that are confused most, with the share of the true class."""
    present = found.scores().present
    return [
        {
            "class": found.classes[true],
            "taken_for": found.classes[guess],
            "count": count,
            "share": count / int(present[true]),
        }
        for true, guess, count in found.most_confused(_MOST_CONFUSED)
    ]


def finite_json(value: JsonValue) -> JsonValue:
    """NaN and Inf become null, in mappings too."""
    if isinstance(value, Mapping):
        return {name: finite_json(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
