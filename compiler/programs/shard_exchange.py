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

_PAUSE = 5e-4  # seconds between two looks, each of which takes some 20 microseconds
_SHORTEST = 2e-5  # the same while nothing else is left to do


@record(eq=False)
class Bucket:
    """Tensors that are sent together, by their names, and what adds up and sends them when all are finished."""

    names: tuple[str, ...]
    send: Callable[[], None]


class Exchange:
    """The transfers of one process. `waited` counts the seconds in which it did nothing but wait for them."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._thread: ThreadPoolExecutor | None = None
        self._underway: list[Transfer] = []
        self.waited = 0.0

    def begin(self, sent: Sequence[Sequence[Array]], received: Sequence[Sequence[Array]]) -> None:
        self._underway.append(self._peers.begin(sent, received))

    @contextmanager
    def during(self, program: Executable, buckets: Sequence[Bucket]) -> Generator[None]:
        """Send buckets, in order, while the caller makes one step of a program that finishes them.

        They are sent behind it where one is all there are, and where the program does not say how far it is.
        """
        if len(buckets) < 2 or not self._peers.overlaps or not isinstance(program, WatchedProgram):
            yield
            for bucket in buckets:
                bucket.send()
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "exchange")
        step = _Step(program)
        job = self._thread.submit(self._send, step, buckets)
        try:
            yield
        except BaseException:
            step.has_failed = True
            raise
        finally:
            step.has_ended.set()
            job.result()

    def _send(self, step: _Step, buckets: Sequence[Bucket]) -> None:
        for bucket in buckets:
            while not step.has_finished(bucket.names):
                self._look()
                step.has_ended.wait(_PAUSE)
            if step.has_failed:
                return
            bucket.send()
        while not step.has_ended.is_set():
            self._look()
            step.has_ended.wait(_PAUSE)

    def _look(self) -> bool:
        """Whether all transfers are done."""
        self._underway = [transfer for transfer in self._underway if not transfer.is_done()]
        return not self._underway

    def wait(self) -> None:
        """Until all that was begun is done."""
        begin, pause = time.perf_counter(), _SHORTEST
        while not self._look():
            time.sleep(pause)
            pause = min(2 * pause, _PAUSE)
        self.waited += time.perf_counter() - begin


class _Step:
    """A step that another thread makes."""

    def __init__(self, program: WatchedProgram) -> None:
        self._lines, self._line = program.lines, program.watch()
        self.has_ended, self.has_failed = Event(), False

    def has_finished(self, names: Sequence[str]) -> bool:
        """Whether tensors have their values, in memory as this thread sees it: it meets others at a lock behind the
        look."""
        line = self._line()
        if self.has_ended.is_set():
            return True
        return all(name in self._lines and self._lines[name] < line for name in names)
