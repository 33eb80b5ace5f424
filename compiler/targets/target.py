"""The interface between the compiler and a target, by which programs are compiled, loaded, run and profiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from compiler.interface import Executable, Options, Tensors
from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.targets.manifest import TensorSpec
from compiler.types import DType

if TYPE_CHECKING:  # a cached program is loaded without any stage of the compiler
    from compiler.graph.ir import Graph
    from compiler.machine import Machine
    from compiler.schedule.ir import Schedule
    from compiler.targets.lowered import Lowered
    from compiler.targets.recording import Recording

Begin = Callable[[str], None]  # is given the text of each kernel as soon as it is there


@record(eq=False)
class Compilation:
    """A graph to compile: `prepared` gives it optimised, and `scheduled` its kernels for a machine.

    `name` identifies the program with everything that went into it; under it, a target finds a program again that was
    compiled before, and asks for no graph. None where there is no such name.
    """

    name: str | None
    options: Options
    prepared: Callable[[], Graph]
    scheduled: Callable[[Graph, Machine], Schedule]


class LoadedProgram(Executable, Protocol):
    """An executable with what the compiler may ask of it: its persistent tensors, and how many threads run it."""

    @property
    def tensors(self) -> Sequence[TensorSpec]: ...
    @property
    def threads(self) -> int: ...

    def call(self, inputs: Mapping[str, Array], batch: int = 1, *, seed: int = 0) -> dict[str, Array]:
        """One step on whole arrays, by the names of inputs and outputs."""
        ...


class RecordingProgram(LoadedProgram, Protocol):
    """An executable that records the calls of kernels and the waits of each thread."""

    room: int  # events of a thread in one call

    def recordings(self) -> list[Recording]:
        """The recordings since the last time, one for each call."""
        ...


@record(eq=False)
class ProfiledProgram:
    """A program for a profile: its executable as it is and with stamps, which are read from `clock`.

    Both executables may run on the same tensors in turn.
    """

    lowered: Lowered
    plain: LoadedProgram
    stamped: RecordingProgram
    clock: str


@record(eq=False)
class SimulatedProgram:
    """A program for a simulation: by the number of threads whose shares one takes in turn, and by that of real ones.

    All executables record.
    """

    lowered: Lowered
    in_turns: Mapping[int, RecordingProgram]
    real: Mapping[int, RecordingProgram]


@record
class Peaks:
    """What `threads` threads reach: `gflops` of multiply-adds, and for working sets of each thread, in bytes, GB/s.

    `bandwidths` falls as the sets grow; the last is that of memory. `measured` is a date.
    """

    threads: int
    gflops: float
    bandwidths: tuple[tuple[int, float], ...]
    measured: str

    @property
    def memory(self) -> float:
        """GB/s of a working set beyond all caches."""
        return self.bandwidths[-1][1]

    def bandwidth(self, bytes_a_thread: float) -> float:
        """GB/s at most where each thread goes through so many bytes: as if the nearest cache held all of them."""
        return next((rate for size, rate in self.bandwidths if size >= bytes_a_thread), self.memory)


@record
class MachineInstruction:
    """`offset` counts bytes from the start of the function; `line` is 0 where LLVM names none; jumps name `labels`.

    No offset is known where instructions differ in length and no assembler is at hand.
    """

    offset: int | None
    text: str
    line: int
    labels: tuple[str, ...]


class Target(Protocol):
    """Loads programs and gives them memory. Its programs run: see `Executable`."""

    def load(self, compilation: Compilation) -> LoadedProgram:
        """The program, compiled where it was not compiled before."""
        ...

    def missing(self, names: Sequence[str], options: Options) -> list[str]:
        """The programs among these that would have to be compiled."""
        ...

    def compile_ahead(self, compilations: Sequence[Compilation], workers: int | None = None) -> None:
        """Compile programs for `load` to find, with so many processes, by default one for each processor.

        There is at least one; all have the machine and the cache of the first.
        """
        ...

    def bytes_of_step(self, name: str, options: Options) -> int | None:
        """The bytes that a program keeps during a step; None where it is not known."""
        ...

    def allocate(self, specs: Sequence[TensorSpec], beside: Tensors | None = None) -> Tensors:
        """Room for tensors, all zero, beside others, which stay shared."""
        ...


class KernelTarget(Target, Protocol):
    """A target whose programs are kernels for a machine."""

    def machine(self, options: Options, runs: bool = True) -> Machine:
        """The machine that the options name, by default that which this process runs on, with their tuning.

        Raises UsageError for an unknown name and, where the code `runs` here, for one that this processor lacks.
        """
        ...

    def lower(
        self,
        graph: Graph,
        plan: Schedule,
        machine: Machine,
        batch: int,
        begin: Begin | None = None,
        keeps_nests: bool = False,
    ) -> Lowered:
        """The execution plan of a schedule and the text of its kernels; products and nests where it `keeps_nests`."""
        ...

    def product_passes(self, machine: Machine, batch: int) -> Mapping[str, Callable[[str, str], str]]:
        """The passes over the loops of a product, in order: each leads from a text, with its name in messages, to one.

        They raise DataError where the text is no product, or such as the pass does not take.
        """
        ...

    def listing(self, text: str, symbol: str, machine: Machine) -> tuple[MachineInstruction, ...]:
        """The instructions of the kernel `symbol` with this text."""
        ...

    def profiled(self, compilation: Compilation) -> ProfiledProgram:
        """A program twice, with the same kernels at the same addresses: as it is, and with stamps."""
        ...

    def simulated(self, compilation: Compilation, threads: Sequence[int], real: Sequence[int] = ()) -> SimulatedProgram:
        """A program for a simulation of `threads`, some of which `real` ones are compared with."""
        ...

    def peaks(self, options: Options, threads: int, dtype: DType, alone: float = 0.0) -> Peaks:
        """The best that so many threads reach; `alone`: GFLOP/s of one thread, as the least to be expected of each."""
        ...

    def barrier_nanoseconds(self, machine: Machine, threads: int) -> tuple[float, bool]:
        """How long a barrier of so many threads takes when all come at once, and whether that was measured."""
        ...
