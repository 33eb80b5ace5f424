"""Trials of a sweep, one training after the other, each with a run of its own, and the space of their settings.

`--set key=1e-4..1e-1:log` and `--set key=[32, 64]` are its ranges and choices.
"""

from __future__ import annotations

import gc
import math
import random
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Protocol, TypeAlias

from compiler.driver import Program
from compiler.errors.diagnostics import DataError, ResourceError, SourceError, UsageError
from compiler.errors.suggestions import did_you_mean, quoted
from compiler.support.record import record
from runtime.data.reading import expect_there
from runtime.inference.model import training_of
from runtime.runs.directory import RESULT
from runtime.support.files import JsonValue
from runtime.train.compiled_job import LOSS, Steering
from runtime.train.events import EpochEnded, Event, event_as_json, prefixed, told
from runtime.train.jobs import start_of
from runtime.train.session import TrainingRequest, begun, program_of
from runtime.train.steering import RunSteering
from runtime.train.training import TrainingError, run_training

_DRAWS = 1000  # after so many in a row that were tried before, a sampler is taken to know nothing else


@record
class Goal:
    """The scalar to make small or large, by its best value over the epochs.

    None for `metric`: that of `best` in the training, of validation if any. None for `maximise`: as the metric says.
    """

    metric: str | None
    maximise: bool | None


@record
class Trial:
    """`value` is that of the goal, None where training failed, for the reason `failure`.

    `compiled` is how many programs the trial shares with none before it. `metric` is the name of the value, and
    `maximise` says whether a larger one is better. `kept` is the epoch of the run's best weights, which another measure
    than the goal may have chosen. A trial that `is_pruned` ended early, as it was hopeless beside others.
    """

    number: int
    settings: Mapping[str, str]
    value: float | None
    epoch: int | None
    run: Path | None
    failure: str = ""
    compiled: int = 0
    metric: str = ""
    maximise: bool = False
    kept: int | None = None
    is_pruned: bool = False

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "trial": self.number,
            "settings": dict(self.settings),
            "value": self.value,
            "epoch": self.epoch,
            "best_epoch": self.kept,
            "run": None if self.run is None else str(self.run),
            "failure": self.failure or None,
            "compiled": self.compiled,
            **({"pruned": True} if self.is_pruned else {}),
        }


def trials(
    space: SearchSpace,
    sampler: Sampler,
    request: TrainingRequest,
    folder: Path,
    goal: Goal,
    count: int,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[Trial]:
    """Up to `count` trials, with runs in `folder`, no two of the same settings; an interruption ends them.

    A trial that takes long gives `tell` a line every ten seconds.

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
            trial, was_interrupted = trained(number, chosen, wanted, goal, tell)
        except (SourceError, UsageError, DataError, ResourceError) as error:
            if number == 1:
                raise
            trial, was_interrupted = Trial(number, chosen, None, None, None, str(error).split("\n")[0]), False
        sign = -1 if trial.maximise else 1
        sampler.tell(None if trial.value is None else sign * trial.value)
        yield trial
        if was_interrupted:
            raise KeyboardInterrupt
        gc.collect()  # collections come late by themselves, and there may be a thousand trials


def expect_program(space: SearchSpace, request: TrainingRequest, goal: Goal, seed: int) -> None:
    """Elaborate the program with one choice of the settings: what is wrong there may be wrong in all trials.

    Raises SourceError, UsageError and DataError.
    """
    chosen = RandomSampler(space, seed).ask()
    program, _ = program_of(replace(request, overrides=(*request.overrides, *space.fixed, *chosen.items())))
    plan = training_of(program)
    _aim(goal, program, plan.validation is not None)
    if request.data is None and plan.data is not None:
        expect_there(plan.data)


def _untried(sampler: Sampler, tried: Collection[Settings], size: float) -> Mapping[str, str] | None:
    """The next settings that no trial had; None where all `size` were tried, or the sampler comes to no other."""
    for _ in range(_DRAWS if len(tried) < size else 0):
        chosen = sampler.ask()
        if as_values(chosen) not in tried:
            return chosen
        sampler.tell(None)  # a repetition teaches nothing
    return None


def best_of(found: list[Trial]) -> Trial | None:
    """The trial with the best value, the first of equals; None where all failed."""
    valued = [(trial.value, trial) for trial in found if trial.value is not None]
    if not valued:
        return None
    return min(valued, key=lambda pair: -pair[0] if pair[1].maximise else pair[0])[1]


class _Pruner:
    """Keeps the epochs of a training, and ends it behind one whose value is hopeless."""

    def __init__(
        self, steering: Steering | None, metric: str, maximise: bool, is_hopeless: Callable[[float, int], bool]
    ) -> None:
        self.epochs: list[EpochEnded] = []
        self._steering, self._metric, self._maximise, self._is_hopeless = steering, metric, maximise, is_hopeless
        self._is_pruned = False

    def __call__(self, event: Event) -> None:
        if not isinstance(event, EpochEnded):
            return
        self.epochs.append(event)
        value, _ = _achieved([event], self._metric, self._maximise)
        if value is not None and self._is_hopeless(-value if self._maximise else value, event.epoch):
            assert isinstance(self._steering, RunSteering)
            self._steering.stop_after_epoch()
            self._is_pruned = True

    @property
    def has_stopped(self) -> bool:
        """Whether it has ended the training, and no one before it."""
        return self._is_pruned and isinstance(self._steering, RunSteering) and self._steering.has_stopped


def trained(
    number: int,
    chosen: Mapping[str, str],
    request: TrainingRequest,
    goal: Goal,
    tell: Callable[[str], None],
    is_hopeless: Callable[[float, int], bool] = lambda value, epoch: False,
) -> tuple[Trial, bool]:
    """A trial, and whether it was interrupted. `is_hopeless` is told each epoch's value, the lower the better, and may
    end the training behind the epoch, whose run then goes on as an interrupted one does.
    """
    session = begun(request)
    assert session.directory is not None
    started = start_of(session.program, session.job, session.position, session.weights)
    from runtime.reporting.training_text import SignsOfLife  # rich is slow to import

    signs = SignsOfLife(started, lambda line: tell(f"trial {number}: {line}"))

    with session.directory as directory:
        metric, maximise = _aim(goal, session.program, session.job.validation is not None)
        pruner = _Pruner(session.job.steering, metric, maximise, is_hopeless)
        try:
            end = run_training(session.job, session.position, told([pruner, signs]))
        except TrainingError as error:
            directory.log(f"training failed: {error}")
            failure = str(error)
            failed = Trial(number, chosen, None, None, directory.path, failure, session.compiled, metric, maximise)
            return failed, False
        directory.write_json(RESULT, event_as_json(end))
        directory.log(f"training {end.reason} at step {end.step}")
    value, epoch = _achieved(pruner.epochs, metric, maximise)
    was_interrupted = end.reason == "interrupted"
    is_pruned = was_interrupted and pruner.has_stopped
    trial = Trial(
        *(number, chosen, value, epoch, directory.path, "", session.compiled, metric, maximise, end.best_epoch),
        is_pruned=is_pruned,
    )
    return trial, was_interrupted and not is_pruned


def _aim(goal: Goal, program: Program, validates: bool) -> tuple[str, bool]:
    """The scalar that counts, and whether a larger one is better. Raises UsageError where one is not known."""
    plan = training_of(program)
    prefixes = ("", "val_") if validates else ("",)
    known = [prefix + name for prefix in prefixes for name in (LOSS, *plan.metrics)]
    if not goal.metric and not plan.best:
        message = f"{program.name} has several updates, and no `best` says by which metric trials are compared"
        raise UsageError(message, f"add --metric NAME; there is {quoted(known)}")
    name = goal.metric or prefixes[-1] + plan.best
    if name not in known:
        raise UsageError(f"there is no metric `{name}`{did_you_mean(name, known, '; ')}", f"there is {quoted(known)}")
    plain = name if name in (LOSS, *plan.metrics) else name.removeprefix("val_")
    declared = False if plain == LOSS else plan.directions.get(plain)
    maximise = declared if goal.maximise is None else goal.maximise
    if maximise is None:
        fix = f"add --maximise or --minimise, or write `maximise({plain}(…))` or `minimise({plain}(…))` in `metrics`"
        raise UsageError(f"nothing says whether a large `{plain}` is good or bad", fix)
    return name, maximise


def _achieved(epochs: Sequence[EpochEnded], name: str, maximise: bool) -> tuple[float | None, int | None]:
    """The best value of a scalar, and its epoch."""
    records = [(prefixed("", e.scalars) | prefixed("val_", e.validation), e.epoch) for e in epochs]
    values = [(float(value), epoch) for record, epoch in records if isinstance(value := record.get(name), float)]
    if not values:
        return None, None
    return min(values, key=lambda pair: -pair[0] if maximise else pair[0])


class Sampler(Protocol):
    """Asked for a trial, then told its value, in turns."""

    def ask(self) -> Mapping[str, str]:
        """The texts of the searched settings."""
        ...

    def tell(self, value: float | None) -> None:
        """The value of the trial that was asked for last, the lower the better; None where it failed."""
        ...


class RandomSampler:
    """Each setting is drawn by itself. Bergstra & Bengio, "Random search for hyper-parameter optimization", 2012."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space, self._draw = space, random.Random(seed)

    def ask(self) -> Mapping[str, str]:
        return {dimension.key: dimension.text(self._draw.random()) for dimension in self._space.dimensions}

    def tell(self, value: float | None) -> None:
        del value


_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(:log)?")
_WHOLE = re.compile(r"[-+]?\d+")


@record
class ValueRange:
    """Numbers from `low` up to `high`: whole ones without `high`, as in a range of the language, or any."""

    key: str
    low: float
    high: float
    is_log: bool
    is_whole: bool

    @property
    def size(self) -> float:
        """How many values there are."""
        return self.high - self.low if self.is_whole else math.inf

    def text(self, share: float) -> str:
        """The number at a share in [0, 1) of the range, as the text of a setting."""
        low, high = (math.log(self.low), math.log(self.high)) if self.is_log else (self.low, self.high)
        value = low + share * (high - low)
        value = math.exp(value) if self.is_log else value
        return self.written(value)

    def written(self, value: float) -> str:
        return str(min(math.floor(value), int(self.high) - 1)) if self.is_whole else repr(float(value))


@record
class ValueList:
    """One of several texts."""

    key: str
    options: tuple[str, ...]

    @property
    def size(self) -> float:
        """How many values there are."""
        return len(set(map(_value, self.options)))

    def text(self, share: float) -> str:
        return self.options[int(share * len(self.options))]


SearchDimension: TypeAlias = ValueRange | ValueList


@record
class SearchSpace:
    """`fixed` settings are those of every trial."""

    dimensions: tuple[SearchDimension, ...]
    fixed: tuple[tuple[str, str], ...]

    @property
    def size(self) -> float:
        """How many combinations there are."""
        return math.prod(dimension.size for dimension in self.dimensions)


Settings: TypeAlias = tuple[tuple[str, "Decimal | str"], ...]


def as_values(settings: Mapping[str, str]) -> Settings:
    """Settings as they are compared: `0.1` and `1e-1` are one number."""
    return tuple((key, _value(text)) for key, text in settings.items())


def _value(text: str) -> Decimal | str:
    """The number that a text is, exactly, or the text."""
    return Decimal(text) if re.fullmatch(_NUMBER, text) else text


def space_of(settings: Sequence[tuple[str, str]]) -> SearchSpace:
    """Ranges and lists are searched; every other value is fixed. Raises UsageError."""
    found = [(key, _dimension(key, text)) for key, text in settings]
    dimensions = tuple(dimension for _, dimension in found if dimension is not None)
    if not dimensions:
        message = "there is nothing to search"
        raise UsageError(message, "give a range or a list: --set optimizer.lr=1e-4..1e-1:log --set hidden=[32,64]")
    keys = [dimension.key for dimension in dimensions]
    repeated = [key for key in keys if [k for k, _ in settings].count(key) > 1]
    if repeated:
        raise UsageError(f"`{repeated[0]}` is set twice", "leave one out")
    fixed = tuple((key, text) for (key, text), (_, dimension) in zip(settings, found, strict=True) if dimension is None)
    return SearchSpace(dimensions, fixed)


def _dimension(key: str, text: str) -> SearchDimension | None:
    text = text.strip()
    if found := _RANGE.fullmatch(text):
        return _range(key, found[1], found[2], found[3] is not None)
    if text.startswith("[") and text.endswith("]"):
        options = _items(text[1:-1])
        if len(set(map(_value, options))) < 2:
            raise UsageError(f"`{key}={text}` offers no choice", "list two values or more")
        return ValueList(key, options)
    return None


def _range(key: str, first: str, last: str, is_log: bool) -> ValueRange:
    is_whole = bool(_WHOLE.fullmatch(first) and _WHOLE.fullmatch(last))
    low, high = float(first), float(last)
    if math.isinf(low) or math.isinf(high):
        raise UsageError(f"the range {key}={first}..{last} has a number that is too large", "numbers are below 1.8e308")
    if not low < high:
        raise UsageError(f"the range {key}={first}..{last} is empty", "the first number is below the last")
    if is_log and low <= 0:
        raise UsageError(f"the range {key}={first}..{last}:log begins at {first}", "a logarithmic one begins above 0")
    return ValueRange(key, low, high, is_log, is_whole)


def _items(text: str) -> tuple[str, ...]:
    """The parts between commas that stand in no bracket and no string."""
    items, depth, is_text = [""], 0, False
    for letter in text:
        is_text = is_text != (letter == '"')
        depth += 0 if is_text else (letter in "([") - (letter in ")]")
        if letter == "," and not depth and not is_text:
            items.append("")
        else:
            items[-1] += letter
    return tuple(item.strip() for item in items if item.strip())
