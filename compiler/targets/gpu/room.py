"""The memory of a program on the device, which grows with the rows of its calls, and the graphs that use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.targets.cpu.plan_tables import control_layout
from compiler.targets.gpu.cooperative import GraphWithLoops, Loops, NodesOfStep
from compiler.targets.gpu.device_memory import DeviceMemory
from compiler.targets.gpu.feed import Ring
from compiler.targets.gpu.hardware import DeviceBlock
from compiler.targets.gpu.step_graph import Addresses, Node, StepGraph, TimedGraph, counting_node, nodes_of
from compiler.targets.manifest import Manifest, capacity_for, expect_rows
from compiler.tuning import MOST_TILE_ROWS

_KEPT_GRAPHS = 8
_SHARED_ALIGNMENT = 256


class Room:
    """`control` and `static` are as for the runner of a processor; shared panels stand behind the static ones."""

    def __init__(self, manifest: Manifest, memory: DeviceMemory, functions: Mapping[str, int]) -> None:
        self._manifest, self._memory, self._functions = manifest, memory, functions
        self.layout = control_layout(manifest)
        self._values = {"values that rows share": manifest.static_bytes + manifest.shared_bytes}
        self.control = self._block(self.layout.size)
        self.shared_offset = shared_place(manifest)
        self.static = self._block(self.shared_offset + manifest.shared_bytes)
        self.capacity = self.filled = 0  # rows that there is room for, and that what runs once has filled
        self.ring: Ring | None = None
        self._growing: dict[str, DeviceBlock] = {}
        self._graphs: dict[Addresses, tuple[StepGraph, GraphWithLoops | TimedGraph]] = {}
        self._loops = Loops(memory.gpu, manifest, functions)

    def close(self) -> None:
        for graphs in self._graphs.values():
            for graph in graphs:
                graph.close()
        if self.ring is not None:
            self.ring.close()
        for block in (self.control, self.static, *self._growing.values()):
            block.close()

    def grow(self, most: int) -> DeviceBlock:
        """Room for steps of so many rows; where their values lie."""
        manifest = self._manifest
        expect_rows(manifest, most)
        self.capacity = max(self.capacity, capacity_for(manifest.batch_bytes, most))
        size = bytes_of_values(manifest, self.capacity)
        what = "a step of one row" if most == 1 else f"a step of {most} rows"
        fix = "use a smaller model" if most == 1 else "use a smaller batch"
        needed = {"values of the rows": size, **self._values}
        workspace = self._memory.reserve_workspace(size, what, needed, fix)
        if self._memory.user is not self:
            self._memory.user, self.filled = self, 0
        return workspace

    def growing(self, name: str, size: int) -> int:
        """The address of so many bytes for a purpose, whose content is lost when they become more; 0 for none."""
        block = self._growing.get(name)
        if size and (block is None or block.size < size):
            if block is not None:
                block.close()
                del self._growing[name]
            block = self._growing[name] = self._block(size, name)
        return 0 if block is None else block.value

    def reserve_ring(self, rows: int) -> Ring:
        """A ring for pieces of so many rows, or of more."""
        if self.ring is None or self.ring.most < rows:
            if self.ring is not None:
                self.ring.close()
                self.ring = None
            slots = self._manifest.inputs
            block = self._block(Ring.bytes_for(slots, rows), "rows that are copied ahead")
            self.ring = Ring(self._memory, slots, rows, block)
        return self.ring

    def graphs(self, addresses: Addresses) -> tuple[StepGraph, GraphWithLoops | TimedGraph]:
        """The graph of what runs once, and that of a step."""
        found = self._graphs.pop(addresses, None)
        if found is None:
            while len(self._graphs) >= _KEPT_GRAPHS:
                for graph in self._graphs.pop(next(iter(self._graphs))):
                    graph.close()
            found = self._made(addresses)
        self._graphs[addresses] = found
        return found

    def _made(self, addresses: Addresses) -> tuple[StepGraph, GraphWithLoops | TimedGraph]:
        manifest = self._manifest
        once = nodes_of(manifest, 0, manifest.once, addresses)

        def step(fitting: Mapping[str, int]) -> Sequence[Node]:
            nodes = nodes_of(manifest, manifest.once, len(manifest.entries), addresses, fitting)
            return [*nodes, counting_node(addresses)]

        return StepGraph(self._memory.gpu, once, self._functions), self._graph_of_step(step)

    def _graph_of_step(self, nodes: NodesOfStep) -> GraphWithLoops | TimedGraph:
        return GraphWithLoops(self._memory.gpu, nodes, self._functions, self._loops)

    def _block(self, size: int, what: str = "") -> DeviceBlock:
        needed = {what: size} if what else self._values
        return self._memory.block(size, f"the program {self._manifest.name}", needed, "use a smaller model or batch")


def shared_place(manifest: Manifest) -> int:
    """Where shared panels begin behind the static values."""
    return -(-manifest.static_bytes // _SHARED_ALIGNMENT) * _SHARED_ALIGNMENT


def bytes_of_values(manifest: Manifest, capacity: int) -> int:
    """The bytes of all values of so many rows."""
    return manifest.batch_bytes * capacity + MOST_TILE_ROWS * manifest.row_bytes


def arenas_of(manifest: Manifest, room: Room, values: DeviceBlock, tensors: Sequence[int]) -> tuple[int, ...]:
    """The addresses of all arenas: of inputs and results, those of their own places."""
    static, batch = room.static.value, values.value
    bound = [(slot.batch_axis is not None, slot.offset) for slot in manifest.inputs]
    bound += [(any(not isinstance(e, int) for e in slot.shape), slot.offset or 0) for slot in manifest.results]
    places = (batch + offset * room.capacity if in_batch else static + offset for in_batch, offset in bound)
    return (room.control.value, static, batch, 0, static + room.shared_offset, *tensors, *places)
