"""A page's view of a run that trains in another process: how far it is, figures from copies of its tensors, orders.

Nothing is done unless a page is connected. Figures are computed on a thread that comes behind the training, and as
seldom as costs a hundredth of the time.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from compiler.driver import Options
from compiler.errors.diagnostics import DlcError, UsageError
from runtime.runs import live
from runtime.runs.checkpoint import checkpoints_in
from runtime.runs.directory import RunDirectory
from runtime.support.files import JsonObject, JsonValue
from runtime.support.priority import step_back
from runtime.view.live_figures import LiveFigures
from runtime.view.run_part import run_to_json

Tell = Callable[[str, JsonObject], None]

_SHARE = 0.005  # of the time that the figures of lines may take, and those of rows and texts as well
_SECONDS_BETWEEN = 1.0  # two copies of tensors
_MOST_POINTS = 400


class LiveRun:
    """Follows one run. `tell` is given events: `training` (its state, and a point of its curve), `lines`, `samples`."""

    def __init__(self, run: Path, options: Options, files: Mapping[str, int], tell: Tell) -> None:
        self._run, self._options, self._files, self._tell = run, options, files, tell
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "live", initializer=step_back)
        self._training: str | None = None
        self._beat = 0
        self._wanted = self._taken = 0  # numbers of copies
        self._is_busy = False
        self._next_lines = self._next_samples = 0.0
        self._sampled_epoch = -1
        self._figures: LiveFigures | None = None
        self._refusal = ""
        self._checkpoint: str = ""  # whose figures are shown, where nothing trains
        self._status: JsonObject = {"state": "ended"}
        self._points: list[list[JsonValue]] = []
        self._looks: list[JsonObject] = []
        self._samples: JsonObject | None = None

    @property
    def goes_on(self) -> bool:
        """Whether a process trains the run now."""
        return live.training_of(self._run) is not None

    def follow(self) -> None:
        """Look at the training, for a page that is connected; is called about once a second."""
        with self._lock:
            training = live.training_of(self._run)
            if training != self._training:
                self._begin(training)
            if training is None:
                self._look_at_checkpoint()
            else:
                self._look_at_training(training)

    def order(self, what: str) -> None:
        """Tell the training what to do. Raises UsageError where nothing trains, and DataError where it cannot hear."""
        if what not in live.ORDERS:
            raise UsageError(f"`{what}` is no order", f"give one of: {', '.join(live.ORDERS)}")
        with self._lock:
            training = live.training_of(self._run)
            if training is None:
                raise UsageError("the run is not training", f"to go on: dlc train --resume {self._run}")
            live.write_order(self._run, live.Order(training, _number(), what))

    def to_json(self) -> JsonObject:
        """Everything that a page needs which has just been opened."""
        with self._lock:
            return {
                "status": self._status,
                "points": list(self._points),
                "looks": list(self._looks),
                "samples": self._samples,
                "refusal": self._refusal,
                "run": run_to_json(self._run),
            }

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)
        if self._beat:
            live.remove(self._run, live.ASKED, live.ORDER)

    def _begin(self, training: str | None) -> None:
        """Another training has begun, or none is left."""
        if training is not None:
            self._points.clear()
            self._looks.clear()
            self._wanted, self._taken, self._sampled_epoch = _number(), 0, -1
            self._next_lines = self._next_samples = 0.0
        self._training, self._checkpoint = training, ""
        self._status = {"state": "ended" if training is None else "training"}
        self._say()

    def _look_at_training(self, training: str) -> None:
        self._beat += 1
        if not self._is_busy and self._taken == self._wanted and time.monotonic() >= self._next_lines:
            self._wanted = _number()
        try:
            live.write_asked(self._run, live.Asked(training, _number(), self._wanted))
        except DlcError as error:
            self._refuse(f"{error}; {error.fix}")
            return
        status = live.read_status(self._run)
        if status is None or status.get("training") != training:
            return
        if status != self._status:
            self._status = status
            self._say(self._point(status))
        if not self._is_busy and self._taken != self._wanted and status.get("tensors") == self._wanted:
            self._taken, self._is_busy = self._wanted, True
            self._worker.submit(self._compute, False)

    def _look_at_checkpoint(self) -> None:
        with suppress(OSError):
            found = checkpoints_in(RunDirectory(self._run, None).checkpoints)
            newest = found[-1].name if found else ""
            if newest != self._checkpoint and not self._is_busy:
                self._checkpoint, self._is_busy = newest, True
                self._worker.submit(self._compute, True)

    def _point(self, status: JsonObject) -> list[JsonValue] | None:
        """Step, loss of the rows since the last point, and rate; where there are too many, every second one goes."""
        loss = status.get("loss")
        if not isinstance(loss, float):
            return None
        point = [status.get("step"), loss, status.get("rate")]
        self._points.append(point)
        if len(self._points) > _MOST_POINTS:
            del self._points[1::2]
        return point

    def _say(self, point: list[JsonValue] | None = None) -> None:
        self._tell("training", {"status": self._status, "point": point})

    def _refuse(self, text: str) -> None:
        if text != self._refusal:
            self._refusal = text
            self._tell("refusal", {"text": text})

    def _compute(self, from_checkpoint: bool) -> None:
        """On the worker: figures from the copy of the tensors, or from the newest checkpoint."""
        try:
            self._compute_from(from_checkpoint)
        except DlcError as error:
            self._refuse(f"{error}; {error.fix}" if error.fix else str(error))
        finally:
            self._is_busy = False

    def _compute_from(self, from_checkpoint: bool) -> None:
        if self._figures is None:
            self._figures = LiveFigures(self._run, self._options, self._files)
        if from_checkpoint:
            at = self._figures.put_checkpoint()
        else:
            state = live.read_state(self._run)
            if state is None:
                return
            self._figures.put(state[0])
            at = state[1]
        begin = time.thread_time()
        look: JsonObject = {"step": at.step, "is_over": self._figures.is_over(at), "lines": self._figures.lines(at)}
        self._next_lines = _next_time(begin, is_first=not self._looks)
        self._keep(look)
        self._tell("lines", look)
        epoch = self._figures.epoch_of(at)
        if from_checkpoint or (epoch != self._sampled_epoch and time.monotonic() >= self._next_samples):
            self._sampled_epoch = epoch
            begin = time.thread_time()
            found = {"step": at.step, "epoch": epoch, **self._figures.samples(), "text": self._figures.text()}
            self._next_samples = _next_time(begin, is_first=self._samples is None)
            self._samples = found
            self._tell("samples", found)

    def _keep(self, look: JsonObject) -> None:
        with self._lock:
            self._looks.append(look)
            if len(self._looks) > _MOST_POINTS:
                del self._looks[1::2]


def _next_time(begin: float, is_first: bool) -> float:
    """When figures may be computed again whose computation began then; the first ones are compiled as well."""
    rest = 0.0 if is_first else (time.thread_time() - begin) / _SHARE
    return time.monotonic() + max(_SECONDS_BETWEEN, rest)


def _number() -> int:
    return secrets.randbits(52) + 1
