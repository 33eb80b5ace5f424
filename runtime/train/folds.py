"""Cross-validation: a training for each fold of the data, whose parts take turns to be the validation part.

Stone, "Cross-validatory choice and assessment of statistical predictions", 1974. Each fold is a run like any other.
"""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from compiler.driver import Cut, DataSource, Fold, PartSource
from compiler.errors.diagnostics import UsageError
from compiler.support.record import record
from runtime.inference.model import training_of
from runtime.runs.directory import RESULT
from runtime.support.files import JsonValue, finite
from runtime.train.events import EpochEnded, Event, Observer, event_as_json, told
from runtime.train.jobs import start_of
from runtime.train.session import TrainingRequest, TrainingSession, begun, program_of
from runtime.train.training import run_training


@record
class FoldResult:
    """One fold: its run, its number from 1, and the metrics of the weights that the run kept; `epoch` is theirs.

    The metrics are `val_…` of the fold and `test_…` where there is a test part.
    """

    number: int
    run: Path
    epoch: int
    metrics: Mapping[str, float]
    was_interrupted: bool

    def to_json(self) -> JsonValue:
        metrics = {name: finite(value) for name, value in self.metrics.items()}
        return {"fold": self.number, "run": str(self.run), "epoch": self.epoch, "metrics": metrics}


@record
class Spread:
    """A metric over the folds: the mean, and the deviation of a sample (by n - 1), which one fold has not."""

    mean: float
    deviation: float | None


def spreads_of(results: Sequence[FoldResult]) -> dict[str, Spread]:
    """The mean and deviation of each metric; NaN where a fold has it."""
    found: dict[str, Spread] = {}
    for name in results[0].metrics if results else ():
        values = [result.metrics.get(name, math.nan) for result in results]
        deviation = statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None
        mean = statistics.fmean(values) if all(map(math.isfinite, values)) else math.nan
        found[name] = Spread(mean, deviation)
    return found


def folds_to_json(count: int, folder: Path, results: Sequence[FoldResult]) -> dict[str, JsonValue]:
    """All results; the spread of a metric stands beside its values, in the order of the folds."""
    spreads: dict[str, JsonValue] = {
        name: {
            "mean": finite(spread.mean),
            "deviation": None if spread.deviation is None else finite(spread.deviation),
            "values": [finite(result.metrics[name]) for result in results],
        }
        for name, spread in spreads_of(results).items()
    }
    return {"folds": count, "run": str(folder), "metrics": spreads, "runs": [result.to_json() for result in results]}


def folded(validation: PartSource, fold: Fold) -> Cut:
    """The fold in place of the validation part of `train`, cut in its way. Raises UsageError."""
    if validation is None or isinstance(validation, float | int):
        return Cut("random", fold)
    if isinstance(validation, DataSource) or validation.way in ("where", "latest"):
        said = "has data of its own" if isinstance(validation, DataSource) else f"is `{validation}`"
        fix = "set a fraction for it: --set validation=0.2, or stratified(0.2) or grouped(0.2, by = …)"
        raise UsageError(f"--folds cuts the validation part from the data, and `validation` {said}", fix)
    return replace(validation, share=fold)


def folds_of(request: TrainingRequest, count: int) -> list[Cut]:
    """The validation part of each fold, as `train` would say it. Raises UsageError where it has data of its own."""
    program, _ = program_of(request)
    validation = training_of(program).validation
    return [folded(validation, Fold(number, count)) for number in range(1, count + 1)]


def cross_validated(
    request: TrainingRequest, folder: Path, cuts: Sequence[Cut], observer_of: Callable[[int, TrainingSession], Observer]
) -> Iterator[FoldResult]:
    """The result of each fold, with runs `fold-1`, … in `folder`; the last one where a fold was interrupted.

    `observer_of` gives the observer of a fold, before it begins.
    """
    for number, cut in enumerate(cuts, 1):
        overrides = (*request.overrides, ("validation", str(cut)))
        session = begun(replace(request, overrides=overrides, out=folder / f"fold-{number}"))
        result = _trained(number, session, observer_of(number, session))
        yield result
        if result.was_interrupted:
            return
        del session
        gc.collect()  # memory of one training before that of the next


def _trained(number: int, session: TrainingSession, observer: Observer) -> FoldResult:
    assert session.directory is not None
    epochs: list[EpochEnded] = []

    def keep(event: Event) -> None:
        if isinstance(event, EpochEnded):
            epochs.append(event)

    with session.directory as directory:
        observer(start_of(session.program, session.job, session.position, session.weights))
        end = run_training(session.job, session.position, told([keep, observer]))
        directory.write_json(RESULT, event_as_json(end))
        directory.log(f"training {end.reason} at step {end.step}")
    kept = _kept(epochs, end.best_epoch if training_of(session.program).restores else None)
    metrics: dict[str, float] = {}
    if kept is not None:
        metrics |= {f"val_{name}": value for name, value in kept.validation.items()}
    metrics |= {f"test_{name}": value for name, value in end.test.items()}
    return FoldResult(number, directory.path, kept.epoch if kept else 0, metrics, end.reason == "interrupted")


def _kept(epochs: Sequence[EpochEnded], best: int | None) -> EpochEnded | None:
    """The epoch whose weights a run kept: the best one, or else the last."""
    return next((epoch for epoch in epochs if epoch.epoch == best), epochs[-1] if epochs else None)
