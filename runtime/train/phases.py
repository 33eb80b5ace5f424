"""The step of a training in which less is frozen from some epochs on: for each phase, a program of its own."""

from __future__ import annotations

from bisect import bisect_right

from compiler import driver
from compiler.driver import Executable, Options, Program, Results, Steps
from runtime.inference.model import training_of


def compiled_step(program: Program, options: Options, steps_per_epoch: int) -> Executable:
    """One step of the training, whichever phase a call belongs to."""
    phases = training_of(program).phases
    return PhasedStep(program, options, steps_per_epoch) if phases else driver.compile_training(program, options)


def kind_at(program: Program, epoch: int) -> str:
    """What `driver.compile_ahead` calls the step in an epoch, which counts from 0."""
    phase = _phase_at(program, epoch)
    return f"training {phase}" if phase else "training"


def _phase_at(program: Program, epoch: int) -> int:
    return bisect_right([phase.first_epoch for phase in training_of(program).phases], epoch)


class PhasedStep:
    """Compiles the program of a phase when its first epoch begins. No call reaches over the end of an epoch."""

    def __init__(self, program: Program, options: Options, steps_per_epoch: int) -> None:
        self._program, self._options, self._steps_per_epoch = program, options, steps_per_epoch
        self._phase, self._step = -1, None

    _step: Executable | None

    def run(self, steps: Steps) -> Results:
        phase = _phase_at(self._program, steps.first_step // self._steps_per_epoch)
        if self._step is None or phase != self._phase:
            self._step = driver.compile_training(self._program, self._options, phase)
            self._phase = phase
        return self._step.run(steps)
