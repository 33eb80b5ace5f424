"""Kernels in order become a schedule: buffers, instances, loops, transfers, barriers, and how long each value lives."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from itertools import accumulate

from compiler.graph.ir import PERSISTENT, Origin, Role, Value
from compiler.loops.ir import (
    BatchCount,
    BufferArgument,
    CollectKernel,
    CopyKernel,
    FetchKernel,
    FlatKernel,
    Kernel,
    PrefixSumKernel,
    Random,
    ScatterKernel,
    StagedKernel,
    contraction_of,
    extents_of,
    instructions_of,
)
from compiler.schedule.access import count, storage_strides
from compiler.schedule.chained_kernels import chained
from compiler.schedule.fusion.ir import Group
from compiler.schedule.ir import (
    Arena,
    Buffer,
    ChainedKernels,
    FedInput,
    Instance,
    Loop,
    Place,
    Result,
    Schedule,
    spans_of_loops,
)
from compiler.schedule.kernels import Kernels, LoweredScan
from compiler.schedule.plan_memory import Life, plan_memory
from compiler.schedule.queues import queues_of
from compiler.schedule.to_loops import Lowered
from compiler.tuning import Tuning
from compiler.types import BatchExtent, Extent, depends_on_batch, elements, size_at

CONTROLLED = (Role.SETTING, Role.SEED, Role.STEP)


def assemble(kernels: Kernels, without: Collection[str] = ()) -> Schedule:
    """The schedule of the kernels of a whole graph, `without` some of the fusions."""
    return _Assembly(kernels, without).run()


@dataclass(slots=True)
class _Scope:
    """The values of one graph: their buffers, and how far those inside loops move from place to place."""

    source: Kernels
    loops: tuple[int, ...] = ()
    numbers: dict[int, int] = field(default_factory=dict[int, int])
    strides: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])

    def strides_of(self, value: Value) -> tuple[int, ...]:
        return self.strides.get(self.source.storage.place(value).index, (0,) * len(self.loops))


@dataclass(slots=True)
class _Assembly:
    source: Kernels
    without: Collection[str]
    buffers: list[Buffer] = field(default_factory=list[Buffer])
    loops: list[Loop] = field(default_factory=list[Loop])
    carries: set[int] = field(default_factory=set[int])  # buffers
    instances: list[Instance] = field(default_factory=list[Instance])
    chains: list[ChainedKernels] = field(default_factory=list[ChainedKernels])

    def run(self) -> Schedule:
        graph = self.source.fused
        scope = _Scope(self.source)
        fed: list[FedInput] = []
        fixed: dict[int, Place] = {}
        tensors = controls = 0
        for entry in graph.inputs:
            number = self.buffer(scope, entry.value, entry.name, entry.role)
            if entry.role in PERSISTENT:
                fixed[number] = Place(Arena.TENSORS, tensors)
                tensors += 1
            elif entry.role in CONTROLLED:
                fixed[number] = Place(Arena.CONTROL, controls)
                controls += 1
            else:
                fed.append(self.fed(entry.name, entry.value, number))
        made = self.made(scope)
        once = self.once(scope, made)
        self.instances = [replace(i, once=True, loops=(), strides=()) for k, i in enumerate(made) if k in once]
        for position, item in enumerate(fed):
            if item.batch_axis is not None:
                self.fetch(position, item)
        self.instances += [i for k, i in enumerate(made) if k not in once]
        results: list[Result] = []
        for output in graph.outputs:
            if output.updates is None:
                value = self.source.storage.place(output.value)
                number = self.buffer(scope, value)
                results.append(Result(output.name, value.type.dtype, output.value.type.shape, number))
        self.instances += self.copied_back(scope)
        for position, result in enumerate(results):
            self.collect(position, result)
        tuning = graph.machine.tuning
        self.instances = [replace(i, parallel=is_parallel(i, graph.batch, tuning)) for i in self.instances]
        if "chained" not in self.without:
            self.instances, self.chains = chained(self.instances, self.buffers, graph.batch, tuning)
        barriers = self.barriers()
        lives = self.lives(barriers, fed)
        places, static, batch = plan_memory(self.buffers, lives, fixed)
        ordered = tuple(places.get(b.index, Place(Arena.STATIC, 0)) for b in self.buffers)
        return Schedule(
            graph.name,
            tuple(self.buffers),
            tuple(self.instances),
            barriers,
            ordered,
            tuple(fed),
            tuple(results),
            static,
            batch,
            tuple(self.loops),
            tuple(self.chains),
            self.queues(barriers),
        )

    def buffer(self, scope: _Scope, value: Value, name: str | None = None, role: Role | None = None) -> int:
        value = scope.source.storage.place(value)
        if value.index not in scope.numbers:
            scope.numbers[value.index] = len(self.buffers)
            self.buffers.append(Buffer(len(self.buffers), value.type.dtype, elements(value.type.shape), name, role))
        return scope.numbers[value.index]

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
                self.carries.add(inner.numbers[own.index])
        return [*self.made(inner), *self.copied_back(inner)]

    def fed(self, name: str, value: Value, number: int) -> FedInput:
        shape = value.type.shape
        axis = next((k for k, e in enumerate(shape) if isinstance(e, BatchExtent)), None)
        return FedInput(name, value.type.dtype, count(elements(shape)), number, axis)

    def fetch(self, position: int, item: FedInput) -> None:
        buffers = (BufferArgument("b0", item.dtype),)
        kernel = FetchKernel(f"fetch_{item.dtype.size}", buffers, item.row_elements)
        self.instances.append(Instance(kernel, (item.buffer,), (), (item.buffer,), (), data=position))

    def collect(self, position: int, result: Result) -> None:
        rows = BatchExtent(1) if depends_on_batch(result.shape) else 1
        buffers = (BufferArgument("b0", result.dtype),)
        kernel = CollectKernel(f"collect_{result.dtype.size}", buffers, rows, count(elements(result.shape)))
        self.instances.append(Instance(kernel, (result.buffer,), (result.buffer,), (), (), data=position))

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

    def instance(self, scope: _Scope, group: Group, part: Lowered) -> Instance:
        origins: dict[Origin, None] = {}
        for member in group.members:
            origins.update(dict.fromkeys(member.node.origins))
        arguments = tuple(
            -1 if b.is_scratch else self.buffer(scope, v)
            for b, v in zip(part.kernel.buffers, part.arguments, strict=True)
        )
        strides = tuple(
            () if b.is_scratch else scope.strides_of(v)
            for b, v in zip(part.kernel.buffers, part.arguments, strict=True)
        )
        return Instance(
            part.kernel,
            arguments,
            tuple(dict.fromkeys(self.buffer(scope, v) for v in part.reads)),
            tuple(dict.fromkeys(self.buffer(scope, v) for v in part.writes)),
            tuple(origins),
            part.watched,
            statements=part.statements,
            loops=scope.loops,
            strides=strides if scope.loops else (),
        )

    def once(self, scope: _Scope, made: list[Instance]) -> set[int]:
        """The places in `made` of what depends on nothing but tensors that stay as they are while the program runs."""
        given = {b.index for b in self.buffers if b.role is not None}
        copied = {self.buffer(scope, copy.target) for copy in self.source.fused.copies}
        kept = {b.index for b in self.buffers if b.role in PERSISTENT} - copied - {b for i in made for b in i.writes}
        chosen = {k for k, i in enumerate(made) if not (i.watched or i.moves or depends_on_call(i.kernel))}
        while True:
            others = {b for k, i in enumerate(made) if k not in chosen for b in i.writes}
            lasting = kept | {b for k in chosen for b in made[k].writes} - others - given - self.carries
            fitting = {k for k in chosen if {*made[k].reads, *made[k].writes} <= lasting}
            if fitting == chosen:
                return chosen | self.fills(made)
            chosen = fitting

    def fills(self, made: list[Instance]) -> set[int]:
        """The places in `made` of what fills a buffer with numbers, such as a halo, that others write only parts of.

        The parts are the same in each step, so what stands around them stays. It costs the buffer a place of its own,
        which training, with many of them, would rather use again.
        """
        if any(output.updates is not None for output in self.source.fused.outputs):
            return set()
        kept = {b for i in made for b in {*i.reads} & {*i.writes}} | self.carries
        return {
            k
            for k, i in enumerate(made)
            if not (i.reads or i.watched or i.moves or draws(i.kernel) or kept & {*i.writes})
        }

    def barriers(self) -> tuple[bool, ...]:
        """A barrier stands where an instance meets what another thread may have written, or may still be reading.

        None is needed behind the instances that run once: the runner sets one there. A loop whose work is shared has
        one at the start of each step; a chain has none inside.
        """
        ends = {chain.first: chain.last for chain in self.chains}
        inside = {k for chain in self.chains for k in range(chain.first + 1, chain.last + 1)}
        starts = {
            first
            for first, last in spans_of_loops(self.instances)
            if any(i.parallel for i in self.instances[first : last + 1])
        }
        found: list[bool] = []
        written: dict[int, bool] = {}
        read: dict[int, bool] = {}
        first = sum(i.once for i in self.instances)
        for number, instance in enumerate(self.instances):
            if number == first:
                written, read = {}, {}
            wide = instance.parallel
            together = self.instances[number : ends.get(number, number) + 1]
            reads, writes = [b for i in together for b in i.reads], [b for i in together for b in i.writes]
            clash = any(b in written and (wide or written[b]) for b in (*reads, *writes))
            clash = clash or any(b in read and (wide or read[b]) for b in writes) or number in starts
            clash = clash and number not in inside
            if clash:
                written, read = {}, {}
            found.append(clash)
            for b in instance.writes:
                written[b] = written.get(b, False) or wide
            for b in instance.reads:
                read[b] = read.get(b, False) or wide
        return tuple(found)

    def queues(self, barriers: tuple[bool, ...]) -> tuple[int, ...]:
        """Those of instances for one thread. What a loop repeats stays with the first thread, and what runs once."""
        batch = self.source.fused.batch
        work = [None if i.parallel else work_of_items(i, batch) for i in self.instances]
        for chain in self.chains:
            work[chain.first : chain.last + 1] = [None] * (chain.last + 1 - chain.first)
        pinned = {number for number, instance in enumerate(self.instances) if instance.once or instance.loops}
        return queues_of(self.instances, barriers, work, pinned)

    def lives(self, barriers: tuple[bool, ...], fed: list[FedInput]) -> dict[int, Life]:
        lives: dict[int, Life] = {}
        epoch = 0
        for instance, barrier in zip(self.instances, barriers, strict=True):
            epoch += barrier
            for b in (*instance.reads, *instance.writes):
                lives[b] = Life(lives[b].first if b in lives else epoch, epoch)
        self.extend_over_loops(lives, barriers)
        for item in fed:
            if item.batch_axis is None:
                lives[item.buffer] = Life(0, epoch)  # written by the caller before the first step
        for b in (b for i in self.instances if i.once for b in i.writes):
            lives[b] = Life(0, epoch)
        return lives

    def extend_over_loops(self, lives: dict[int, Life], barriers: tuple[bool, ...]) -> None:
        """What is used in a loop and outside, or carried by it, is needed at each of its steps."""
        epochs = list(accumulate(barriers))
        for first, last in spans_of_loops(self.instances):
            inside = {b for i in self.instances[first : last + 1] for b in (*i.reads, *i.writes)}
            outside = {b for k, i in enumerate(self.instances) if not first <= k <= last for b in (*i.reads, *i.writes)}
            for b in inside & (outside | self.carries):
                life = lives[b]
                lives[b] = Life(min(life.first, epochs[first]), max(life.last, epochs[last]))


def depends_on_call(kernel: Kernel) -> bool:
    """Whether what a kernel writes depends on the batch, or on a draw."""
    return draws(kernel) or depends_on_batch(extents_of(kernel))


def draws(kernel: Kernel) -> bool:
    """Whether a kernel draws, or computes with the size of the batch."""
    return any(isinstance(i, Random | BatchCount) for i in instructions_of(kernel))


def is_parallel(instance: Instance, batch: int, tuning: Tuning) -> bool:
    """Whether the work of an instance pays for two threads at the nominal batch."""
    return work_of_items(instance, batch) > tuning.serial_work


def work_of_items(instance: Instance, batch: int) -> int:
    """Some measure of the work of an instance at the nominal batch, in operations on elements."""
    kernel = instance.kernel
    work = size_at(elements(_counted(kernel)), batch)
    if not isinstance(kernel, StagedKernel):
        return work
    contraction = contraction_of(kernel)
    depth = 0 if contraction is None else size_at(elements(tuple(axis.extent for axis in contraction.k)), batch)
    far = 0 if contraction is None else contraction.n * depth  # weights for few rows come from far
    return work * (1 + sum(len(stage.body) for stage in kernel.stages)) + work * depth // 4 + far


def _counted(kernel: Kernel) -> tuple[Extent, ...]:
    """The extents that make up the work of a kernel: of one outer block, unless it reduces rows.

    Of a flat kernel over the batch, each element counts as a row.
    """
    match kernel:
        case FlatKernel(elements=int(count), columns=columns):
            return -(-count // columns), columns
        case FlatKernel():
            return kernel.elements, kernel.columns
        case ScatterKernel() | PrefixSumKernel():
            return kernel.rows, kernel.columns
        case _:
            return extents_of(kernel)
