"""The rows on which a trained model is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import UsageError
from compiler.support.record import record
from runtime.data.choices import refuse_outside
from runtime.data.loading import load_evaluation_data, load_training_data, refuse_unprepared, unprepared
from runtime.data.part import Part
from runtime.data.reading import source_at
from runtime.data.specs import Cuts
from runtime.inference.model import training_of
from runtime.runs.trained import Trained
from runtime.support.files import JsonValue
from runtime.train.jobs import load_data

PARTS = ("train", "validation", "test")


@record
class EvaluationData:
    """`name` says which rows they are: `the test part`, or a path. `training_rows` is None where that is unknown.

    `fingerprints` are those of the training's data as it is now, None of other data.
    """

    name: str
    part: Part
    notes: tuple[str, ...]
    training_rows: int | None
    fingerprints: JsonValue = None


def evaluation_data(trained: Trained, path: Path | None, part: str | None) -> EvaluationData:
    """A part of the data of the training (by default test, else validation, else train), or the data at `path`."""
    if path is None:
        return _part_of_training(trained, part)
    if part is not None:
        raise UsageError("a part belongs to the training's own data, and --data names other data", "leave out --part")
    plan = training_of(trained.program)
    source = source_at(path, plan.data, "test")
    if trained.preparation is not None:
        loaded = load_evaluation_data(trained.program.inputs, source, trained.preparation, plan.stream)
        notes = (*loaded.notes, *refuse_outside(trained.program, loaded.part))
        return EvaluationData(str(path), loaded.part, notes, trained.training_rows)
    if plan.data is not None:
        refuse_unprepared(path, dict(plan.data.options))
    data = load_training_data(trained.program.inputs, source, Cuts(seed=plan.seed, stream=plan.stream))
    if not data.preparation.is_plain:
        raise unprepared(path)
    rows = data.test or data.train
    return EvaluationData(str(path), rows, (*data.notes, *refuse_outside(trained.program, rows)), None)


def _part_of_training(trained: Trained, part: str | None) -> EvaluationData:
    choices = trained.choices
    path = Path(choices.data) if choices is not None and choices.data is not None else None
    data = load_data(trained.program, path, trained.preparation)
    parts = {"test": data.test, "validation": data.validation, "train": data.train}
    if part is None:
        part = next(name for name, rows in parts.items() if rows is not None)
    rows = parts[part]
    cuts = training_of(trained.program).cuts
    if part == "train" and cuts.stream and cuts.oversample:
        rows = load_data(trained.program, path, trained.preparation, replace(cuts, oversample="")).train
    if part == "train" and data.train.stream is None:  # each row once, also where rare classes are met more often
        rows = replace(data.train, rows=np.unique(data.train.rows))
    if rows is None:
        there = " and ".join(name for name, rows in parts.items() if rows is not None)
        raise UsageError(f"the data has no {part} part", f"it has {there}")
    return EvaluationData(f"the {part} part", rows, data.notes, len(data.train.rows), data.summary.get("fingerprints"))
