"""Executables of a profile, which record what the threads of a program did and when.

A stamped executable runs what the plain one runs, by a runner that stamps the begin and the end of each call of a
kernel and of each wait at a barrier (`stamps.ll`). It is an executable like the other; what it recorded is taken with
`recordings`. One in turns has a runner whose first thread takes the shares of all (`turns.ll`).
"""

from __future__ import annotations

import ctypes
import time

import numpy as np

from compiler.interface import Results, Steps
from compiler.support.arrays import Array
from compiler.targets.cpu.executable import NativeExecutable
from compiler.targets.cpu.runner import BUFFERS_SLOT, EVENT_SLOTS, EVENTS, PROGRAM_SLOTS, TICKS
from compiler.targets.cpu.team import Team
from compiler.targets.manifest import Manifest
from compiler.targets.memory import address_of, reserve
from compiler.targets.recording import EVENT, Recording, steps_of

ROOM = 1 << 18  # events of a thread in one call: 12 MiB
ROOM_IN_TURNS = 1 << 16
_ANCHORS = 32  # readings of both clocks, of which the closest counts


class StampedExecutable(NativeExecutable):
    """An executable whose team has the runner of a profile, which stamps."""

    def __init__(self, manifest: Manifest, team: Team, room: int = ROOM) -> None:
        super().__init__(manifest, team)
        self._ticks = ctypes.CFUNCTYPE(ctypes.c_int64)(team.library.address(TICKS))
        self.room, self._threads = room, team.threads  # fewer may be asked for later
        self._buffers = [reserve(EVENTS + 8 * EVENT_SLOTS * room) for _ in range(team.threads)]
        self._addresses = np.array([address_of(buffer) for buffer in self._buffers], np.int64)
        program = np.zeros(PROGRAM_SLOTS + 1, np.int64)
        program[:PROGRAM_SLOTS] = self._program
        program[BUFFERS_SLOT] = address_of(self._addresses)
        self._program = program
        self._blocks = (address_of(program), *self._blocks[1:])
        self._anchor = self._both_clocks()
        self._recorded: list[tuple[list[Array], int, int, int]] = []

    def run(self, steps: Steps) -> Results:
        """As the plain executable; what was stamped is added to the recordings."""
        for buffer in self._buffers:
            buffer[:EVENTS].view(np.int64)[:2] = (0, self.room)
        start = time.perf_counter_ns()
        results = super().run(steps)
        wall = time.perf_counter_ns() - start
        # what follows is left for later, so that the next call finds the caches as a plain one would
        is_shared = max(size for _, _, size, _ in self._phases) >= self._shared_rows
        running = self._threads if is_shared else 1  # without work for several threads, the first is alone
        counts = [int(buffer[:8].view(np.int64)[0]) for buffer in self._buffers[:running]]
        raw = [
            buffer[EVENTS : EVENTS + 8 * EVENT_SLOTS * min(count, self.room)].view(np.int64).copy()
            for buffer, count in zip(self._buffers, counts, strict=False)
        ]
        lost = sum(max(0, count - self.room) for count in counts)
        self._recorded.append((raw, wall, lost, -(-len(steps.rows) // steps.batch)))
        return results

    def recordings(self) -> list[Recording]:
        """The recordings since the last time, one for each call."""
        recorded, self._recorded = self._recorded, []
        if not recorded:
            return []
        rate = self._nanoseconds_a_tick()
        return [
            Recording(tuple(steps_of([self._in_nanoseconds(r.reshape(-1, EVENT_SLOTS), rate) for r in raw])), *others)
            for raw, *others in recorded
        ]

    def _in_nanoseconds(self, raw: Array, rate: float) -> Array:
        ticks, moment = self._anchor
        events = np.empty(len(raw), EVENT)
        for column, name in enumerate(EVENT.names or ()):
            events[name] = raw[:, column]
        for name in ("begin", "end"):
            events[name] = np.rint((events[name] - ticks) * rate).astype(np.int64) + moment
        return events

    def _nanoseconds_a_tick(self) -> float:
        """Both clocks now against both when this executable was made, at least some milliseconds ago."""
        while True:
            ticks, moment = self._both_clocks()
            if moment - self._anchor[1] >= 5_000_000:
                return (moment - self._anchor[1]) / (ticks - self._anchor[0])
            time.sleep(0.005)

    def _both_clocks(self) -> tuple[int, int]:
        """Ticks and nanoseconds of the same moment."""
        readings: list[tuple[int, int, int]] = []
        for _ in range(_ANCHORS):
            before = time.perf_counter_ns()
            ticks = self._ticks()
            after = time.perf_counter_ns()
            readings.append((after - before, ticks, (before + after) // 2))
        _, ticks, moment = min(readings)
        return ticks, moment


class OneForAll(Team):
    """A team without members: its first thread does what all would do."""

    def _gather(self) -> None:
        self._has_members = False
