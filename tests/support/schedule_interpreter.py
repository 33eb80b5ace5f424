"""The meaning of a schedule: its kernels interpreted in order, on the planned memory. Tests compare stages by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import mul

import numpy as np
from kernel_interpreter import run_kernel

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.op import Array
from compiler.loops.ir import CollectKernel, FetchKernel, Instruction, Kernel, Random, StagedKernel
from compiler.ops.sources import uniform
from compiler.schedule.ir import Arena, Instance, Schedule
from compiler.schedule.memory.plan_memory import ALIGNMENT
from compiler.types import BatchExtent, Shape, at_batch, numpy_dtype, size_at

UNUSED = 0xA5  # every byte of memory that nothing has written


def run_schedule(schedule: Schedule, inputs: Mapping[str, Array], batch: int) -> dict[str, Array]:
    """The results of one step by name; under the other names of inputs, the tensors as the step leaves them.

    `inputs` holds whole arrays in the shapes of the graph's inputs.
    """
    run = _Run(schedule, inputs, batch)
    run.stretch(0, len(schedule.instances), ())
    tensors = [b for b, place in zip(schedule.buffers, schedule.places, strict=True) if place.arena is Arena.TENSORS]
    left = {str(b.name): run.views[b.index].reshape(inputs[str(b.name)].shape) for b in tensors}
    return {**left, **run.results}


@dataclass(slots=True)
class _Run:
    schedule: Schedule
    inputs: Mapping[str, Array]
    batch: int
    views: dict[int, Array] = field(default_factory=dict[int, Array])
    results: dict[str, Array] = field(default_factory=dict[str, Array])

    def __post_init__(self) -> None:
        """Lay out the arenas; batch buffers stand `offset` times the rounded batch apart."""
        plan = self.schedule
        capacity = -(-self.batch // 16) * 16
        arenas = {
            Arena.STATIC: np.full(plan.static_bytes + ALIGNMENT, UNUSED, np.uint8),
            Arena.BATCH: np.full(plan.batch_bytes * capacity + ALIGNMENT, UNUSED, np.uint8),
        }
        fed = {item.buffer for item in plan.inputs if item.batch_axis is not None}
        for buffer, place in zip(plan.buffers, plan.places, strict=True):
            dtype, size = numpy_dtype(buffer.dtype), size_at(buffer.elements, self.batch)
            given = buffer.name is not None and buffer.index not in fed
            if place.arena in arenas:
                start = place.offset * (capacity if place.arena is Arena.BATCH else 1)
                view = arenas[place.arena][start : start + size * dtype.itemsize].view(dtype)
                if len(view) != size:
                    raise CompilerBug("plan_memory", f"buffer {buffer.index} does not fit its arena")
            else:
                view = np.zeros(size, dtype)
            self.views[buffer.index] = view
            if given and str(buffer.name) in self.inputs:
                view[:] = self.inputs[str(buffer.name)].reshape(-1)

    def stretch(self, first: int, last: int, places: tuple[int, ...]) -> None:
        """The instances from `first` up to `last`; `places`: where the loops around them are."""
        plan, depth = self.schedule, len(places)
        while first < last:
            loops = plan.instances[first].loops
            if len(loops) == depth:
                self.instance(plan.instances[first], places)
                first += 1
                continue
            inside = plan.instances[first:last]
            end = next((k for k, i in enumerate(inside, first) if i.loops[: depth + 1] != loops[: depth + 1]), last)
            for place in plan.loops[loops[depth]].places():
                self.stretch(first, end, (*places, place))
            first = end

    def instance(self, instance: Instance, places: tuple[int, ...]) -> None:
        steps = [self.schedule.loops[loop].stream_step for loop in instance.loops]
        kernel = with_streams(instance.kernel, sum(map(mul, places, steps)))
        views = [self.views[b] if b >= 0 else np.zeros(0, np.uint8) for b in instance.arguments]
        if places:
            views = [v[sum(map(mul, places, strides)) :] for v, strides in zip(views, instance.strides, strict=True)]
        if isinstance(kernel, FetchKernel):
            item = self.schedule.inputs[instance.data]
            assert item.batch_axis is not None
            views[0][:] = np.moveaxis(self.inputs[item.name], item.batch_axis, 0).reshape(-1)
        elif isinstance(kernel, CollectKernel):
            result = self.schedule.results[instance.data]
            self.results[result.name] = logical(views[0], result.shape, self.batch)
        else:
            run_kernel(kernel, views, self.batch, uniform)


def with_streams(kernel: Kernel, shift: int) -> Kernel:
    """The kernel with random streams so much further on."""

    def moved(instructions: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
        return tuple(
            replace(i, stream=(i.stream + shift) % 2**32) if isinstance(i, Random) else i for i in instructions
        )

    if not shift or not isinstance(kernel, StagedKernel):
        return kernel
    stages = tuple(replace(s, body=moved(s.body), after=moved(s.after)) for s in kernel.stages)
    return replace(kernel, stages=stages)


def logical(stored: Array, shape: Shape, batch: int) -> Array:
    """A copy of a stored value in the shape of its type: the batch lies outermost in memory."""
    axis = next((k for k, extent in enumerate(shape) if isinstance(extent, BatchExtent)), 0)
    whole = list(at_batch(shape, batch))
    if not whole:
        return stored.reshape(()).copy()
    moved = [whole.pop(axis), *whole]
    return np.moveaxis(stored.reshape(moved), 0, axis).copy()
