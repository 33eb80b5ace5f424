"""The run of a program on a device, for a reader: the calls of its kernels, and the memory that a step takes."""

from __future__ import annotations

import re
from math import prod

from compiler.graph.ir import PERSISTENT
from compiler.targets.cpu.plan_tables import control_layout
from compiler.targets.gpu.dependences import calls_of
from compiler.targets.gpu.device import BLOCK_THREADS
from compiler.targets.gpu.results import Outlet
from compiler.targets.gpu.room import bytes_of_values, shared_place
from compiler.targets.gpu.step_graph import blocks_of_call, blocks_of_loop
from compiler.targets.lowered import Lowered
from compiler.targets.manifest import Manifest, capacity_for
from compiler.targets.memory import SLACK
from compiler.targets.target import DevicePlan, KernelCalls

_ROW_NUMBER = 8  # bytes
_SHARED = re.compile(r"@\w+_shared = internal addrspace\(3\) global \[(\d+) x i8\]")


def device_plan(lowered: Lowered, batch: int) -> DevicePlan:
    """The calls in a step of so many rows, and what it takes where its data lies on the device."""
    manifest, launches, blocks = lowered.manifest, dict[str, int](), dict[str, int]()
    in_kernels = {line for kernel in manifest.loop_kernels for lines in kernel.beside for line in lines}
    for call in calls_of(manifest, 0, len(manifest.entries)):
        if call.entry in in_kernels:
            continue
        entry = manifest.entries[call.entry]
        symbol, count = manifest.functions[entry.function], blocks_of_call(entry, batch)
        if count:
            launches[symbol] = launches.get(symbol, 0) + (call.entry >= manifest.once)
            blocks[symbol] = max(count, blocks.get(symbol, 0))
    for kernel in manifest.loop_kernels:
        launches[kernel.symbol] = launches.get(kernel.symbol, 0) + 1
        blocks[kernel.symbol] = blocks_of_loop(manifest, kernel, batch)
    kernels = {
        symbol: KernelCalls(
            launches[symbol], blocks[symbol], BLOCK_THREADS, _shared_bytes(lowered.texts.get(symbol, ""))
        )
        for symbol in launches
    }
    return DevicePlan(kernels, memory_of(manifest, batch))


def _shared_bytes(text: str) -> int:
    found = _SHARED.search(text)
    return int(found[1]) if found else 0


def memory_of(manifest: Manifest, batch: int) -> dict[str, int]:
    """Bytes by purpose, as `Room` and `Launches` ask for them: tensors by their roles first."""
    found = {role.value: 0 for role in PERSISTENT}
    for spec in manifest.tensors:
        found[spec.role.value] += prod(spec.shape) * spec.dtype.size + SLACK
    rows = [slot.row_bytes * batch for slot in manifest.inputs if slot.batch_axis is not None and slot.row_bytes]
    results = sum(Outlet(slot).room_for(1, batch) for slot in manifest.results)
    capacity = capacity_for(manifest.batch_bytes, batch)
    return found | {
        "static": shared_place(manifest) + manifest.shared_bytes + SLACK,
        "batch": bytes_of_values(manifest, capacity) + SLACK,
        "control": control_layout(manifest).size + SLACK,
        "data": sum(size + SLACK for size in (*rows, _ROW_NUMBER * batch)),
        "results": results + SLACK if results else 0,
    }
