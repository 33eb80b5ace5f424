"""A sign of life that each process sends the next one in a ring, by a thread, also while the process computes.

A process whose neighbour has been silent for too long says so by its name, and ends all.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import numpy as np
from mpi4py import MPI

from compiler.errors.diagnostics import UsageError

SILENCE = "DLC_PEER_SILENCE"  # the variable of the environment that says after how many seconds
_SECONDS = 30.0
_BEAT, _END = 1, 2  # tags
_BEATS = 8  # within the seconds of silence


class Pulse:
    """Between `rank` - 1, which is listened to, and `rank` + 1."""

    def __init__(self, communicator: MPI.Comm, name_of: Callable[[int], str], give_up: Callable[[str], None]) -> None:
        self._communicator, self._name_of, self._give_up = communicator, name_of, give_up
        rank, size = communicator.Get_rank(), communicator.Get_size()
        self._before, self._after = (rank - 1) % size, (rank + 1) % size
        self._limit = seconds_of_silence()
        self._ends = threading.Event()
        self._sent: list[MPI.Request] = []
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Say that no more will come, and wait until the neighbour has said so."""
        self._ends.set()
        self._thread.join()
        self._send(_END)
        deadline = time.monotonic() + self._limit
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(1e-3)
        MPI.Request.Waitall(self._sent)

    def _beat(self) -> None:
        interval = self._limit / _BEATS
        heard = ticked = time.monotonic()
        while not self._ends.wait(interval):
            self._send(_BEAT)
            now = time.monotonic()
            if self._hears() or now - ticked > 2 * interval:  # else this process itself has been stopped
                heard = now
            elif now - heard > self._limit:
                self._give_up(f"{self._name_of(self._before)} has not answered for {self._limit:.0f} s")
                return
            ticked = now

    def _send(self, tag: int) -> None:
        self._sent = [request for request in self._sent if not request.Test()]
        self._sent.append(self._communicator.Isend(np.zeros(1, np.uint8), self._after, tag))

    def _hears(self) -> bool:
        """Whether something has come."""
        found = False
        while self._communicator.Iprobe(self._before, _BEAT):
            self._communicator.Recv(np.empty(1, np.uint8), self._before, _BEAT)
            found = True
        return found or self._communicator.Iprobe(self._before, _END)

    def _has_ended(self) -> bool:
        self._hears()
        if not self._communicator.Iprobe(self._before, _END):
            return False
        self._communicator.Recv(np.empty(1, np.uint8), self._before, _END)
        return True


def seconds_of_silence() -> float:
    """After how many seconds a process counts as lost. Raises UsageError."""
    given = os.environ.get(SILENCE)
    try:
        seconds = _SECONDS if given is None else float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UsageError(f"{SILENCE} is `{given}`, and must be a number of seconds", f"give one above 0: {SILENCE}=30")
    return seconds
