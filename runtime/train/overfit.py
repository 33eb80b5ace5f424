"""Training on a few rows alone: a model that cannot learn them by heart has a mistake somewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler import driver
from compiler.diagnosis.loss_bounds import loss_bounds
from compiler.driver import EVALUATION, Options
from compiler.errors.diagnostics import UsageError
from compiler.support.record import record
from runtime.data.part import Part
from runtime.inference.evaluation import PartEvaluator, finisher_of
from runtime.inference.model import weight_names
from runtime.runs.position import Position
from runtime.train.compiled_job import LOSS, Job
from runtime.train.keepers import MemoryKeeper
from runtime.train.session import TrainingSession
from runtime.train.training import replay_to

STEPS = 2000
_STEPS_BETWEEN_LOOKS = 50
# The floor counts as reached where so much of the way from guessing to it is left.
_LEFT = 0.01
_FAR = 1.5


@record
class Overfit:
    """Losses of the inference program over the rows, without penalties: before; after `steps`; for outputs that know
    nothing; and the least that any outputs reach. The last two are None where the loss depends on no output of floats.
    """

    rows: int
    steps: int
    first: float
    last: float
    guess: float | None
    floor: float | None

    @property
    def is_reached(self) -> bool:
        return self.last <= _goal(self.first, self.guess, self.floor)

    @property
    def remark(self) -> str | None:
        """A remark on an odd first loss."""
        if self.guess is None or self.floor is None:
            return None
        if self.first - self.floor > _FAR * (self.guess - self.floor):
            return (
                "the first loss is far above that of a guess: the outputs begin too large, so their initialiser or "
                "the scale of the inputs does not fit"
            )
        if self.first - self.floor < 0.5 * (self.guess - self.floor):
            return (
                "the first loss is far below that of a guess: the weights are trained, or the inputs hold the targets"
            )
        return None


def overfit(session: TrainingSession, rows: int, options: Options) -> Overfit:
    """Train a prepared session on the first `rows` rows of its first epoch, until their loss is at its floor."""
    program, job = session.program, session.job
    if job.plan.updates:
        message = f"{program.name} has several updates, and no one loss says whether rows are known by heart"
        raise UsageError(message, "try it on a `train` of one loss")
    if not 0 < rows <= job.length.rows:
        raise UsageError(f"there are {job.length.rows} rows to train on, not {rows}", "give a smaller --overfit")
    few = Part(job.train.arrays, job.train.rows[:rows])
    batch = min(job.length.batch, rows)
    keeper = MemoryKeeper(job.tensors, weight_names(program))
    job = replace(
        job,
        train=few,
        length=replace(job.length, rows=rows, batch=batch, total_steps=STEPS + 1),
        validation=None,
        test=None,
        plan=replace(job.plan, early_stop=None, plateau=None),
        keeper=keeper,
    )
    step = driver.compile_program(program, EVALUATION, replace(options, batch=batch))
    evaluator = PartEvaluator(step, batch, job.settings, options.dtype, finisher=finisher_of(program, options))
    data = {name: np.asarray(array[few.rows]) for name, array in few.arrays.items()}
    bounds = loss_bounds(program, data, job.tensors, job.settings, rows, job.plan.seed)
    guess, floor = (None, None) if bounds is None else (bounds.guess, bounds.floor)
    first = _loss(evaluator, job)
    position, last = Position(), first
    while position.step < STEPS and last > _goal(first, guess, floor):
        position = replay_to(job, position, min(position.step + _STEPS_BETWEEN_LOOKS, STEPS))
        last = _loss(evaluator, job)
    return Overfit(rows, position.step, first, last, guess, floor)


def _goal(first: float, guess: float | None, floor: float | None) -> float:
    if guess is None or floor is None:
        return _LEFT * first
    return floor + _LEFT * max(guess - floor, 0.0)


def _loss(evaluator: PartEvaluator, job: Job) -> float:
    found = evaluator.evaluate(job.tensors, job.train)
    assert found is not None
    return found[LOSS]
