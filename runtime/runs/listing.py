"""The runs below a folder: the outcome of each, the differences of two, and those that may be removed."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from compiler.errors.diagnostics import CheckpointError, UsageError
from compiler.errors.suggestions import nearest
from compiler.support.record import record
from runtime.runs.checkpoint import checkpoints_in
from runtime.runs.directory import RESULT, RunDirectory, is_in_use, lock_run, open_run, runs_in
from runtime.runs.numerics import stretches_of, versions_of
from runtime.support import regular_files
from runtime.support.files import JsonObject, JsonValue, explained

Lines = Mapping[str, Sequence[tuple[int, float]]]
Difference = Mapping[str, tuple[JsonValue, JsonValue]]

TRAINING, BROKEN_OFF = "training", "broken off"
# The keys of every line of an epoch beside its scalars.
_NOT_SCALARS = ("event", "epoch", "step", "rate", "samples_per_second", "seconds", "best")
_REMOVING = ".removing-"


@record
class RunSummary:
    """`state`: how the run ended, or `training`, or `broken off` where it ended without saying so.

    `scalars` are those of the best epoch, of the last where nothing says which is the best; validation under `val_…`.
    `test` are those at the end, under `test_…`. `numerics` are the versions of the numerics that computed its steps, in
    order; 0 is unknown. Empty where nothing was computed.
    """

    path: Path
    model: str
    created: str
    state: str
    epochs: int
    step: int
    best_epoch: int | None
    scalars: JsonObject
    test: JsonObject
    checkpoints: int
    bytes: int
    numerics: tuple[int, ...]

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "run": str(self.path),
            "model": self.model,
            "created": self.created,
            "state": self.state,
            "epochs": self.epochs,
            "step": self.step,
            "best_epoch": self.best_epoch,
            **self.scalars,
            **self.test,
            "checkpoints": self.checkpoints,
            "bytes": self.bytes,
            "numerics": list(self.numerics),
        }


@record
class RunDifferences:
    """The differences of two runs. `parts` names whole files that differ: the program, the data.

    `numerics` are the versions of the numerics of both.
    """

    settings: Difference
    metrics: Difference
    parts: tuple[str, ...]
    numerics: tuple[tuple[int, ...], tuple[int, ...]]


def runs_below(folder: Path) -> list[RunSummary]:
    """Every run in a folder and in the folders in it (those of a sweep), oldest first. Raises UsageError."""
    if not folder.is_dir():
        beside = [path.name for path in folder.parent.glob("*") if path.is_dir()]
        near = nearest(folder.name, beside)
        fix = f"did you mean {folder.parent / near}?" if near else "name the folder that holds the runs"
        raise UsageError(f"there is no folder {folder}", fix)
    found = [summary_of(path) for path in runs_in(folder)]
    return sorted(found, key=lambda run: (run.created, str(run.path)))


def summary_of(path: Path) -> RunSummary:
    """The outcome of a run. Files that are missing or damaged leave gaps, since a run may have ended at any moment."""
    run = RunDirectory(path, None)
    about, result, settings = (run.read_record(name) for name in ("run.json", RESULT, "settings.json"))
    epochs = epochs_of(run)
    best = best_of(epochs)
    reason = result.get("reason")
    state = reason if isinstance(reason, str) else BROKEN_OFF
    return RunSummary(
        path=path,
        model=str(about.get("name", "?")),
        created=str(about.get("created", "")),
        state=TRAINING if is_in_use(path) else state,
        epochs=len(epochs),
        step=max((_whole(epoch.get("step")) for epoch in epochs), default=0),
        best_epoch=_whole(best.get("epoch")) if best is not None and best.get("best") else None,
        scalars={} if best is None else scalars_of(best),
        test={name: value for name, value in result.items() if name.startswith("test_")},
        checkpoints=len(_checkpoints(run)),
        bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        numerics=versions_of(stretches_of(settings)) if settings else (),
    )


def epochs_of(run: RunDirectory) -> list[JsonObject]:
    """The line of each epoch, in order; none where the file is damaged."""
    try:
        return [record for record in run.read_metrics() if record.get("event") == "epoch"]
    except CheckpointError:
        return []


def best_of(epochs: Sequence[JsonObject]) -> JsonObject | None:
    """The last epoch that was the best so far; the last of all where none is marked."""
    best = [epoch for epoch in epochs if epoch.get("best")]
    return best[-1] if best else epochs[-1] if epochs else None


def scalars_of(epoch: JsonObject) -> JsonObject:
    """The loss and metrics of the line of an epoch."""
    return {name: value for name, value in epoch.items() if name not in _NOT_SCALARS}


def curves_of(epochs: Sequence[JsonObject]) -> dict[str, Lines]:
    """Each scalar with its lines, `training` and `validation`, as points (epoch, value); at last the rate."""
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for epoch in epochs:
        rate = {"rate": epoch.get("rate")}
        for key, value in {**scalars_of(epoch), **rate}.items():
            if isinstance(value, int | float):
                name = key.removeprefix("val_")
                line = "validation" if key.startswith("val_") else "training"
                curves.setdefault(name, {}).setdefault(line, []).append((_whole(epoch.get("epoch")), float(value)))
    return dict(sorted(curves.items(), key=lambda curve: curve[0] == "rate"))


def compared(first: Path, second: Path) -> RunDifferences:
    """The settings and metrics in which two runs differ. Raises CheckpointError where one is no run."""
    runs = open_run(first), open_run(second)
    summaries = summary_of(first), summary_of(second)
    settings = [_settings(run) for run in runs]
    metrics = [{"epochs": s.epochs, "best_epoch": s.best_epoch, **s.scalars, **s.test} for s in summaries]
    parts = {
        "program": [_texts(run) for run in runs],
        "data": [run.read_record("data.json").get("fingerprints") for run in runs],
    }
    return RunDifferences(
        _differences(settings[0], settings[1]),
        _differences(metrics[0], metrics[1]),
        tuple(name for name, (one, other) in parts.items() if one != other),
        (summaries[0].numerics, summaries[1].numerics),
    )


def prunable(runs: Sequence[RunSummary], keep: int | None) -> list[RunSummary]:
    """The runs without a checkpoint; with `keep`, also all but the newest so many of each model. None in use."""
    idle = [run for run in runs if run.state != TRAINING]
    useless = [run for run in idle if not run.checkpoints]
    if keep is not None:
        useful = sorted((run for run in runs if run.checkpoints), key=lambda run: (run.model, run.created))
        for _, of_model in groupby(useful, key=lambda run: run.model):
            useless += [run for run in list(of_model)[: -keep or None] if run in idle]
    return [run for run in runs if run in useless]


def remove_run(path: Path) -> None:
    """Remove a run, which nobody uses. Raises CheckpointError.

    It is renamed first, so that a half-removed run is never listed.
    """
    going = path.with_name(_REMOVING + path.name)
    with explained(CheckpointError, path, "the run cannot be removed: "):
        lock = lock_run(path)
        try:
            if not hasattr(os, "O_DIRECTORY"):
                lock.release()  # Windows renames no folder in which a file is open
            os.rename(path, going)
        finally:
            lock.release()
        shutil.rmtree(going)


def _checkpoints(run: RunDirectory) -> list[Path]:
    try:
        return checkpoints_in(run.checkpoints)
    except OSError:
        return []


def _settings(run: RunDirectory) -> JsonObject:
    """Each setting's value; where it came from is no difference."""
    record = run.read_record("settings.json")
    settings, choices = record.get("settings"), record.get("choices")
    if not isinstance(settings, Mapping):
        return {}
    found = {name: _plain(entry.get("value")) for name, entry in settings.items() if isinstance(entry, Mapping)}
    target = choices.get("target") if isinstance(choices, Mapping) else None
    return found if target is None else found | {"target": target}


def _plain(value: JsonValue) -> JsonValue:
    """A value that strict JSON can hold: infinities are words."""
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _texts(run: RunDirectory) -> dict[str, bytes]:
    source = run.path / "source"
    return {str(path.relative_to(source)): regular_files.content(path) for path in sorted(source.rglob("*.dl"))}


def _differences(first: JsonObject, second: JsonObject) -> Difference:
    names = list(dict.fromkeys([*first, *second]))
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}


def _whole(value: JsonValue) -> int:
    return value if isinstance(value, int) else 0
