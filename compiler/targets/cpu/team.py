"""The threads that run programs: Python threads that enter native code once and wait there."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from struct import Struct

import numpy as np

from compiler.support.arrays import Array
from compiler.targets.cpu.runner import BUDGET, GROUP, JOB_BUDGET, JOB_FIELDS, PACES, QUIT
from compiler.targets.llvm.jit import Library

SPINS = 2500  # waits of some 50 ns each before a thread sleeps

FIELDS = Struct("=7q")  # program, arenas, inputs, outputs, batch, capacity, threads
WORKER = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32)
ANNOUNCE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Team:
    """`threads` threads, the caller among them, for the runner and the kernels of a library."""

    def __init__(self, threads: int, library: Library) -> None:
        self.threads, self.library = threads, library
        size = PACES + 64 * (threads + -(-threads // GROUP))
        block = np.zeros(size + 64, np.uint8)
        start = -block.ctypes.data % 64
        self._block = block[start : start + size]
        self._sync = self._block.ctypes.data
        for budget in (BUDGET, JOB_BUDGET):
            self._block[budget : budget + 4].view(np.int32)[0] = SPINS
        self._call = ANNOUNCE(library.address("dlc_call"))
        self._announce = ANNOUNCE(library.address("dlc_announce"))
        self._worker = WORKER(library.address("dlc_worker"))
        self._has_members = False
        self._job: tuple[int, ...] = ()

    def run(self, blocks: tuple[int, int, int, int], batch: int, capacity: int, parallel: bool) -> None:
        """Run a job on one thread or on all. `blocks`: addresses of program, arenas, inputs and outputs."""
        threads = self.threads if parallel else 1
        if threads > 1 and not self._has_members:
            self._gather()
        job = (*blocks, batch, capacity, threads)
        if job != self._job:
            FIELDS.pack_into(memoryview(self._block), JOB_FIELDS, *job)  # type: ignore[arg-type]
            self._job = job
        self._call(self._sync)

    def _gather(self) -> None:
        self._has_members = True
        for number in range(1, self.threads):
            # the member itself holds what it runs in and waits on: it may leave after the team is gone
            held = (self._worker, self._block, self.library)
            threading.Thread(target=_serve, args=(held, number), name=f"dlc-{number}", daemon=True).start()

    def __del__(self) -> None:
        if getattr(self, "_has_members", False):
            self._block[QUIT : QUIT + 4].view(np.int32)[0] = 1
            self._announce(self._sync)


def _serve(held: tuple[Callable[[int, int, int], int], Array, object], number: int) -> None:
    worker, block, _ = held
    worker(block.ctypes.data, number, 0)
