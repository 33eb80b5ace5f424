"""Buckets of gradients on their way to the processes that own them, while the step of a shard still computes.

A thread looks how far the step is, and sends each bucket as soon as the step has finished it. The order is planned
(`UpdateLayout.buckets`), so that messages need no names: each process receives in the order in which all send.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from compiler.interface import Array, Executable, Peers, Transfer
from compiler.support.record import record
from compiler.targets.target import WatchedProgram

_PAUSE = 1e-3  # seconds between two looks, each of which takes some 20 microseconds
_AWAKE = 5e-3  # seconds of looks without a pause, while nothing else is left to do


@record(eq=False)
class Bucket:
    """Tensors that are sent together, by their names, and what adds up and sends them when all are finished."""

    names: tuple[str, ...]
    send: Callable[[], None]


class Exchange:
    """The transfers of one process. `waited` counts the seconds from the end of its last step until all were done.

    Of the `sent_bytes`, the `hidden_bytes` were sent before the end of a step.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._thread: ThreadPoolExecutor | None = None
        self._underway: list[tuple[Transfer, int]] = []
        self.waited, self._computed = 0.0, 0.0
        self.sent_bytes = self.hidden_bytes = 0

    def begin(self, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]) -> None:
        size = sum(array.nbytes for arrays in sent for array in arrays)
        self._underway.append((self._peers.begin(sent, received), size))
        self.sent_bytes += size

    @contextmanager
    def during(self, program: Executable, buckets: Sequence[Bucket]) -> Generator[None]:
        """Send buckets, in order, while the caller makes one step of a program that finishes them.

        They are sent behind it where one is all there are, and where the program does not say how far it is.
        """
        if len(buckets) < 2 or not self._peers.overlaps or not isinstance(program, WatchedProgram):
            yield
            self._computed = time.perf_counter()
            for bucket in buckets:
                bucket.send()
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "exchange")
        step = WatchedStep(program)
        job = self._thread.submit(self._send, step, buckets)
        try:
            yield
        except BaseException:
            step.has_failed = True
            raise
        finally:
            self._computed = time.perf_counter()
            step.has_ended.set()
            job.result()

    def _send(self, step: WatchedStep, buckets: Sequence[Bucket]) -> None:
        for bucket in buckets:
            while not step.has_finished(bucket.names):
                self.hidden_bytes += self._look()
                step.has_ended.wait(_PAUSE)
            if step.has_failed:
                return
            bucket.send()
        while not step.has_ended.is_set():
            self.hidden_bytes += self._look()
            step.has_ended.wait(_PAUSE)

    def _look(self) -> int:
        """How many bytes of this process are sent since the last look."""
        is_done = [transfer.is_done() for transfer, _ in self._underway]
        sent = sum(size for (_, size), done in zip(self._underway, is_done, strict=True) if done)
        self._underway = [pair for pair, done in zip(self._underway, is_done, strict=True) if not done]
        return sent

    def wait(self) -> None:
        """Until all that was begun is done."""
        end = time.perf_counter() + _AWAKE
        while self._look() or self._underway:
            time.sleep(0 if time.perf_counter() < end else _PAUSE)
        self.waited += time.perf_counter() - self._computed


class WatchedStep:
    """A step that another thread makes."""

    def __init__(self, program: WatchedProgram) -> None:
        self.lines, self.line = program.lines, program.watch()
        self.has_ended, self.has_failed = Event(), False

    def has_finished(self, names: Sequence[str]) -> bool:
        """Whether tensors have their values, in memory as this thread sees it: it meets others at a lock behind the
        look."""
        line = self.line()
        if self.has_ended.is_set():
            return True
        return all(name in self.lines and self.lines[name] < line for name in names)
