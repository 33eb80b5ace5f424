"""The schedule: kernels in order, the buffers that they read and write, and where those buffers lie."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from compiler.graph.ir import Origin, Role
from compiler.loops.ir import Kernel
from compiler.machine import GENERIC, Machine
from compiler.support.record import record
from compiler.types import DType, Extent

CONTROLLED = (Role.SETTING, Role.SEED, Role.STEP)  # inputs in the control block


class Arena(Enum):
    """A stretch of memory. In BATCH, offsets and sizes are multiples of the batch capacity."""

    CONTROL = "control"
    TENSORS = "tensors"
    STATIC = "static"
    BATCH = "batch"


@record
class Buffer:
    """Storage of one value. `name` is set for inputs and outputs; `data` is the index of a fed input."""

    index: int
    dtype: DType
    elements: Extent
    name: str | None = None
    role: Role | None = None


@record
class Loop:
    """Instances that run again for each place along a scanned axis; random streams differ by `stream_step`."""

    steps: int
    reverse: bool
    stream_step: int

    def places(self) -> range:
        """The places along the scanned axis, in the order of the steps."""
        return range(self.steps - 1, -1, -1) if self.reverse else range(self.steps)


@record
class ChainedKernels:
    """Instances `first` to `last`, of which a thread does one of `shards` after the other: no barrier stands inside.

    What no other instance uses is `passed_on`: of these buffers, a thread uses the place of its first shard for all.
    One may have been filled with a number before, once, which then stands around what the instances write.
    """

    first: int
    last: int
    shards: Extent
    passed_on: tuple[int, ...]


@record
class Instance:
    """One use of a kernel: the buffer behind each of its arguments, and where it comes from.

    `checked_stores` names the outputs whose NaN and Inf are reported; `parallel` says whether several threads pay;
    `data` is the index of the fed input (FETCH) or of the output (COLLECT). One that runs `once` depends on nothing but
    tensors that the program does not write: it runs again when those change, or the batch grows. Such instances stand
    first.
    `statements` has the origins of each statement of the kernel (`statements_of`); a kernel without statements does
    nothing but what `origins` say. `loops` numbers the loops around it, outermost first; `strides` has, for each
    argument, by how many elements it moves from place to place of each of these loops.
    """

    kernel: Kernel
    arguments: tuple[int, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    origins: tuple[Origin, ...]
    checked_stores: tuple[str, ...] = ()
    data: int = -1
    once: bool = False
    parallel: bool = False
    statements: tuple[tuple[Origin, ...], ...] = ()
    loops: tuple[int, ...] = ()
    strides: tuple[tuple[int, ...], ...] = ()

    @property
    def moves(self) -> bool:
        """Whether an argument lies elsewhere at each step of a loop."""
        return any(any(strides) for strides in self.strides)


@record
class BufferPlace:
    """Where a buffer lies: bytes from the start of the arena (times the capacity, in BATCH)."""

    arena: Arena
    offset: int


@record
class FedInput:
    """A tensor that each step takes from the caller's rows; a static one is written before the call."""

    name: str
    dtype: DType
    row_elements: int
    buffer: int
    batch_axis: int | None


@record
class ScheduleResult:
    """A named result: a scalar of each step, a static array, or rows."""

    name: str
    dtype: DType
    shape: tuple[Extent, ...]
    buffer: int


@record
class Schedule:
    """Instances in order, `barriers[i]` before instance i, for the nominal `batch` and a machine.

    Loops write the buffers of `carried` at each step; where it `updates` tensors, the program is a step of training. An
    instance that several threads do not pay for is done by one: those of a queue by the same, one after the other.
    """

    name: str
    buffers: tuple[Buffer, ...]
    instances: tuple[Instance, ...]
    barriers: tuple[bool, ...] = ()
    places: tuple[BufferPlace, ...] = ()
    inputs: tuple[FedInput, ...] = ()
    results: tuple[ScheduleResult, ...] = ()
    static_bytes: int = 0
    batch_bytes: int = 0
    loops: tuple[Loop, ...] = ()
    chains: tuple[ChainedKernels, ...] = ()
    queues: tuple[int, ...] = ()  # of each instance; () stands for 0 everywhere
    carried: frozenset[int] = frozenset()
    updates: bool = False
    batch: int = 1
    machine: Machine = GENERIC

    def queue(self, number: int) -> int:
        """The queue of an instance."""
        return self.queues[number] if self.queues else 0


def spans_of_loops(instances: Sequence[Instance]) -> list[tuple[int, int]]:
    """The first and the last instance of each loop, inner ones too; the instances of a loop stand together."""
    spans: dict[int, tuple[int, int]] = {}
    for number, instance in enumerate(instances):
        for loop in instance.loops:
            spans[loop] = (spans.get(loop, (number, number))[0], number)
    return list(spans.values())
