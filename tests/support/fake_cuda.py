"""A driver that stands for libcuda: it records calls, counts what it gave, and runs kernels on this processor.

Memory of the device is memory of this process. What a stream is given runs late, in pieces and in turns with other
streams, as far as waits and events allow, so that a missing wait changes results. The nodes of a graph run in a random
order that their dependences allow.
"""

from __future__ import annotations

import ctypes
import random
import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from blocks_apart import run_blocks

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
NAMES = {2: "CUDA_ERROR_OUT_OF_MEMORY", 100: "CUDA_ERROR_NO_DEVICE", 700: "CUDA_ERROR_ILLEGAL_ADDRESS"}
GIVES_BACK = {
    **{"cuMemFree_v2": "memory", "cuMemFreeHost": "pinned", "cuStreamDestroy_v2": "stream"},
    **{"cuEventDestroy_v2": "event", "cuLinkDestroy": "link", "cuModuleUnload": "module"},
    **{"cuGraphDestroy": "graph", "cuGraphExecDestroy": "instance", "cuDevicePrimaryCtxRelease_v2": "context"},
}
TELLS = ("cuGetErrorName", "cuGetErrorString")
ADVANCE, MULTIPLY_ADD = "dlc_advance", "dlc_multiply_add"
KERNEL_MS, BLOCK_MS = 0.002, 0.0001  # of a kernel, and of each of its blocks, by the clock of the device


@dataclass
class Kernel:
    """The address of a kernel as code of this processor, and how many words it takes.

    One of a `loop` is a function that runs blocks which wait for each other; its last word is their counter.
    """

    address: int
    words: int
    loop: bool = False


@dataclass
class Stream:
    waiting: deque[tuple[Callable[[], bool], Callable[[], object]]] = field(default_factory=deque)


@dataclass
class Event:
    recorded: int = 0
    reached: int = 0
    time: float = 0.0


@dataclass
class Node:
    """A call of a kernel, or an event that is reached."""

    symbol: str
    blocks: int
    words: Any
    waits: tuple[int, ...]
    event: Event | None = None
    cooperative: bool = False


class FakeCuda:
    """The functions of libcuda, as far as they are used. `kernels` are those of all modules, by symbol.

    The call number `fails_at`, counted from 1, or the one of a function that `fails_in` says, fails with `code`; with
    `lost`, so do all that follow it.
    """

    def __init__(
        self,
        kernels: Mapping[str, Kernel],
        *,
        seed: int = 0,
        total: int = 8 << 30,
        held_by_others: int = 0,
        version: int = 12_080,
        devices: int = 1,
        capability: tuple[int, int] = (9, 0),
        processors: int = 132,
        occupancy: int = 1,
        cooperative: int = 1,
    ) -> None:
        self.kernels = dict(kernels)
        self.processors, self.occupancy, self.cooperative = processors, occupancy, cooperative
        self.grids: list[int] = []  # of kernels whose blocks all run at once
        self.random = random.Random(seed)
        self.total, self.held_by_others = total, held_by_others
        self.version, self.devices, self.capability = version, devices, capability
        self.calls: list[str] = []
        self.fails_at, self.code, self.lost = 0, 700, False
        self.fails_in: tuple[str, int] = ("", 0)
        self.has_failed = False
        self.live: Counter[str] = Counter()
        self.most_memory = 0
        self.clock = 0.0  # milliseconds
        self.spent: defaultdict[str, float] = defaultdict(float)  # of them, those of each kernel
        self._things: dict[int, Any] = {}
        self._next = 0x1000
        self._memory: dict[int, np.ndarray] = {}
        self._filled: list[Node] = []  # the nodes of the graph that was given one last

    # how calls come in

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("cu"):
            raise AttributeError(name)
        return partial(self._entry, name, object.__getattribute__(self, f"_{name}"))

    def _entry(self, name: str, function: Callable[..., None], *arguments: Any) -> int:
        if name in TELLS:
            function(*arguments)
            return 0
        self.calls.append(name)
        is_due = len(self.calls) == self.fails_at or (name, self.calls.count(name)) == self.fails_in
        if (is_due and not self.has_failed) or (self.has_failed and self.lost):
            self.has_failed = True
            if name in GIVES_BACK:
                self._forget(name, arguments[0])
            return self.code
        self._advance(self.random.choice((0, 0, 0, 0, 5)))
        return function(*arguments) or 0

    @property
    def held(self) -> int:
        """Bytes of the device's memory that were given out."""
        return sum(block.size for block in self._memory.values())

    def _make(self, kind: str, thing: Any, out: Any) -> None:
        self._next += 16
        self._things[self._next] = thing
        self.live[kind] += 1
        out._obj.value = self._next

    def _thing(self, handle: Any) -> Any:
        return self._things[handle.value]

    def _forget(self, function: str, handle: Any) -> None:
        kind = GIVES_BACK[function]
        if kind in ("memory", "pinned"):
            del self._memory[handle.value]
        elif kind != "context":
            del self._things[handle.value]
        self.live[kind] -= 1
        assert self.live[kind] >= 0, f"{function} gives back more than was given"

    # streams

    def _streams(self) -> list[Stream]:
        return [thing for thing in self._things.values() if isinstance(thing, Stream) and thing.waiting]

    def _advance(self, count: int) -> bool:
        """Run up to so many operations of any streams; whether one could run."""
        has_run = False
        for _ in range(count):
            ready = [stream for stream in self._streams() if stream.waiting[0][0]()]
            if not ready:
                break
            self.random.choice(ready).waiting.popleft()[1]()
            has_run = True
        return has_run

    def _drain(self, is_done: Callable[[], bool]) -> None:
        while not is_done():
            assert self._advance(1), "a stream waits for ever"

    def _put(self, stream: Any, action: Callable[[], object], is_ready: Callable[[], bool] = lambda: True) -> None:
        self._thing(stream).waiting.append((is_ready, action))

    def _expect_memory(self, address: int, size: int) -> None:
        inside = any(begin <= address and address + size <= begin + b.size for begin, b in self._memory.items())
        assert inside, f"{size} bytes at {address:#x} are not memory of the device"

    # start

    def _cuInit(self, flags: Any) -> int:
        return 0 if self.devices else 100

    def _cuDriverGetVersion(self, out: Any) -> None:
        out._obj.value = self.version

    def _cuDeviceGetCount(self, out: Any) -> None:
        out._obj.value = self.devices

    def _cuDeviceGet(self, out: Any, number: Any) -> None:
        out._obj.value = 0

    def _cuDeviceGetName(self, out: Any, size: Any, device: Any) -> None:
        out.value = b"Fake 9000"

    def _cuDeviceGetAttribute(self, out: Any, number: Any, device: Any) -> None:
        out._obj.value = {
            **{75: self.capability[0], 76: self.capability[1], 16: self.processors, 38: 1 << 20},
            95: self.cooperative,
        }[number.value]

    def _cuDevicePrimaryCtxRetain(self, out: Any, device: Any) -> None:
        self.live["context"] += 1
        out._obj.value = 0xC0

    def _cuDevicePrimaryCtxRelease_v2(self, device: Any) -> None:
        self._forget("cuDevicePrimaryCtxRelease_v2", device)

    def _cuCtxSetCurrent(self, context: Any) -> None:
        assert context.value == 0xC0

    def _cuGetErrorName(self, code: Any, out: Any) -> None:
        out._obj.value = NAMES.get(code.value, "CUDA_ERROR_UNKNOWN").encode()

    def _cuGetErrorString(self, code: Any, out: Any) -> None:
        out._obj.value = b"words of the driver"

    # memory

    def _allocate(self, kind: str, out: Any, size: int) -> None:
        block = np.full(size + 256, 0xA5, np.uint8)  # what was there before
        start = -block.ctypes.data % 256
        block = block[start : start + size]
        self._memory[block.ctypes.data] = block
        self.live[kind] += 1
        out._obj.value = block.ctypes.data

    def _cuMemAlloc_v2(self, out: Any, size: Any) -> int:
        if self.held + self.held_by_others + size.value > self.total:
            return 2
        self._allocate("memory", out, size.value)
        self.most_memory = max(self.most_memory, self.held)
        return 0

    def _cuMemFree_v2(self, address: Any) -> None:
        self._drain(lambda: not self._streams())
        self._forget("cuMemFree_v2", address)

    def _cuMemHostAlloc(self, out: Any, size: Any, flags: Any) -> None:
        self._allocate("pinned", out, size.value)

    def _cuMemFreeHost(self, address: Any) -> None:
        self._drain(lambda: not self._streams())
        self._forget("cuMemFreeHost", address)

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> None:
        free._obj.value = self.total - self.held - self.held_by_others
        total._obj.value = self.total

    def _cuMemcpyHtoDAsync_v2(self, address: Any, source: Any, size: Any, stream: Any) -> None:
        self._expect_memory(address.value, size.value)
        self._put(stream, partial(ctypes.memmove, address.value, source.value, size.value))

    def _cuMemcpyDtoHAsync_v2(self, target: Any, address: Any, size: Any, stream: Any) -> None:
        self._expect_memory(address.value, size.value)
        self._put(stream, partial(ctypes.memmove, target.value, address.value, size.value))

    def _cuMemsetD8Async(self, address: Any, value: Any, size: Any, stream: Any) -> None:
        self._expect_memory(address.value, size.value)
        self._put(stream, partial(ctypes.memset, address.value, value.value, size.value))

    # order

    def _cuStreamCreate(self, out: Any, flags: Any) -> None:
        self._make("stream", Stream(), out)

    def _cuStreamDestroy_v2(self, stream: Any) -> None:
        self._drain(lambda: not self._thing(stream).waiting)
        self._forget("cuStreamDestroy_v2", stream)

    def _cuStreamSynchronize(self, stream: Any) -> None:
        self._drain(lambda: not self._thing(stream).waiting)

    def _cuEventCreate(self, out: Any, flags: Any) -> None:
        self._make("event", Event(), out)

    def _cuEventDestroy_v2(self, event: Any) -> None:
        self._forget("cuEventDestroy_v2", event)

    def _cuEventRecord(self, event: Any, stream: Any) -> None:
        known = self._thing(event)
        known.recorded += 1
        ticket = known.recorded

        def reach() -> None:
            known.reached, known.time = ticket, self.clock

        self._put(stream, reach)

    def _cuStreamWaitEvent(self, stream: Any, event: Any, flags: Any) -> None:
        known = self._thing(event)
        ticket = known.recorded
        self._put(stream, lambda: None, lambda: known.reached >= ticket)

    def _cuEventElapsedTime(self, out: Any, begin: Any, end: Any) -> None:
        first, last = map(self._thing, (begin, end))
        assert first.reached
        assert last.reached
        out._obj.value = last.time - first.time

    def _cuEventSynchronize(self, event: Any) -> None:
        known = self._thing(event)
        self._drain(lambda: known.reached >= known.recorded)

    # code

    def _cuLinkCreate_v2(self, count: Any, options: Any, values: Any, out: Any) -> None:
        self._make("link", [], out)

    def _cuLinkAddData_v2(self, link: Any, kind: Any, data: bytes, size: Any, *others: Any) -> None:
        assert (kind.value, len(data), data[-1:]) == (1, size.value, b"\0")
        self._thing(link).append(ctypes.create_string_buffer(b"code:" + data[:-1]))

    def _cuLinkComplete(self, link: Any, out: Any, size: Any) -> None:
        (code,) = self._thing(link)
        out._obj.value, size._obj.value = ctypes.addressof(code), len(code.value)

    def _cuLinkDestroy(self, link: Any) -> None:
        self._forget("cuLinkDestroy", link)

    def _cuModuleLoadData(self, out: Any, image: bytes) -> int:
        if not image.startswith(b"code:"):
            return 200
        text = image.removeprefix(b"code:").decode()
        self._make("module", re.findall(r"\.entry (\w+)", text) or text.split(), out)
        return 0

    def _cuModuleGetFunction(self, out: Any, module: Any, symbol: bytes) -> int:
        if symbol.decode() not in self._thing(module):
            return 500
        self._next += 16
        self._things[self._next] = symbol.decode()
        out._obj.value = self._next
        return 0

    def _cuModuleUnload(self, module: Any) -> None:
        self._forget("cuModuleUnload", module)

    # graphs

    def _cuGraphCreate(self, out: Any, flags: Any) -> None:
        self._make("graph", [], out)

    def _cuGraphAddKernelNode(self, out: Any, graph: Any, waits: Any, count: Any, given: Any) -> None:
        nodes, parameters = self._thing(graph), given._obj
        assert (parameters.grid_y, parameters.grid_z, parameters.block_x, parameters.block_y) == (1, 1, 256, 1)
        symbol = self._things[parameters.function]
        (pointer,) = (ctypes.c_void_p * 1).from_address(parameters.parameters)
        words = (ctypes.c_int64 * self._words_of(symbol)).from_buffer_copy(
            ctypes.string_at(pointer, 8 * self._words_of(symbol))
        )
        self._add(nodes, Node(symbol, parameters.grid_x, words, waits[: count.value]), out)

    def _cuOccupancyMaxActiveBlocksPerMultiprocessor(self, out: Any, function: Any, threads: Any, size: Any) -> None:
        assert self.kernels[self._thing(function)].loop
        assert (threads.value, size.value) == (256, 0)
        out._obj.value = self.occupancy

    def _cuGraphKernelNodeSetAttribute(self, node: Any, number: Any, value: Any) -> None:
        assert number.value == 2
        assert ctypes.sizeof(value._obj) == 64
        self._filled[node.value - 1].cooperative = bool(value._obj[0])

    def _cuGraphAddEventRecordNode(self, out: Any, graph: Any, waits: Any, count: Any, event: Any) -> None:
        self._add(self._thing(graph), Node("", 0, None, waits[: count.value], self._thing(event)), out)

    def _add(self, nodes: list[Node], node: Node, out: Any) -> None:
        node.waits = tuple(handle - 1 for handle in node.waits)
        assert all(0 <= number < len(nodes) for number in node.waits)
        nodes.append(node)
        self._filled = nodes
        out._obj.value = len(nodes)

    def _words_of(self, symbol: str) -> int:
        return 1 if symbol in (ADVANCE, MULTIPLY_ADD) else self.kernels[symbol].words

    def _cuGraphInstantiateWithFlags(self, out: Any, graph: Any, flags: Any) -> int:
        nodes = list(self._thing(graph))
        if any(node.cooperative and node.blocks > self.processors * self.occupancy for node in nodes):
            return 720
        self._make("instance", nodes, out)
        return 0

    def _cuGraphDestroy(self, graph: Any) -> None:
        self._forget("cuGraphDestroy", graph)

    def _cuGraphExecDestroy(self, instance: Any) -> None:
        self._drain(lambda: not self._streams())
        self._forget("cuGraphExecDestroy", instance)

    def _cuGraphLaunch(self, instance: Any, stream: Any) -> None:
        self._put(stream, partial(self._run, self._thing(instance)))

    def _run(self, nodes: list[Node]) -> None:
        """All nodes, in any order that their dependences allow."""
        waits = [len(node.waits) for node in nodes]
        behind: list[list[int]] = [[] for _ in nodes]
        for number, node in enumerate(nodes):
            for other in node.waits:
                behind[other].append(number)
        ready = [number for number, count in enumerate(waits) if not count]
        while ready:
            number = ready.pop(self.random.randrange(len(ready)))
            self._call(nodes[number])
            for later in behind[number]:
                waits[later] -= 1
                if not waits[later]:
                    ready.append(later)

    def _call(self, node: Node) -> None:
        if node.event is not None:
            node.event.reached, node.event.time = max(1, node.event.reached), self.clock
            return
        words, lasted = node.words, KERNEL_MS + node.blocks * BLOCK_MS
        self.clock += lasted
        self.spent[node.symbol] += lasted
        if node.symbol == MULTIPLY_ADD:
            return
        if node.symbol == ADVANCE:
            control = (ctypes.c_int64 * 3).from_address(words[0])
            control[1] += 1
            control[2] += 1
            return
        if self.kernels[node.symbol].loop:
            assert node.cooperative, "blocks that wait for each other may not all run"
            self.grids.append(node.blocks)
            resident = min(node.blocks, self.processors * self.occupancy)
            run_blocks(self.kernels[node.symbol].address, words, self._memory, node.blocks, resident, self.random)
            return
        given = (ctypes.c_int64 * max(1, len(words)))(*words)
        blocks = 1 if node.symbol == "dlc_copy" else node.blocks  # of a copy, blocks share what a call does whole
        KERNEL(self.kernels[node.symbol].address)(ctypes.addressof(given), 0, blocks, None)
