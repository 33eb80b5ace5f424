"""A training with an exponentially growing rate: where the loss falls fastest, and where training falls apart.

Smith, "Cyclical learning rates for training neural networks", 2017, section 3.3 (the learning-rate range test).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compiler import driver
from compiler.driver import Array, GraphKind, Options, Program, Purpose, Steps
from compiler.errors.diagnostics import UsageError
from compiler.support.record import record
from runtime.data.part import rows_of_epoch
from runtime.inference.model import length_of, rate_names, runtime_settings, training_of
from runtime.runs.position import Position
from runtime.train.compiled_job import LOSS, Job, steps_at
from runtime.train.interruption import Interruption

# The smoothed loss at step i is a mean over the steps before, with weights that fall by this factor a step.
_SMOOTHING = 0.9
_SMOOTHED = 20  # steps behind which little of the first loss is left
# Training has fallen apart where the smoothed loss is so many times its lowest, above the noise of the first steps.
_DIVERGED = 4.0
_STEPS_BEFORE_JUDGING = 10


@record
class RateRange:
    """One entry a step. `steepest` is the rate at which the smoothed loss falls fastest over the logarithm of the rate.

    `divergence` is the rate at which training fell apart, None where it never did.
    """

    setting: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: float | None
    divergence: float | None

    @property
    def suggestion(self) -> float | None:
        """The rate of the steepest descent, but at most a tenth of that at which training fell apart."""
        if self.divergence is None or self.steepest is None:
            return self.steepest
        return min(self.steepest, self.divergence / 10)


def rate_range(program: Program, job: Job, low: float, high: float, steps: int) -> RateRange:
    """Train for `steps` steps while the rate grows from `low` to `high`; ends early where the loss diverges.

    The program has no schedule. With several optimizers, the rates of the others keep their proportion to the first.
    Raises UsageError where the rate is no run-time setting.
    """
    names = rate_names(program, job.settings)
    first = job.settings[names[0]]
    scales = {name: job.settings[name] / first if first else 1.0 for name in names}  # proportions to the first
    rates = np.geomspace(low, high, steps)
    losses: list[float] = []
    smoothed: list[float] = []
    order: Array = np.zeros(0, np.int64)
    with Interruption() as interruption:
        for step, rate in enumerate(rates):
            epoch, in_epoch = divmod(step, job.length.steps_per_epoch)
            if in_epoch == 0:
                order = rows_of_epoch(job.train, job.plan.seed, epoch, job.length.batch)
            one = steps_at(job, Position(step), order=order)
            settings = {**job.settings, **{name: rate * scale for name, scale in scales.items()}}
            losses.append(float(job.step.run(replace(one, settings=settings)).scalars[LOSS][0]))
            smoothed = smooth(losses)
            if interruption.requested or _has_diverged(smoothed):
                break
    diverged = float(rates[len(losses) - 1]) if _has_diverged(smoothed) else None
    visited = rates[: len(losses)]
    return RateRange(
        setting=names[0],
        rates=tuple(map(float, visited)),
        losses=tuple(losses),
        smoothed=tuple(smoothed),
        steepest=steepest_descent(visited, smoothed),
        divergence=diverged,
    )


def smooth(losses: Sequence[float]) -> list[float]:
    """Means with exponentially falling weights, which sum to one from the first step on."""
    total = weight = 0.0
    means: list[float] = []
    for loss in losses:
        total, weight = _SMOOTHING * total + loss, _SMOOTHING * weight + 1
        means.append(total / weight)
    return means


def steepest_descent(rates: Array, smoothed: Sequence[float]) -> float | None:
    """Where the smoothed loss falls fastest over log(rate), before its minimum; None where it never falls.

    The first means are of a few losses, and so are mostly noise: the search begins behind them.
    """
    values = np.array(smoothed)
    values = values[np.isfinite(values)]
    lowest = int(values.argmin()) + 1 if len(values) else 0
    if lowest < 3:
        return None
    slopes = np.gradient(values[:lowest], np.log(rates[:lowest]))
    first = min(_SMOOTHED, lowest // 3)
    return float(rates[first + int(slopes[first:].argmin())]) if slopes[first:].min() < 0 else None


def _has_diverged(smoothed: Sequence[float]) -> bool:
    if not smoothed or not np.isfinite(smoothed[-1]):
        return bool(smoothed)
    return len(smoothed) > _STEPS_BEFORE_JUDGING and smoothed[-1] > _DIVERGED * min(smoothed) > 0


_MOST_POINTS = 500


@record
class RateSchedule:
    """`rates` are those of `steps`, which count from 0: all of a short training, evenly chosen ones of a long one."""

    setting: str
    total_steps: int
    steps_per_epoch: int
    steps: tuple[int, ...]
    rates: tuple[float, ...]


def rate_schedule(program: Program, rows: int, options: Options) -> RateSchedule:
    """The scheduled rate in a training over `rows` rows, computed as the training step does."""
    plan = training_of(program)
    if not plan.told_rate:
        raise UsageError(f"no optimizer of {program.model} has a setting `lr`", "there is no rate to show")
    length = length_of(plan, rows)
    settings = runtime_settings(program, length)
    tensors = driver.allocate(program, options)
    executable = driver.compile_program(program, GraphKind(Purpose.SCHEDULE), options)
    one = np.zeros(1, np.int64)

    def rate(step: int) -> float:
        return float(executable.run(Steps(tensors, {}, one, 1, step, 0, settings)).scalars["lr"][0])

    points = min(length.total_steps, _MOST_POINTS)
    steps = [int(step) for step in np.unique(np.linspace(0, length.total_steps - 1, points).round())]
    return RateSchedule(
        plan.told_rate, length.total_steps, length.steps_per_epoch, tuple(steps), tuple(map(rate, steps))
    )
