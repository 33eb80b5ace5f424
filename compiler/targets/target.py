"""The interface between the compiler and a target, by which programs are compiled, loaded, run and profiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from compiler.interface import Executable, Options, Tensors
from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.targets.manifest import InputSlot, ResultSlot, TensorSpec
from compiler.types import DType

if TYPE_CHECKING:  # a cached program is loaded without any stage of the compiler
    from compiler.graph.ir import Graph
    from compiler.machine import Machine
    from compiler.schedule.ir import Schedule
    from compiler.targets.lowered import Lowered
    from compiler.targets.recording import Recording

Pieces: TypeAlias = "tuple[bytes | memoryview, ...]"  # of a file, one behind the other
Limits: TypeAlias = "Mapping[str, tuple[tuple[str, float], ...]]"  # `(">=", 0)` by the names of settings
Begin = Callable[[str], None]  # is given the text of each kernel as soon as it is there


@record(eq=False)
class Compilation:
    """A graph to compile: `prepared` gives it optimised, and `scheduled` its kernels for a machine.

    `name` identifies the program with everything that went into it; under it, a target finds a program again that was
    compiled before, and asks for no graph. None where there is no such name. `for_rows` compiles the graph for batches
    of so many rows, which only pairs of rows need.
    """

    name: str | None
    options: Options
    prepared: Callable[[], Graph]
    scheduled: Callable[[Graph, Machine], Schedule]
    for_rows: Callable[[int], Compilation]


class LoadedProgram(Executable, Protocol):
    """An executable with what the compiler may ask of it: its persistent tensors, and how many threads run it."""

    @property
    def tensors(self) -> Sequence[TensorSpec]: ...
    @property
    def threads(self) -> int: ...

    def call(self, inputs: Mapping[str, Array], batch: int = 1, *, seed: int = 0) -> dict[str, Array]:
        """One step on whole arrays, by the names of inputs and outputs."""
        ...


@runtime_checkable
class WatchedProgram(LoadedProgram, Protocol):
    """An executable that says while it runs how far a step is. `lines` has, for each of its tensors, the line of the
    execution plan with which it is done."""

    @property
    def lines(self) -> Mapping[str, int]: ...

    def watch(self) -> Callable[[], int]:
        """Before a call of one step: what gives, to another thread, a line before which all is done."""
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
class DeviceState:
    """A device with memory of its own: its name, and the bytes of its memory that this process holds there."""

    name: str
    held_bytes: int


@record
class KernelCalls:
    """How a device runs a kernel: its calls in a step, the most blocks of one, threads and shared memory of a block."""

    launches: int
    blocks: int
    threads: int
    shared_bytes: int


@record(eq=False)
class DevicePlan:
    """How a device runs a program: its kernels by symbol, and the bytes that a step takes of its memory, by purpose."""

    kernels: Mapping[str, KernelCalls]
    memory: Mapping[str, int]


@record
class Peaks:
    """The speed of `threads` threads: `gflops` of multiply-adds, and for working sets of each thread, in bytes, GB/s.

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


@record
class LibraryMember:
    """An object of a library in pieces, and the symbols that it defines for others."""

    name: str
    content: Pieces
    symbols: tuple[str, ...]

    @property
    def size(self) -> int:
        return sum(len(piece) for piece in self.content)


@record
class ValuesOfRows:
    """Bytes that the values of a function take for each row, and behind all of them.

    Rows are rounded up to a multiple of `rounding`.
    """

    of_row: int
    overshoot: int
    rounding: int

    def size(self, rows: int) -> int:
        """Bytes for so many rows."""
        return self.of_row * (-(-rows // self.rounding) * self.rounding) + self.overshoot


@record
class LibraryMemory:
    """The bytes that a library needs of its caller for so many rows in a call, and for each worker behind the first.

    Rows are rounded up to a multiple of `rounding` for scratch, and so many more.
    All functions use the same room. Behind it stand eight bytes for each row. A further worker has `fixed_of_worker`
    and scratch.
    """

    fixed: int
    fixed_of_worker: int
    scratch_of_row: int
    values: tuple[ValuesOfRows, ...]
    rounding: int

    def size(self, rows: int) -> int:
        """Bytes for so many rows in a call."""
        most = max(values.size(rows) for values in self.values)
        return self.fixed + self._scratch(rows) + -(-most // 64) * 64 + -(-rows // 8) * 64

    def _scratch(self, rows: int) -> int:
        rounded = -(-rows // self.rounding) * self.rounding + self.rounding
        return -(-self.scratch_of_row * rounded // 64) * 64


@record(eq=False)
class LibraryFunction:
    """A program of a library; its run-time settings are constants but for `given` ones, which keep to `limits`.

    It is the function PREFIX_NAME, but for those that are parts of another one: see `LibraryForm`. Results with a colon
    in their names are the compiler's own, and are not given to the caller; nor are others of a part that `tells` none.
    """

    name: str
    compilation: Compilation
    settings: Mapping[str, float]
    given: tuple[str, ...] = ()
    limits: Limits = field(default_factory=dict[str, "tuple[tuple[str, float], ...]"])
    trains: bool = False
    tells: bool = True


@record
class LibraryForm:
    """All names of a library begin with `prefix`; `seed` is that of random numbers.

    With `batches` for each update, programs `counting` (where the loss is divided by counts), `accumulating` and
    `updating` make `step`; `batch` is the most rows of each. With a `window` of positions, programs `window`, `prompt`
    and `position` make `generate_next`; positions are taken one by one where a window has `positions` times as many.
    """

    prefix: str
    seed: int = 0
    batch: int = 0
    batches: int = 0
    window: int = 0
    positions: int = 0


@record(eq=False)
class LibraryTensors:
    """The persistent tensors of a library, in their order in a file, and the bytes in front of them there."""

    values: Mapping[str, Array]
    file_header: bytes

    @property
    def file_bytes(self) -> int:
        return len(self.file_header) + sum(array.nbytes for array in self.values.values())


@record
class LibrarySignature:
    """The arguments of a function of a library: settings with their usual values and their limits, inputs, outputs.

    It takes up to `most_rows` rows where it makes pairs of them; 0 stands for any.
    """

    name: str
    inputs: tuple[InputSlot, ...]
    outputs: tuple[ResultSlot, ...]
    settings: tuple[tuple[str, DType, float], ...]
    limits: Limits
    most_rows: int = 0


@record
class ExportedLibrary:
    """Programs as objects for a linker.

    They define PREFIX_memory, PREFIX_worker_memory, PREFIX_init_abi, PREFIX_error_text, PREFIX_tensor and PREFIX_NAME
    for each function; where these change the tensors, PREFIX_save, PREFIX_load and PREFIX_continue; PREFIX_set_parallel
    but for the web.
    `abi` is a number that other programs, or the same laid out otherwise, do not have; `errors` are names and texts of
    the codes that the functions give, from 0. `places` say where each tensor lies in the constant weights. These are
    one of the members; for the web, the caller fills them in, and `reserved` has their symbol and their bytes.
    """

    prefix: str
    members: tuple[LibraryMember, ...]
    machine: Machine
    abi: int
    memory: LibraryMemory
    functions: tuple[LibrarySignature, ...]
    changes: bool  # whether some function changes the tensors
    errors: tuple[tuple[str, str], ...]
    places: Mapping[str, int]
    reserved: Mapping[str, int]


class Target(Protocol):
    """Loads programs and gives them memory. Its programs run: see `Executable`."""

    def load(self, compilation: Compilation) -> LoadedProgram:
        """The program, compiled where it was not compiled before."""
        ...

    def missing(self, names: Sequence[str], options: Options, elsewhere: bool = False) -> list[str]:
        """The programs among these that would have to be compiled; `elsewhere`, for the machine of a library."""
        ...

    def compile_ahead(
        self, compilations: Sequence[Compilation], workers: int | None = None, elsewhere: bool = False
    ) -> None:
        """Compile programs for `load` to find, or `elsewhere` for `library`, by default by a process a processor.

        There is at least one; all have the machine and the cache of the first.
        """
        ...

    def bytes_of_step(self, name: str, options: Options) -> int | None:
        """The bytes that a program keeps during a step; None where it is not known."""
        ...

    def allocate(self, specs: Sequence[TensorSpec], beside: Tensors | None = None) -> Tensors:
        """Room for tensors, all zero, beside others, which stay shared."""
        ...

    def expect_products(self, options: Options, runs: bool = True) -> None:
        """Raises UsageError where the target lacks products of the precision that the options ask for.

        Where the code `runs`, the system has to permit them too.
        """
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
        """The execution plan of a schedule and the text of its kernels; tiles and nests where it `keeps_nests`."""
        ...

    def kernel_passes(self, machine: Machine, batch: int) -> Mapping[str, Callable[[str, str], str]]:
        """The passes over single kernels, in order: each leads from a text, with its name in messages, to one.

        They raise DataError where the text is no product or kernel over rows, or such as the pass does not take.
        """
        ...

    def library(
        self, functions: Sequence[LibraryFunction], tensors: LibraryTensors, form: LibraryForm
    ) -> ExportedLibrary:
        """Programs on the same tensors, whose values are constants of the code. Those of other names begin as zeros."""
        ...

    def device(self) -> DeviceState | None:
        """The device that programs run on; None where this processor runs them."""
        ...

    def device_plan(self, lowered: Lowered, batch: int) -> DevicePlan | None:
        """How a device runs a program for so many rows; None where a processor does."""
        ...

    def listing(self, text: str, symbol: str, machine: Machine) -> tuple[MachineInstruction, ...]:
        """The instructions of the kernel `symbol` with this text."""
        ...

    def ptx(self, text: str, machine: Machine) -> str:
        """The PTX module of the kernel with this text. Raises UsageError where the target has none."""
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
