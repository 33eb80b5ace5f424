"""The training's side of a page that follows it: between two calls of the step it tells how far it is, and obeys.

Nothing is done but a look at the clock, and at a folder a few times a second, unless a page is open. Nothing that a
page asks for changes a bit: a training that pauses goes on where it was, and one that stops saves its state as at
Ctrl-C.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.runs import live
from runtime.runs.position import Position
from runtime.runs.totals import means_of
from runtime.support.files import JsonObject, JsonValue, finite
from runtime.train.events import Observer, TrainingPaused

if TYPE_CHECKING:
    from runtime.train.compiled_job import Job
    from runtime.train.interruption import Interruption

_SECONDS_BETWEEN_LOOKS = 0.2
_LONGEST_BETWEEN_LOOKS = 5.0  # a look that waited for its disk or processor once does not keep orders waiting
_SECONDS_OF_A_PAUSE = 0.05  # between two looks while it lasts
_SECONDS_WATCHED = 5.0  # after the last beat
_SHARE = 0.005  # of the training's time that answers may take, with orders; copies of tensors as well
_SHARE_OF_ORDERS = 0.001  # so that one slow answer does not keep orders waiting
TRAINING, PAUSED, STOPPING = "training", "paused", "stopping"


class RunSteering:
    """Of one training in a run. `has_stopped` says that a page ended it."""

    def __init__(self, run: Path) -> None:
        self._run, self._training = run, live.training_of(run)
        self._next_look = self._next_answer = 0.0
        self._beat, self._watched_until = 0, 0.0
        self._order = 0
        self._is_paused = self._stops = self._has_written = False
        self.has_stopped = False
        self.wants_states = False
        self._copied, self._next_copy = 0, 0.0
        self._told: Position | None = None
        self._begun, self._cost = time.monotonic(), 0.0  # seconds that pages have taken of the training
        self._paused_for = 0.0
        live.remove(run, live.ASKED, live.ORDER, live.STATUS, live.STATE)  # of a training that was killed

    def meet(self, job: Job, position: Position, interruption: Interruption, observer: Observer) -> None:
        """Look for pages between two calls; return when the training may go on, or is interrupted."""
        if self._stops and position.rows == 0 and position.step:
            self.has_stopped = True
            interruption.request()
            return
        begin = time.monotonic()
        if begin < self._next_look:
            return
        self._hear()
        heard = end = time.monotonic()
        if heard >= self._next_answer:
            self._look(job, position)
            end = time.monotonic()
            self._next_answer = end + (end - heard) / (_SHARE - _SHARE_OF_ORDERS)
        if self._is_paused:
            self._pause(job, position, interruption, observer)
        rest = max(_SECONDS_BETWEEN_LOOKS, (heard - begin) / _SHARE_OF_ORDERS)
        self._next_look = time.monotonic() + min(rest, _LONGEST_BETWEEN_LOOKS)

    def stop_after_epoch(self) -> None:
        """End the training when its epoch has ended, as a page does."""
        self._stops = True

    def leave(self) -> None:
        """The training ends: its files mean nothing any more."""
        if self._has_written:
            live.remove(self._run, live.STATUS, live.STATE, live.ORDER)

    def _pause(self, job: Job, position: Position, interruption: Interruption, observer: Observer) -> None:
        epoch = position.step // job.length.steps_per_epoch + 1
        begin = time.monotonic()
        observer(TrainingPaused(epoch, position.step, True))
        while self._is_paused and not interruption.requested:
            time.sleep(_SECONDS_OF_A_PAUSE)
            self._hear()
            self._look(job, position)
        self._paused_for += time.monotonic() - begin
        if not interruption.requested:
            observer(TrainingPaused(epoch, position.step, False))

    def _hear(self) -> None:
        """Read an order and obey it."""
        begin = time.perf_counter()
        folder = live.live_folder(self._run)
        order = None if folder is None else live.read_order(folder)
        if order is not None and order.training == self._training and order.number != self._order:
            self._order = order.number
            self._next_answer = 0.0
            self._obey(order.what)
        if not self._is_paused:
            self._cost += time.perf_counter() - begin

    def _look(self, job: Job, position: Position) -> None:
        """Answer a page that asks."""
        folder = live.live_folder(self._run)
        if folder is None:
            return
        begin = time.perf_counter()
        asked = live.read_asked(folder)
        if asked is not None and asked.training == self._training:
            with suppress(OSError):  # of a folder that is full or gone, pages say that nothing comes
                self._answer(folder, asked, job, position)
        if not self._is_paused:
            self._cost += time.perf_counter() - begin

    def _obey(self, what: str) -> None:
        self._stops = what == live.STOP or (self._stops and what != live.KEEP_ON)
        self._is_paused = what == live.PAUSE or (self._is_paused and what != live.GO_ON)

    def _answer(self, folder: Path, asked: live.Asked, job: Job, position: Position) -> None:
        now = time.monotonic()
        if asked.beat != self._beat:
            self._beat, self._watched_until = asked.beat, now + _SECONDS_WATCHED
        if now >= self._watched_until:
            return
        self._has_written = True
        if asked.tensors != self._copied and (now >= self._next_copy or self._is_paused):
            self.wants_states = job.states is not None
            if not self.wants_states:
                self._copy(folder, asked.tensors, job, position)
        live.write_status(folder, self._status(job, position))
        self._told = position

    def take_states(self, job: Job, position: Position) -> None:
        """Copy the tensors, as was wanted: those of the optimizer are all here now."""
        self.wants_states = False
        folder = live.live_folder(self._run)
        asked = None if folder is None else live.read_asked(folder)
        if folder is not None and asked is not None and asked.training == self._training:
            with suppress(OSError):
                self._copy(folder, asked.tensors, job, position)

    def _copy(self, folder: Path, number: int, job: Job, position: Position) -> None:
        now = time.monotonic()
        self._copied = number
        tensors = {name: job.tensors[name] for name in job.tensors.names()}
        live.write_state(folder, tensors, live.LivePosition(position.step, position.rate_factor, position.kept))
        end = time.monotonic()
        self._next_copy = end + (end - now) / _SHARE

    def _status(self, job: Job, position: Position) -> JsonObject:
        length = job.length
        left = (length.total_steps - position.step) * position.seconds / max(position.step, 1)
        means: Mapping[str, float] = position.means() if position.rows else {}
        recent = recent_means(self._told, position, length.steps_per_epoch)
        run: dict[str, JsonValue] = {
            "training": self._training,
            "state": PAUSED if self._is_paused else STOPPING if self._stops else TRAINING,
            "stops": self._stops,
            "order": self._order,
            "step": position.step,
            "steps": length.total_steps,
            "steps_per_epoch": length.steps_per_epoch,
            "epoch": position.step // length.steps_per_epoch + 1,
            "epochs": length.epochs,
            "loss": finite(recent["loss"]) if "loss" in recent else None,
            "means": {name: finite(value) for name, value in means.items()},
            "rate": position.rate,
            "seconds": position.seconds,
            "left": left,
            "tensors": self._copied,
        }
        spent = time.monotonic() - self._begun - self._paused_for
        return {**run, "cost": self._cost / max(spent, 1e-9)}


def recent_means(before: Position | None, now: Position, steps_per_epoch: int) -> Mapping[str, float]:
    """The means over the rows since another position of the same epoch; else over those of the epoch so far."""
    if not now.rows:
        return {}
    if before is None or before.step // steps_per_epoch != now.step // steps_per_epoch or before.rows >= now.rows:
        return now.means()
    added = {name: value - before.sums.get(name, 0.0) for name, value in now.sums.items()}
    return means_of(added, now.rows - before.rows)
