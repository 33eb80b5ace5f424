"""Trials of a sweep, one training after the other, each with a run of its own."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from compiler.diagnostics import DataError, ResourceError, SourceError, UsageError
from compiler.record import record
from runtime.files import JsonValue
from runtime.reporting.events import EpochEnded, Event
from runtime.reporting.training_json import event_as_json, prefixed
from runtime.run_directory import RESULT
from runtime.session import Request, begun
from runtime.suggestions import did_you_mean, quoted
from runtime.sweep.samplers import Sampler
from runtime.sweep.space import Settings, Space, as_values
from runtime.training import LOSS, TrainingError, run_training

_DRAWS = 1000  # after so many in a row that were tried before, a sampler is taken to know nothing else


@record
class Goal:
    """The scalar to make small or large, by its best value over the epochs. None: the loss, of validation if any."""

    metric: str | None
    maximise: bool


@record
class Trial:
    """`value` is that of the goal, None where training failed, for the reason `failure`.

    `compiled` is how many programs the trial shares with none before it.
    """

    number: int
    settings: Mapping[str, str]
    value: float | None
    epoch: int | None
    run: Path | None
    failure: str = ""
    compiled: int = 0

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "trial": self.number,
            "settings": dict(self.settings),
            "value": self.value,
            "epoch": self.epoch,
            "run": None if self.run is None else str(self.run),
            "failure": self.failure or None,
            "compiled": self.compiled,
        }


def trials(space: Space, sampler: Sampler, request: Request, folder: Path, goal: Goal, count: int) -> Iterator[Trial]:
    """Up to `count` trials, with runs in `folder`, no two of the same settings; an interruption ends them.

    A trial that diverges, or whose settings do not fit together, has failed. What is wrong in the first trial may be
    wrong in all, and is raised: SourceError, UsageError, DataError, ResourceError. After Ctrl-C, KeyboardInterrupt is.
    """
    tried: set[Settings] = set()
    for number in range(1, count + 1):
        chosen = _untried(sampler, tried, space.size)
        if chosen is None:
            return
        tried.add(as_values(chosen))
        out = folder / f"trial-{number:03d}"
        wanted = replace(request, overrides=(*request.overrides, *space.fixed, *chosen.items()), out=out)
        try:
            trial, was_interrupted = _trained(number, chosen, wanted, goal)
        except (SourceError, UsageError, DataError, ResourceError) as error:
            if number == 1:
                raise
            trial, was_interrupted = Trial(number, chosen, None, None, None, str(error).split("\n")[0]), False
        sign = -1 if goal.maximise else 1
        sampler.tell(None if trial.value is None else sign * trial.value)
        yield trial
        if was_interrupted:
            raise KeyboardInterrupt
        gc.collect()  # collections come late by themselves, and there may be a thousand trials


def _untried(sampler: Sampler, tried: Collection[Settings], size: float) -> Mapping[str, str] | None:
    """The next settings that no trial had; None where all `size` were tried, or the sampler comes to no other."""
    for _ in range(_DRAWS if len(tried) < size else 0):
        chosen = sampler.ask()
        if as_values(chosen) not in tried:
            return chosen
        sampler.tell(None)  # a repetition teaches nothing
    return None


def best_of(found: list[Trial], goal: Goal) -> Trial | None:
    """The trial with the best value; None where all failed."""
    valued = {trial.number: trial.value for trial in found if trial.value is not None}
    if not valued:
        return None
    number = (max if goal.maximise else min)(valued, key=valued.__getitem__)
    return next(trial for trial in found if trial.number == number)


def _trained(number: int, chosen: Mapping[str, str], request: Request, goal: Goal) -> tuple[Trial, bool]:
    session = begun(request)
    assert session.directory is not None
    epochs: list[EpochEnded] = []

    def watch(event: Event) -> None:
        if isinstance(event, EpochEnded):
            epochs.append(event)

    with session.directory as directory:
        try:
            end = run_training(session.job, session.position, watch)
        except TrainingError as error:
            directory.log(f"training failed: {error}")
            return Trial(number, chosen, None, None, directory.path, str(error), session.compiled), False
        directory.write_json(RESULT, event_as_json(end))
        directory.log(f"training {end.reason} at step {end.step}")
    value, epoch = _achieved(epochs, goal) if epochs else (None, None)
    trial = Trial(number, chosen, value, epoch, directory.path, compiled=session.compiled)
    return trial, end.reason == "interrupted"


def _achieved(epochs: list[EpochEnded], goal: Goal) -> tuple[float | None, int | None]:
    """The best value of the goal, and its epoch. Raises UsageError where there is no such scalar."""
    records = [(prefixed("", e.scalars) | prefixed("val_", e.validation), e.epoch) for e in epochs]
    known = records[0][0]
    name = goal.metric or (f"val_{LOSS}" if f"val_{LOSS}" in known else LOSS)
    if name not in known:
        raise UsageError(f"there is no metric `{name}`{did_you_mean(name, known)}", f"there is {quoted(known)}")
    values = [(float(value), epoch) for record, epoch in records if isinstance(value := record[name], float)]
    if not values:
        return None, None
    return max(values, key=lambda v: v[0]) if goal.maximise else min(values, key=lambda v: v[0])
