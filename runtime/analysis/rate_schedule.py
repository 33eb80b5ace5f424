"""The rate of every step of a training, before it begins."""

from __future__ import annotations

import numpy as np

from compiler import driver
from compiler.driver import Options, Program, Steps
from compiler.errors.diagnostics import UsageError
from compiler.programs.kinds import GraphKind, Purpose
from compiler.support.record import record
from runtime.inference.model import length_of, runtime_settings, training_of

_MOST_POINTS = 500


@record
class RateSchedule:
    """`rates` are those of `steps`, which count from 0: all of a short training, evenly chosen ones of a long one."""

    setting: str
    steps: tuple[int, ...]
    rates: tuple[float, ...]
    total_steps: int
    steps_per_epoch: int


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
        plan.told_rate, tuple(steps), tuple(map(rate, steps)), length.total_steps, length.steps_per_epoch
    )
