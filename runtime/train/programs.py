"""The programs of a training: of the step, one for each phase, and of a schedule that follows the loss of epochs.

In a later phase, less is frozen. The states of a schedule that follows are numbers among the run-time settings.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from compiler import driver
from compiler.driver import TRAINING, Executable, GraphKind, Options, Program, Purpose, Results, Steps, Tensors
from compiler.support.record import record
from runtime.inference.model import training_of


def compiled_step(program: Program, options: Options, steps_per_epoch: int) -> Executable:
    """One step of the training, whichever phase a call belongs to."""
    if training_of(program).phases:
        return PhasedStep(program, options, steps_per_epoch)
    return driver.compile_program(program, TRAINING, options)


def kind_at(program: Program, epoch: int) -> GraphKind:
    """The kind of the step in an epoch, which counts from 0."""
    phase = bisect_right([phase.first_epoch for phase in training_of(program).phases], epoch)
    return replace(TRAINING, phase=phase)


class PhasedStep:
    """Compiles the program of a phase when its first epoch begins. No call reaches over the end of an epoch."""

    def __init__(self, program: Program, options: Options, steps_per_epoch: int) -> None:
        self._program, self._options, self._steps_per_epoch = program, options, steps_per_epoch
        self._kind, self._step = TRAINING, None

    _step: Executable | None

    def run(self, steps: Steps) -> Results:
        kind = kind_at(self._program, steps.first_step // self._steps_per_epoch)
        if self._step is None or kind != self._kind:
            self._step = driver.compile_program(self._program, kind, self._options)
            self._kind = kind
        return self._step.run(steps)


@record
class Following:
    """`metric` is the setting that holds the last loss."""

    executable: Executable
    tensors: Tensors
    metric: str

    def after(self, loss: float, step: int, settings: Mapping[str, float]) -> dict[str, float]:
        """The settings that change after an epoch of this loss, or what else is made small, and of update `step`."""
        measured = {**settings, self.metric: loss}
        results = self.executable.run(Steps(self.tensors, {}, np.zeros(1, np.int64), 1, step, 0, measured))
        return {self.metric: loss, **{name: float(values[0]) for name, values in results.scalars.items()}}


def following_of(program: Program, tensors: Tensors, options: Options) -> Following | None:
    """That of a program whose schedule follows the loss."""
    follower = None if program.plan is None else program.plan.follower
    if follower is None:
        return None
    return Following(driver.compile_program(program, GraphKind(Purpose.FOLLOWING), options), tensors, follower.metric)
