"""A step as graphs of the driver: a node for each call of a kernel, with the calls that it waits for."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from compiler.errors.diagnostics import CompilerBug
from compiler.support.record import record
from compiler.targets.cpu.plan_tables import relocation_rows
from compiler.targets.cpu.runner import INPUT, LITERAL, OUTPUT
from compiler.targets.gpu.dependences import calls_of, dependences
from compiler.targets.gpu.device import BLOCK_THREADS
from compiler.targets.gpu.hardware import Gpu, Held
from compiler.targets.gpu.transfers import ADVANCE, COPY_BLOCK_BYTES
from compiler.targets.manifest import CONTROL_ARENA, Entry, LoopKernel, Manifest, Touched, ends_of_arguments
from compiler.types import size_at

_COOPERATIVE, _ATTRIBUTE_WORDS = 2, 16  # an attribute of a node, and how large the union of all attributes is
MOST_NODES = 16_384  # of a graph; a step of more calls is several graphs, one after the other
MOST_WORDS = 4096 // 8  # of a kernel: what its parameter may have
Words: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"
COUNTED = Touched(CONTROL_ARENA, 8, 24, True)  # what the end of a step changes: the step, and that of the call


@record
class Addresses:
    """What relocations count from: arenas, inputs and outputs as in the runner's tables, and the numbers of rows."""

    arenas: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    batch: int
    capacity: int


@record
class Node:
    """A call of a kernel: its symbol, the blocks of its grid, its words, what it touches, and its line of the plan.

    Where it is `cooperative`, all its blocks run at once.
    """

    symbol: str
    blocks: int
    words: tuple[int, ...]
    touched: tuple[Touched, ...] = ()
    entry: int = -1
    cooperative: bool = False


class _NodeParameters(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS, in its first version."""

    _fields_ = [
        ("function", ctypes.c_void_p),
        *((name, ctypes.c_uint) for name in ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "shared")),
        ("parameters", ctypes.c_void_p),
        ("extra", ctypes.c_void_p),
    ]


def nodes_of(
    manifest: Manifest, first: int, last: int, addresses: Addresses, fitting: Mapping[str, int] | None = None
) -> list[Node]:
    """The calls of the entries from `first` to below `last` that have something to do, with their words.

    A loop is a call of its kernel where `fitting` says how many blocks of that run at once; others are unrolled.
    """
    words, found = _resolved(manifest, addresses), list[Node]()
    for kernel in manifest.loop_kernels:
        if first <= kernel.line < last and kernel.symbol in (fitting or {}):
            found += _calls(manifest, first, kernel.line, addresses, words)
            found += _loop(manifest, kernel, addresses, words, (fitting or {})[kernel.symbol])
            first = manifest.entries[kernel.line].first_argument
    return [*found, *_calls(manifest, first, last, addresses, words)]


def _loop(manifest: Manifest, kernel: LoopKernel, addresses: Addresses, words: Words, fitting: int) -> Iterator[Node]:
    """The call of a loop's kernel, in no more blocks than have something to do at once."""
    most = min(fitting, blocks_of_loop(manifest, kernel, addresses.batch))
    if most:
        given = words[kernel.first : kernel.first + kernel.words]
        touched = dict.fromkeys(t for lines in kernel.beside for line in lines for t in manifest.touched[line])
        yield Node(kernel.symbol, most, tuple(map(int, given)), tuple(touched), kernel.line, cooperative=True)


def _calls(manifest: Manifest, first: int, last: int, addresses: Addresses, words: Words) -> list[Node]:
    """The calls with something to do, loops unrolled."""
    ends, found = ends_of_arguments(manifest), list[Node]()
    advances = np.array(manifest.advances or [()], np.int64)
    for call in calls_of(manifest, first, last):
        entry = manifest.entries[call.entry]
        symbol = manifest.functions[entry.function]
        given = words[entry.first_argument : ends[entry.first_argument]]
        blocks = blocks_of_call(entry, addresses.batch)
        if not blocks:
            continue
        if call.counters and entry.arguments:
            rows = advances[entry.first_argument : ends[entry.first_argument]]
            given = given + rows[:, : len(call.counters)] @ np.array(call.counters, np.int64)
        if symbol == "dlc_copy":
            blocks = min(-(-int(given[2]) // COPY_BLOCK_BYTES), BLOCK_THREADS) or 1
        if len(given) > MOST_WORDS:
            raise CompilerBug("step_graph", f"{symbol} has {len(given)} arguments, and a kernel takes {MOST_WORDS}")
        found.append(Node(symbol, blocks, tuple(map(int, given)), manifest.touched[call.entry], call.entry))
    return found


def blocks_of_call(entry: Entry, batch: int) -> int:
    """The blocks of a call of so many rows."""
    return -(-size_at(entry.extent, batch) // entry.chunk) * entry.factor


def blocks_of_loop(manifest: Manifest, kernel: LoopKernel, batch: int) -> int:
    """The most blocks of a loop that have something to do beside each other."""
    beside = ((manifest.entries[line] for line in lines) for lines in kernel.beside)
    return max(sum(blocks_of_call(entry, batch) for entry in entries) for entries in beside)


def counting_node(addresses: Addresses) -> Node:
    """The end of a step."""
    return Node(ADVANCE, 1, (addresses.arenas[CONTROL_ARENA],), (COUNTED,))


def _resolved(manifest: Manifest, addresses: Addresses) -> Words:
    """The word of each relocation, as the runner's `resolve` has it."""
    found = np.zeros(len(manifest.relocations), np.int64)
    for number, (kind, base, slope) in enumerate(relocation_rows(manifest)):
        match kind:
            case _ if kind >= 0:
                found[number] = addresses.arenas[kind] + base + slope * addresses.capacity
            case _ if kind == LITERAL:
                found[number] = base + slope * addresses.batch
            case _ if kind == INPUT:
                found[number] = addresses.inputs[base]
            case _:
                assert kind == OUTPUT
                found[number] = addresses.outputs[base]
    return found


class StepGraph:
    """Nodes on the device, ready to be launched any number of times. `functions` are the handles of kernels."""

    def __init__(self, gpu: Gpu, nodes: Sequence[Node], functions: Mapping[str, int]) -> None:
        self._gpu = gpu
        self._parts: list[Held] = []
        for first in range(0, len(nodes), MOST_NODES):
            self._parts.append(_of_dependences(gpu, nodes[first : first + MOST_NODES], functions))

    @property
    def is_one(self) -> bool:
        """Whether one call of the driver launches all of it."""
        return len(self._parts) <= 1

    def launch(self, stream: Held) -> None:
        """Begin to run the calls once, behind what the stream was given before."""
        for part in self._parts:
            self._gpu.driver.call("cuGraphLaunch", part.pointer, stream.pointer)

    def close(self) -> None:
        for part in self._parts:
            part.close()


class TimedGraph:
    """Nodes one after the other, with an event before each and one behind the last; one launch is waited for."""

    def __init__(self, gpu: Gpu, nodes: Sequence[Node], functions: Mapping[str, int]) -> None:
        self._gpu, self.nodes = gpu, nodes
        self._events = [gpu.event(has_time=True) for _ in range(len(nodes) + 1)]
        self._parts = [
            _chain(gpu, nodes[k : k + MOST_NODES // 2], self._events[k:], functions)
            for k in range(0, len(nodes), MOST_NODES // 2)
        ]
        self.taken: list[list[float]] = []  # of each launch since it was emptied, the seconds of each node
        self.host_seconds = 0.0  # of this process in these launches

    def launch(self, stream: Held) -> None:
        """Run the calls once, behind what the stream was given before, and take their times."""
        start = time.perf_counter()
        for part in self._parts:
            self._gpu.driver.call("cuGraphLaunch", part.pointer, stream.pointer)
        self._gpu.wait(stream)
        self.taken.append([self._gpu.seconds_between(*pair) for pair in pairwise(self._events)])
        self.host_seconds += time.perf_counter() - start

    def close(self) -> None:
        for held in (*self._parts, *self._events):
            held.close()


def _chain(gpu: Gpu, nodes: Sequence[Node], events: Sequence[Held], functions: Mapping[str, int]) -> Held:
    """A graph of nodes, each between two of the events."""

    def fill(graph: Held) -> None:
        before = [_recorded(gpu, graph, events[0], [])]
        for node, event in zip(nodes, events[1:], strict=False):
            before = [_added(gpu, graph, node, before, functions[node.symbol])]
            before = [_recorded(gpu, graph, event, before)]

    return _instance(gpu, fill)


def _of_dependences(gpu: Gpu, nodes: Sequence[Node], functions: Mapping[str, int]) -> Held:
    """A graph of nodes, each of which waits for those whose bytes it meets."""

    def fill(graph: Held) -> None:
        handles: list[int] = []
        for node, waits in zip(nodes, dependences([node.touched for node in nodes]), strict=True):
            handles.append(_added(gpu, graph, node, [handles[k] for k in waits], functions[node.symbol]))

    return _instance(gpu, fill)


def _instance(gpu: Gpu, fill: Callable[[Held], None]) -> Held:
    found = ctypes.c_void_p()
    gpu.driver.call("cuGraphCreate", ctypes.byref(found), ctypes.c_uint(0))
    graph = Held(gpu.context, found, "cuGraphDestroy")
    try:
        fill(graph)
        made = ctypes.c_void_p()
        gpu.driver.call("cuGraphInstantiateWithFlags", ctypes.byref(made), graph.pointer, ctypes.c_ulonglong(0))
    finally:
        graph.close()
    return Held(gpu.context, made, "cuGraphExecDestroy")


def _added(gpu: Gpu, graph: Held, node: Node, waits: Sequence[int], function: int) -> int:
    words = (ctypes.c_int64 * len(node.words))(*node.words)
    pointers = (ctypes.c_void_p * 1)(ctypes.addressof(words))
    grid = (node.blocks, 1, 1, BLOCK_THREADS, 1, 1, 0)
    given = _NodeParameters(function, *grid, ctypes.addressof(pointers), None)
    made = _put(gpu, "cuGraphAddKernelNode", graph, waits, ctypes.byref(given))
    if node.cooperative:
        value = (ctypes.c_int * _ATTRIBUTE_WORDS)(1)
        gpu.driver.call(
            "cuGraphKernelNodeSetAttribute", ctypes.c_void_p(made), ctypes.c_int(_COOPERATIVE), ctypes.byref(value)
        )
    return made


def _recorded(gpu: Gpu, graph: Held, event: Held, waits: Sequence[int]) -> int:
    return _put(gpu, "cuGraphAddEventRecordNode", graph, waits, event.pointer)


def _put(gpu: Gpu, function: str, graph: Held, waits: Sequence[int], given: Any) -> int:
    before = (ctypes.c_void_p * max(1, len(waits)))(*waits)
    found = ctypes.c_void_p()
    gpu.driver.call(function, ctypes.byref(found), graph.pointer, before, ctypes.c_size_t(len(waits)), given)
    return found.value or 0
