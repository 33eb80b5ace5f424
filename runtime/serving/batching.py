"""Requests to batches: gathered within a window of time, computed one after the other, and answered one by one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from compiler.errors.diagnostics import DlcError
from compiler.support.record import record
from runtime.data.part import Part
from runtime.serving.metrics import Metrics
from runtime.serving.model import Columns, ServedModel
from runtime.serving.refusals import busy, closing, refusal_of
from runtime.serving.requests import InferenceRequest


@record
class Limits:
    """`window` is in seconds; `most_rows` bounds a batch, and `most_pending` the requests that wait for one."""

    window: float
    most_rows: int
    most_pending: int


@record
class Answer:
    """The outputs of a request, and the version of the model that computed them."""

    columns: Columns
    version: str


class _Job:
    """A request that waits, since `arrived`."""

    __slots__ = ("answer", "arrived", "request")

    def __init__(self, request: InferenceRequest, answer: asyncio.Future[Answer], arrived: float) -> None:
        self.request, self.answer, self.arrived = request, answer, arrived


# A batch that takes less is computed in the loop: to hand it to a thread and back takes as long, since both are mostly
# Python. The shortest of the last batches decides, as others may have waited for a processor.
_QUICK = 0.0005  # seconds
_BATCHES = 16

_Outcome: TypeAlias = Answer | Exception
_Result = TypeVar("_Result")


class Batcher:
    """Computes one batch at a time, on a thread of its own unless that is quicker here; all is called in the loop."""

    def __init__(self, model: ServedModel, limits: Limits, metrics: Metrics) -> None:
        self.model = model
        self._limits, self._metrics = limits, metrics
        self._loop = asyncio.get_running_loop()
        self._worker = ThreadPoolExecutor(1, "dlc-compute")
        self._pending: deque[_Job] = deque()
        self._pending_rows = 0
        self._is_computing = self._is_closing = False
        self._is_due = False  # the next batch begins as soon as the loop comes to it
        self._timer: asyncio.TimerHandle | None = None
        self._turns: deque[asyncio.Future[None]] = deque()
        metrics.pending.set_function(lambda: len(self._pending))
        self._times: deque[tuple[int, float]] = deque(maxlen=_BATCHES)  # rows and seconds of the last batches

    def submit(self, request: InferenceRequest) -> asyncio.Future[Answer]:
        """The outputs of a request, or a Refusal. Raises Refusal where too many wait."""
        if self._is_closing:
            raise closing()
        if len(self._pending) >= self._limits.most_pending:
            raise busy(f"{len(self._pending)} requests wait already", "try again, and less often")
        job = _Job(request, self._loop.create_future(), self._loop.time())
        self._pending.append(job)
        self._pending_rows += request.rows
        self._schedule()
        return job.answer

    async def between_batches(self, work: Callable[[], _Result]) -> _Result:
        """The result of `work`, which runs on the thread that computes batches, while there is none."""
        if self._is_computing:
            self._turns.append(self._loop.create_future())
            await self._turns[-1]
        self._is_computing = True
        try:
            return await self._loop.run_in_executor(self._worker, work)
        finally:
            self._go_on()

    async def close(self) -> None:
        """Refuse further requests, and finish those that wait."""
        self._is_closing = True
        await asyncio.gather(*(job.answer for job in self._pending), return_exceptions=True)
        self._worker.shutdown()

    def _go_on(self) -> None:
        """After a computation: what waits for its turn, or else the next batch."""
        self._is_computing = False
        while self._turns and not self._is_computing:
            turn = self._turns.popleft()
            if not turn.done():  # who waited was cancelled
                self._is_computing = True
                turn.set_result(None)
        self._schedule()

    def _schedule(self) -> None:
        """Let a batch begin once it is full, or its oldest request has waited for the window."""
        if self._is_computing or self._is_due or not self._pending:
            return
        left = self._limits.window - (self._loop.time() - self._pending[0].arrived)
        if self._pending_rows >= self._limits.most_rows or left <= 0:
            self._is_due = True
            self._loop.call_soon(self._begin)
        elif self._timer is None:
            self._timer = self._loop.call_later(left, self._begin)

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_due = False
        if self._is_computing or not self._pending:
            return
        jobs = self._taken()
        requests = [job.request for job in jobs]
        begin = time.perf_counter()
        self._is_computing = True
        if self._is_quick(sum(request.rows for request in requests)):
            self._finish(jobs, _outcomes(self.model, requests), begin)
            return
        computed = self._worker.submit(_outcomes, self.model, requests)
        computed.add_done_callback(
            lambda done: self._loop.call_soon_threadsafe(self._finish, jobs, done.result(), begin)
        )

    def _is_quick(self, rows: int) -> bool:
        """Whether so many rows are computed before a thread would have taken them over, by the last batches."""
        seconds = [seconds * max(1.0, rows / count) for count, seconds in self._times]
        return bool(seconds) and min(seconds) < _QUICK and not self.model.may_block

    def _taken(self) -> list[_Job]:
        """The oldest requests that are a batch together; at least one."""
        jobs = [self._pending.popleft()]
        rows = jobs[0].request.rows
        while self._pending and rows + self._pending[0].request.rows <= self._limits.most_rows:
            jobs.append(self._pending.popleft())
            rows += jobs[-1].request.rows
        self._pending_rows -= rows
        self._metrics.batch_rows.observe(rows)
        self._metrics.rows.inc(rows)
        return jobs

    def _finish(self, jobs: Sequence[_Job], outcomes: Sequence[_Outcome], begin: float) -> None:
        seconds = time.perf_counter() - begin
        self._times.append((sum(job.request.rows for job in jobs), seconds))
        self._metrics.computing.observe(seconds)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.answer.done():  # the server was told to wait no longer
                continue
            if isinstance(outcome, Exception):
                job.answer.set_exception(outcome)
            else:
                job.answer.set_result(outcome)
        self._go_on()


def _outcomes(model: ServedModel, requests: Sequence[InferenceRequest]) -> list[_Outcome]:
    """The outcome of each request. All are computed together, unless rows of the model depend on those beside them."""
    found: list[_Outcome | None] = [None] * len(requests)
    parts: dict[int, Part] = {}
    for number, request in enumerate(requests):
        try:
            parts[number] = model.part_of(request.arrays)
        except Exception as error:
            found[number] = _explained(error)
    groups = [list(parts)] if model.compiled.is_row_by_row else [[number] for number in parts]
    for group in groups:
        for number, outcome in zip(group, _computed(model, [parts[number] for number in group]), strict=True):
            found[number] = outcome
    return [outcome for outcome in found if outcome is not None]


def _computed(model: ServedModel, parts: Sequence[Part]) -> list[_Outcome]:
    if not parts:
        return []
    try:
        columns = model.predict(parts)
    except Exception as error:
        return [_explained(error)] * len(parts)
    answers: list[_Outcome] = []
    first = 0
    for part in parts:
        last = first + len(part.rows)
        answers.append(Answer({name: values[first:last] for name, values in columns.items()}, model.version))
        first = last
    return answers


def _explained(error: Exception) -> Exception:
    return refusal_of(error) if isinstance(error, DlcError) else error
