"""The threads that run programs: Python threads that enter native code once and wait there."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from compiler.targets.cpu.runner import BUDGET, JOB_FIELDS, QUIT, SYNC_BYTES

SPINS = 1000  # about 30 microseconds of waiting before a thread sleeps

RUN = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    *(ctypes.c_void_p,) * 4,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_int32,
    ctypes.c_int32,
    ctypes.c_void_p,
)
WORKER = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32)
ANNOUNCE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def available_threads() -> int:
    """The smaller of the affinity mask and the processor time that a control group grants."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, cores)


class Team:
    """`threads` threads, the caller among them."""

    def __init__(self, threads: int, address: Callable[[str], int]) -> None:
        self.threads = threads
        block = np.zeros(SYNC_BYTES + 64, np.uint8)
        start = -block.ctypes.data % 64
        self._block = block[start : start + SYNC_BYTES]
        self._sync = self._block.ctypes.data
        self._block[BUDGET : BUDGET + 4].view(np.int32)[0] = SPINS
        self._fields = self._block[JOB_FIELDS : JOB_FIELDS + 56].view(np.int64)
        self._run = RUN(address("dlc_run"))
        self._announce = ANNOUNCE(address("dlc_announce"))
        self._worker = WORKER(address("dlc_worker"))
        self._members: list[threading.Thread] = []

    def run(self, abi: int, arenas: int, inputs: int, outputs: int, batch: int, capacity: int, threads: int) -> None:
        """Run a job on the first `threads` members."""
        if threads > 1:
            self._gather()
            self._fields[:] = (abi, arenas, inputs, outputs, batch, capacity, threads)
            self._announce(self._sync)
        self._run(abi, arenas, inputs, outputs, batch, capacity, 0, threads, self._sync)

    def _gather(self) -> None:
        for number in range(len(self._members) + 1, self.threads):
            member = threading.Thread(
                target=self._worker, args=(self._sync, number, 0), name=f"dlc-{number}", daemon=True
            )
            member.start()
            self._members.append(member)

    def close(self) -> None:
        """Send the members home."""
        if self._members:
            self._block[QUIT : QUIT + 4].view(np.int32)[0] = 1
            self._announce(self._sync)
            for member in self._members:
                member.join()
            self._members = []

    def __del__(self) -> None:
        self.close()
