"""The executable of a profile: the kernels of a step run one after the other, between events of the device's clock."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from compiler.interface import Results, Steps
from compiler.support.arrays import Array
from compiler.targets.gpu.cooperative import GraphWithLoops, NodesOfStep
from compiler.targets.gpu.device_memory import DeviceMemory
from compiler.targets.gpu.executable import GpuExecutable
from compiler.targets.gpu.hardware import Held
from compiler.targets.gpu.room import Room
from compiler.targets.gpu.step_graph import Node, TimedGraph
from compiler.targets.manifest import Manifest
from compiler.targets.recording import EVENT, HEAD, TAIL, WAITS, Recording, Step


class TimedRoom(Room):
    """A room whose steps are timed. `timed` are their graphs."""

    def __init__(self, manifest: Manifest, memory: DeviceMemory, functions: Mapping[str, int]) -> None:
        super().__init__(manifest, memory, functions)
        self.timed: list[TimedGraph] = []

    def _graph_of_step(self, nodes: NodesOfStep) -> GraphWithLoops | TimedGraph:
        """With loops unrolled, as a kernel of many steps has no times of its parts."""
        self.timed.append(TimedGraph(self._memory.gpu, nodes({}), self._functions))
        return self.timed[-1]


class StampedExecutable(GpuExecutable):
    """What it recorded is taken with `recordings`, as that of a processor: its one thread is the device."""

    room_of = TimedRoom

    def __init__(
        self, manifest: Manifest, memory: DeviceMemory, modules: Sequence[Held], functions: Mapping[str, int]
    ) -> None:
        super().__init__(manifest, memory, modules, functions)
        self.room = 1 << 18  # events of a call
        self._recorded: list[Recording] = []

    def run(self, steps: Steps) -> Results:
        """As the plain executable; what was timed is added to the recordings."""
        start = time.perf_counter_ns()
        results = super().run(steps)
        wall = time.perf_counter_ns() - start
        assert isinstance(self._room, TimedRoom)
        found: list[Step] = []
        for graph in self._room.timed:
            found += [_step_of(graph.nodes, seconds) for seconds in graph.taken]
            wall -= round(graph.host_seconds * 1e9)
            graph.taken, graph.host_seconds = [], 0.0
        wall += round(sum(step.nanoseconds for step in found))  # in place of the time in which events were read
        self._recorded.append(Recording(tuple(found), wall, 0, len(found)))
        return results

    def recordings(self) -> list[Recording]:
        """The recordings since the last time, one for each call."""
        recorded, self._recorded = self._recorded, []
        return recorded


def _step_of(nodes: Sequence[Node], seconds: Sequence[float]) -> Step:
    """A step that begins at 0. The node that counts steps is no line of the plan, and no event."""
    ends = np.rint(np.cumsum(seconds) * 1e9).astype(np.int64)
    begins = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    rows = [(n.entry, begins[k], ends[k], 0, n.blocks, 0) for k, n in enumerate(nodes) if n.entry >= 0]
    waits = [(mark, ends[-1], ends[-1], 0, WAITS, 0) for mark in (TAIL, HEAD)]
    events: Array = np.array([*rows, *waits], EVENT)
    return Step((events,), np.array([(0, ends[-1])], np.int64))
