"""The step of a training in which less is frozen from some epochs on: for each phase, a program of its own."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace

from compiler import driver
from compiler.driver import TRAINING, Executable, GraphKind, Options, Program, Results, Steps
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
