"""The training loop: epochs of shuffled rows through the compiled step, with validation, best weights and stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from compiler.driver import KEPT, Array, Results
from compiler.errors.diagnostics import DataError, DlcError
from runtime.data.part import Part, rows_of_epoch
from runtime.inference.evaluation import Pace
from runtime.runs.position import Position
from runtime.runs.totals import is_total
from runtime.train.compiled_job import LOSS, Job, settings_at, steps_at
from runtime.train.events import EpochEnded, NonfiniteMet, Observer, TrainingEnded, TrainingProgressed, ignore
from runtime.train.interruption import Interruption
from runtime.train.keepers import averaged
from runtime.train.remedies import remedy
from runtime.train.snapshots import Snapshot

if TYPE_CHECKING:
    from compiler.diagnosis.reports import NonfiniteReport

ON_NAN = ("stop", "skip", "report")
RATE = "lr"  # the step's scalar that holds the scheduled rate

# A long epoch is saved on the way, so that a crash costs at most about this much work.
_SECONDS_BETWEEN_SAVES = 300.0
_SECONDS_BETWEEN_REPORTS = 0.1
_SKIPPED_IN_A_ROW = 10  # more spoilt steps than these one after the other are no accident


class TrainingError(DlcError):
    """A training that cannot go on; `fix` says what to do."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self._advise(fix)


def run_training(job: Job, position: Position, observer: Observer) -> TrainingEnded:
    """Train from `position` to the end, to early stopping or to an interruption; everything is saved then.

    At a regular end the tensors hold the best weights. Raises TrainingError where a value is NaN or infinite.
    """
    with Interruption() as interruption:
        try:
            return _Training(job, position, observer, interruption).run()
        finally:
            if job.steering is not None:
                job.steering.leave()


def replay_to(job: Job, position: Position, step: int) -> Position:
    """Train from `position` on until `step` updates are made, and leave everything as it is then."""
    with Interruption() as interruption:
        return _Training(job, position, ignore, interruption, step).go_on()


class _Training:
    """Trains up to the end, or until `until` updates are made."""

    def __init__(
        self, job: Job, position: Position, observer: Observer, interruption: Interruption, until: int | None = None
    ) -> None:
        self._until = job.length.total_steps if until is None else until
        self._job, self._position, self._observer, self._interruption = job, position, observer, interruption
        self._pace = Pace()
        self._order: tuple[int, Array] | None = None  # of which epoch, and the rows in their order
        self._saved_at = self._reported_at = time.monotonic()
        self._seconds = 0.0  # of all calls of the step
        self._speed = 0.0  # rows a second, in the last call
        self._snapshot = Snapshot(job.tensors, job.states)
        self._stops = False  # whether all have agreed to
        self._skipped, self._is_reported = 0, False
        self._last_spoilt: int | None = None

    def run(self) -> TrainingEnded:
        try:
            position = self.go_on()
        except DataError:  # of rows on disk, before the step that takes them: nothing is lost
            if self._job.states is None:  # else the others, who have read theirs, would not join in saving
                self._save()
            raise
        if self._stops and not self._is_over():
            return self._end("interrupted")
        return self._end("finished" if position.step >= self._job.length.total_steps else "stopped early")

    def go_on(self) -> Position:
        """Train; where it ended."""
        if self._position.step == 0:
            for path, average in self._job.averages.items():
                self._job.tensors.write(average, self._job.tensors[path])
        while not self._is_over() and not self._stops:
            if self._has_whole_epoch():
                self._close_epoch()
            else:
                self._advance()
        return self._position

    def _is_over(self) -> bool:
        position, job = self._position, self._job
        if self._until < job.length.total_steps:
            return position.step >= self._until and not self._has_whole_epoch()
        if position.rows:
            return False
        stop = job.plan.early_stop
        out_of_patience = stop is not None and position.stopping.epochs >= stop.patience
        return out_of_patience or position.step >= job.length.total_steps

    def _has_whole_epoch(self) -> bool:
        step, length = self._position.step, self._job.length
        return self._position.rows > 0 and (step % length.steps_per_epoch == 0 or step >= length.total_steps)

    def _agreed(self) -> tuple[int, bool, bool]:
        """How many steps the next call makes, and whether a snapshot and a checkpoint are due before, as the first
        process has it.

        All stop where one of them is to.
        """
        job = self._job
        if job.steering is not None:
            job.steering.meet(job, self._position, self._interruption, self._observer)
        is_save_due = time.monotonic() - self._saved_at > _SECONDS_BETWEEN_SAVES
        is_looked_at = job.steering is not None and job.states is not None and job.steering.wants_states
        own = self._interruption.requested, self._pace.steps, self._snapshot.is_due, is_save_due, is_looked_at
        told = job.peers.gathered(own)
        self._stops = any(stops for stops, *_ in told)
        if told[0][4]:
            self._show_states()
        return told[0][1:4]

    def _show_states(self) -> None:
        """Give the states of the optimizer to the first process, where others want to look at them."""
        with self._whole_states():
            if self._job.steering is not None:
                self._job.steering.take_states(self._job, self._position)

    def _advance(self) -> None:
        job, position = self._job, self._position
        pace, is_snapshot_due, is_save_due = self._agreed()
        if self._stops:
            return
        if is_save_due:
            self._save()
        in_epoch = position.step % job.length.steps_per_epoch
        steps = min(pace, job.length.steps_per_epoch - in_epoch, self._until - position.step)
        steps = self._within_reach(position, steps)
        if is_snapshot_due:
            self._snapshot.take(position)
        if job.watch is not None:
            job.watch(job, position)
        begin = time.perf_counter()
        results = self._run(position, steps)
        seconds = time.perf_counter() - begin
        self._pace.observe(steps, seconds)
        self._seconds += seconds
        spoilt = self._spoilt(results, position.step)
        if spoilt:
            self._retrace(position.step + steps, spoilt)
            return
        self._position = self._after(position, results, steps, seconds)
        rows = self._position.rows - position.rows
        self._speed = rows / max(seconds, 1e-9)
        self._report("train")

    def _within_reach(self, position: Position, steps: int) -> int:
        """How many of so many steps can be made at once: those whose rows are in memory together."""
        job = self._job
        if job.reader is None:
            return steps
        epoch, number = divmod(position.step, job.length.steps_per_epoch)
        return min(steps, job.reader.steps_at_once(epoch, number * job.length.batch, job.length.batch))

    def _run(self, position: Position, steps: int) -> Results:
        """Make the steps from `position` on, which lie in one epoch."""
        return self._job.step.run(steps_at(self._job, position, steps, self._rows_of_epoch(position), of_process=True))

    def _after(self, position: Position, results: Results, steps: int, seconds: float) -> Position:
        job = self._job
        averaged = job.scalars if job.finisher is None else (LOSS, *job.plan.averaged)
        scalars = {name: v for name, v in results.scalars.items() if name.removesuffix(KEPT) in averaged}
        rate = float(results.scalars[RATE][-1]) if RATE in results.scalars else None
        rows = job.length.rows_of_steps(position.step, steps)
        # metrics are those of the last batch of a step
        measured = int(rows.sum()) // job.length.batches
        totals = None if job.finisher is None else position.totals.plus(results, measured)
        return position.advanced(scalars, rows, seconds, rate, totals)

    def _scalars(self) -> dict[str, float]:
        """The loss and the metrics of the epoch so far: the mean over its steps, and what its rows come to."""
        job, position = self._job, self._position
        found = position.means()
        if job.finisher is not None:
            made = job.finisher.finished(position.totals, job.tensors, settings_at(job, position))
            found |= {name: value for name, value in made.items() if name != LOSS}
        return found

    def _rows_of_epoch(self, position: Position) -> Array | None:
        """The order of the rows; None where they stay on disk, whose reader has it."""
        if self._job.reader is not None:
            return None
        epoch = position.step // self._job.length.steps_per_epoch
        if self._order is None or self._order[0] != epoch:
            job = self._job
            self._order = epoch, rows_of_epoch(job.train, job.plan.seed, epoch, job.length.batch)
        return self._order[1]

    def _report(self, part: str) -> None:
        """Tell how far the training is, while it goes through a part of the data."""
        now = time.monotonic()
        if now - self._reported_at < _SECONDS_BETWEEN_REPORTS:
            return
        self._reported_at = now
        position, length = self._position, self._job.length
        left = (length.total_steps - position.step) * position.seconds / max(position.step, 1)
        epoch = (position.step - 1) // length.steps_per_epoch + 1
        self._observer(
            TrainingProgressed(epoch, position.step, self._scalars(), position.rate, self._speed, left, part)
        )

    def _close_epoch(self) -> None:
        job, position = self._job, self._position
        begin = time.perf_counter()
        self._spread_averages()
        with averaged(job.tensors, job.averages):
            validation = self._evaluated("validation", job.validation)
        if validation is None:  # interrupted; a resumed training begins with this validation
            self._stops = True
            return
        scalars = self._scalars()
        plan = job.plan
        quality = math.nan  # of which none is better than another
        if plan.best:
            quality = (validation or scalars)[plan.best] * (-1 if plan.directions.get(plan.best) else 1)
        epoch = (position.step - 1) // job.length.steps_per_epoch + 1
        seconds = time.perf_counter() - begin
        after = position.after_epoch(epoch, quality, seconds, plan.early_stop, plan.plateau)
        if job.following is not None:
            after = replace(after, kept=job.following.after(quality, position.step, settings_at(job, position)))
        event = EpochEnded(
            epoch=epoch,
            step=position.step,
            scalars=scalars,
            validation=validation,
            rate=position.rate,
            samples_per_second=position.rows / max(position.epoch_seconds, 1e-9),
            seconds=position.epoch_seconds + after.seconds - position.seconds,
            is_best=after.best_epoch == epoch,
        )
        self._position = after
        if (after.rate_factor, after.kept) != (position.rate_factor, position.kept):
            self._snapshot.forget()
        with self._whole_states():
            job.keeper.epoch_ended(after, event)
        self._observer(event)

    def _evaluated(self, name: str, part: Part | None) -> dict[str, float] | None:
        if part is None or self._job.evaluator is None:
            return {}

        def is_interrupted() -> bool:
            self._report(name)
            return self._interruption.requested

        return self._job.evaluator.evaluate(self._job.tensors, part, is_interrupted)

    def _end(self, reason: str) -> TrainingEnded:
        self._save()
        self._spread_averages()
        for path, average in self._job.averages.items():
            self._job.tensors.write(path, self._job.tensors[average])
        test: dict[str, float] = {}
        if reason != "interrupted":
            if self._job.plan.restores:
                self._job.keeper.restore_best()
                self._spread_weights()
            test = self._evaluated("test", self._job.test) or {}
        position, length = self._position, self._job.length
        event = TrainingEnded(
            reason=reason,
            run=self._job.keeper.run,
            step=position.step,
            epochs=math.ceil(position.step / length.steps_per_epoch),
            best_epoch=position.best_epoch,
            test=test,
            seconds=position.seconds,
            waited=self._waited(),
        )
        self._observer(event)
        return event

    def _waited(self) -> float | None:
        """The share of the time for which rows were waited for, of the process that waited longest: all wait for it."""
        job = self._job
        return None if job.reader is None else max(job.peers.gathered(job.reader.waited / max(self._seconds, 1e-9)))

    def _spread_weights(self) -> None:
        """Give the weights of the first process, which has read them, to the others."""
        peers, tensors = self._job.peers, self._job.tensors
        if peers.size == 1:
            return
        own: Mapping[str, Array] = {} if self._job.states is None else self._job.states.own
        arrays = {name: tensors[name].copy() for name in tensors.names() if name not in own}
        every, nothing = list(arrays.values()), [list[Array]() for _ in range(peers.size)]
        if peers.rank == 0:
            peers.swap([[], *(every for _ in range(1, peers.size))], nothing)
        else:
            peers.swap(nothing, [every, *nothing[1:]])
        for name, array in arrays.items():
            tensors.write(name, array)

    def _save(self) -> None:
        with self._whole_states():
            self._job.keeper.save(self._position)
        self._saved_at = time.monotonic()

    @contextmanager
    def _whole_states(self) -> Generator[None, None, None]:
        """While entered, the first process has all states of the optimizer, which otherwise lie with their owners."""
        states = self._job.states
        if states is not None:
            states.collect()
        yield
        if states is not None:
            states.release()

    def _spread_averages(self) -> None:
        """Give the averages of parameters, which lie with the owners of these, to all."""
        if self._job.states is not None and self._job.averages:
            self._job.states.complete(self._job.averages.values())

    def _spoilt(self, results: Results, first_step: int) -> list[tuple[str, int]]:
        """The tensors that are not finite, each with a step by which it was so, as known at the end of a call."""
        told = [name for name in self._job.scalars if name in results.scalars]
        bad = {name: np.flatnonzero(~np.isfinite(results.scalars[name])) for name in told}
        scalars = [(name, first_step + int(steps[0])) for name, steps in bad.items() if len(steps)]
        return [*scalars, *(one for one in results.nonfinite if not is_total(one[0]))]

    def _retrace(self, end: int, spoilt: Sequence[tuple[str, int]]) -> None:
        """Go back to before the first step that spoils something, among those up to `end`, and deal with it."""
        begin, position = self._position, self._snapshot.restore()
        while position.step < begin.step:
            left = self._job.length.steps_per_epoch - position.step % self._job.length.steps_per_epoch
            steps = self._within_reach(position, min(left, begin.step - position.step))
            self._run(position, steps)
            position = replace(position, step=position.step + steps)
        self._position = begin
        while self._position.step < end:
            self._snapshot.take(self._position)
            start = time.perf_counter()
            results = self._run(self._position, 1)
            seconds = time.perf_counter() - start
            found = self._spoilt(results, self._position.step)
            if found:
                self._deal_with(results, found, seconds)
                return
            self._position = self._after(self._position, results, 1, seconds)
        raise self._failure(min(spoilt, key=lambda one: one[1])[0], None)

    def _deal_with(self, results: Results, spoilt: Sequence[tuple[str, int]], seconds: float) -> None:
        """Stop, skip or report the step at which the training stands, which has just been made."""
        job, position = self._job, self._position
        name = spoilt[0][0]
        self._skipped = self._skipped + 1 if self._last_spoilt == position.step - 1 else 1
        self._last_spoilt = position.step
        if job.on_nan == "report" and self._is_reported:
            self._position = self._after(position, results, 1, seconds)
            return
        self._snapshot.restore()
        if job.states is not None:
            job.states.complete()
        report = self._explanation()
        if job.on_nan == "stop" or self._skipped > _SKIPPED_IN_A_ROW:
            raise self._failure(name, report)
        text = "" if report is None else report.text()
        epoch = position.step // job.length.steps_per_epoch + 1
        self._observer(NonfiniteMet(epoch, position.step, name, job.on_nan, text))
        if job.on_nan == "skip":
            self._position = replace(position, step=position.step + 1)
            self._snapshot.forget()
        else:
            self._is_reported = True
            self._position = self._after(position, self._run(position, 1), 1, seconds)

    def _explanation(self) -> NonfiniteReport | None:
        """Where the step at which the training stands stops being finite; the tensors are as before it."""
        job, position = self._job, self._position
        if job.explain is None:
            return None
        return job.explain(steps_at(job, position, order=self._rows_of_epoch(position)))

    def _failure(self, name: str, report: NonfiniteReport | None) -> TrainingError:
        """The state before the step that stands in the way is saved."""
        position, keeper = self._position, self._job.keeper
        has_good_state = keeper.give_up()
        if keeper.run is not None and report is not None:
            keeper.save(position)
            has_good_state = True
        self._job.peers.gathered(None)  # all fail, and the first process has saved
        epoch = position.step // self._job.length.steps_per_epoch + 1
        text, fix = "" if report is None else report.text(), remedy(report, position.step, self._job.plan)
        if has_good_state:
            fix += f"; {keeper.run} keeps the last good state"
        message = f"`{name}` became NaN or infinite at step {position.step} (epoch {epoch})"
        return TrainingError("\n".join([message, *text.split("\n")] if text else [message]), fix)
