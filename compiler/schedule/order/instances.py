"""Kernels become instances: each with its buffers, those of a scan's body in its loop, copies of updates at the end.

Rows of the caller are fetched before the instances of each step, and its results collected behind them.
"""

from __future__ import annotations

from dataclasses import field, replace

from compiler.graph.ir import PERSISTENT, Role, Value
from compiler.loops.ir import BufferArgument, CollectKernel, CopyKernel, FetchKernel
from compiler.schedule.addresses import count, storage_strides
from compiler.schedule.fusion.ir import Group
from compiler.schedule.ir import CONTROLLED, Buffer, FedInput, Instance, Loop, Schedule, ScheduleResult
from compiler.schedule.kernels import Kernels, LoweredScan
from compiler.schedule.to_loops import LoweredGroup
from compiler.support.record import mutable_record
from compiler.types import BatchExtent, batch_axis, depends_on_batch, elements


def instances_of(kernels: Kernels) -> Schedule:
    """The schedule of the kernels of a whole graph, in their order, with nothing else decided."""
    making, scope, graph = _Instances(), _Scope(kernels), kernels.fused
    for entry in graph.inputs:
        making.buffer(scope, entry.value, entry.name, entry.role)
    made = making.made(scope)
    given = (*PERSISTENT, *CONTROLLED)
    inputs = tuple(making.fed(scope, e.name, e.value) for e in graph.inputs if e.role not in given)
    results = tuple(making.result(scope, o.name, o.value) for o in graph.outputs if o.updates is None)
    made += making.copied_back(scope)
    return Schedule(
        graph.name,
        tuple(making.buffers),
        tuple(made),
        inputs=inputs,
        results=results,
        loops=tuple(making.loops),
        carried=frozenset(making.carried),
        updates=any(output.updates is not None for output in graph.outputs),
        batch=graph.batch,
        machine=graph.machine,
    )


@mutable_record
class _Scope:
    """The values of one graph: their buffers, and how far those inside loops move from place to place."""

    source: Kernels
    loops: tuple[int, ...] = ()
    numbers: dict[int, int] = field(default_factory=dict[int, int])
    strides: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])

    def strides_of(self, value: Value) -> tuple[int, ...]:
        return self.strides.get(self.source.storage.place(value).index, (0,) * len(self.loops))


@mutable_record
class _Instances:
    """The buffers and loops so far; `carried` are the buffers of what scans carry."""

    buffers: list[Buffer] = field(default_factory=list[Buffer])
    loops: list[Loop] = field(default_factory=list[Loop])
    carried: set[int] = field(default_factory=set[int])

    def buffer(self, scope: _Scope, value: Value, name: str | None = None, role: Role | None = None) -> int:
        value = scope.source.storage.place(value)
        if value.index not in scope.numbers:
            scope.numbers[value.index] = len(self.buffers)
            self.buffers.append(Buffer(len(self.buffers), value.type.dtype, elements(value.type.shape), name, role))
        return scope.numbers[value.index]

    def fed(self, scope: _Scope, name: str, value: Value) -> FedInput:
        shape = value.type.shape
        return FedInput(name, value.type.dtype, count(elements(shape)), self.buffer(scope, value), batch_axis(shape))

    def result(self, scope: _Scope, name: str, value: Value) -> ScheduleResult:
        return ScheduleResult(name, value.type.dtype, value.type.shape, self.buffer(scope, value))

    def made(self, scope: _Scope) -> list[Instance]:
        """The instances of kernels in order, those of a scan's body in its loop."""
        found: list[Instance] = []
        for group, part in scope.source.lowered:
            found += self.scan(scope, part) if isinstance(part, LoweredScan) else [self.instance(scope, group, part)]
        return found

    def scan(self, scope: _Scope, part: LoweredScan) -> list[Instance]:
        """The instances of a scan's body. Stacks move with its loop; carries and captures stay where they are."""
        op = part.op
        inner = _Scope(part.body, (*scope.loops, len(self.loops)))
        self.loops.append(Loop(op.length, op.reverse, op.stream_step))
        body, storage = part.body.fused, part.body.storage
        emitted = zip(body.outputs[op.carries :], part.results[op.carries :], strict=True)
        pairs = [
            *zip((i.value for i in body.inputs), part.sources, strict=True),
            *((storage.place(output.value), result) for output, result in emitted),
        ]
        for number, (own, outer) in enumerate(pairs):
            is_still = op.scanned <= number < len(part.sources)
            inner.numbers[own.index] = self.buffer(scope, outer)
            step = 0 if is_still else storage_strides(own.type.shape)[0]
            inner.strides[own.index] = (*scope.strides_of(outer), step)
            if is_still and number < op.scanned + op.carries:
                self.carried.add(inner.numbers[own.index])
        return [*self.made(inner), *self.copied_back(inner)]

    def instance(self, scope: _Scope, group: Group, part: LoweredGroup) -> Instance:
        used = list(zip(part.kernel.buffers, part.arguments, strict=True))
        strides = [() if b.is_scratch else scope.strides_of(value) for b, value in used] if scope.loops else []
        return Instance(
            part.kernel,
            tuple([-1 if b.is_scratch else self.buffer(scope, value) for b, value in used]),
            tuple(dict.fromkeys([self.buffer(scope, value) for value in part.reads])),
            tuple(dict.fromkeys([self.buffer(scope, value) for value in part.writes])),
            tuple(dict.fromkeys([origin for member in group.members for origin in member.node.origins])),
            part.checked_stores,
            statements=part.statements,
            loops=scope.loops,
            strides=tuple(strides),
        )

    def copied_back(self, scope: _Scope) -> list[Instance]:
        """Copies of new contents to where the old ones lay, for those that could not be written there."""
        found: list[Instance] = []
        for copy in scope.source.fused.copies:
            value, target = copy.value, copy.target
            first, second = self.buffer(scope, value), self.buffer(scope, target)
            buffers = tuple(BufferArgument(name, value.type.dtype) for name in ("b0", "b1"))
            kernel = CopyKernel("copy_back", buffers, elements(value.type.shape))
            strides = (scope.strides_of(target), scope.strides_of(value))
            instance = Instance(kernel, (second, first), (first,), (second,), (), loops=scope.loops, strides=strides)
            found.append(instance)
        return found


def add_transfers(schedule: Schedule) -> Schedule:
    """The schedule with an instance for each input that rows are fetched of, and for each result with elements."""
    once = [instance for instance in schedule.instances if instance.once]
    given = [(k, item) for k, item in enumerate(schedule.inputs) if item.batch_axis is not None]
    fetched = [_fetch(k, item) for k, item in given if item.row_elements]
    collected = [_collect(k, item) for k, item in enumerate(schedule.results) if 0 not in item.shape]
    return replace(schedule, instances=(*once, *fetched, *schedule.instances[len(once) :], *collected))


def _fetch(position: int, item: FedInput) -> Instance:
    buffers = (BufferArgument("b0", item.dtype),)
    kernel = FetchKernel(f"fetch_{item.dtype.size}", buffers, item.row_elements)
    return Instance(kernel, (item.buffer,), (), (item.buffer,), (), data=position)


def _collect(position: int, item: ScheduleResult) -> Instance:
    rows = BatchExtent(1) if depends_on_batch(item.shape) else 1
    buffers = (BufferArgument("b0", item.dtype),)
    kernel = CollectKernel(f"collect_{item.dtype.size}", buffers, rows, count(elements(item.shape)))
    return Instance(kernel, (item.buffer,), (item.buffer,), (), (), data=position)
