"""The present speed of the machine: fused multiply-adds on the threads that a job is about to have.

A virtual host may give two of its processors one core, or a core of theirs to strangers, for seconds at a time. What is
measured then says nothing about a program, and nothing about which of two is faster.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from peers.peak_peer import Chains

SAMPLES = 7  # of 4 ms or so; the best counts, since others can only slow one down
FULL = 0.9  # of the best rate that was seen
CALIBRATION_SECONDS = 1.0
PAUSE_SECONDS = 0.1


class Probe:
    """The rate that `sample` finds (GFLOP/s), its best so far, and waiting for that."""

    def __init__(self, sample: Callable[[], float], patience: float, pause: float = PAUSE_SECONDS) -> None:
        self._sample = sample
        self._patience, self._pause = patience, pause
        self.best = 0.0

    def rate(self) -> float:
        """The best of a few samples."""
        found = max(self._sample() for _ in range(SAMPLES))
        self.best = max(self.best, found)
        return found

    def await_full_speed(self) -> tuple[float, float]:
        """The rate when the machine is at full speed or patience has ended, and the seconds waited for it."""
        if not self.best:
            self._calibrate()
        start = time.monotonic()
        while (found := self.rate()) < FULL * self.best and time.monotonic() - start < self._patience:
            time.sleep(self._pause)
        return found, time.monotonic() - start

    def _calibrate(self) -> None:
        """Learns what full speed is; a whole second at half speed is made up for by the probes that follow."""
        end = time.monotonic() + CALIBRATION_SECONDS
        while not self.best or time.monotonic() < end:
            self.rate()
            time.sleep(self._pause)


class Probes:
    """A probe for each number of threads, on the processors that a job with as many is kept on."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._chains = Chains()
        self._probes: dict[int, Probe] = {}

    def of(self, threads: int) -> Probe:
        if threads not in self._probes:
            processors = sorted(os.sched_getaffinity(0))[:threads]
            self._probes[threads] = Probe(lambda: self._chains.rate(threads, processors), self._patience)
        return self._probes[threads]
