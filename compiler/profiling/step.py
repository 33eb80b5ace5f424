"""A step with stamps: the executables that a measurement runs in turn, and their recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.errors.diagnostics import UsageError
from compiler.frontend.program import Program
from compiler.interface import Executable, Options
from compiler.machine import Machine
from compiler.programs.executables import fitting, joined, profiled_programs
from compiler.programs.kinds import GraphKind, Purpose, with_products
from compiler.programs.load import complete, options_of
from compiler.support.processors import usable_cores
from compiler.support.record import record
from compiler.targets.recording import Recording
from compiler.targets.registry import KERNEL_TARGETS, expect_times, kernel_target_of
from compiler.targets.target import Peaks, ProfiledProgram
from compiler.types import DType


@record(eq=False)
class ProfiledPart:
    """One of the programs that a step is made of: a step runs it `times`, each time for `batch` rows."""

    kind: GraphKind
    program: ProfiledProgram
    batch: int
    times: int


@record(eq=False)
class ProfiledStep:
    """A step whose two executables do the same, one of them with stamps. Peaks are by the number of threads.

    `device` is the name of the device that runs it, empty for this processor.
    """

    program: Program
    options: Options
    machine: Machine
    parts: tuple[ProfiledPart, ...]
    plain: Executable
    stamped: Executable
    peaks: Mapping[int, Peaks]
    device: str = ""

    def take(self) -> list[list[Recording]]:
        """For each part, the recordings since the last time."""
        return [part.program.stamped.recordings() for part in self.parts]

    def most_events(self, taken: Sequence[Sequence[Recording]]) -> int:
        """The most events of a thread in any recorded step."""
        found = [len(e) for rs in taken for r in rs for step in r.steps for e in step.events]
        return max(found, default=1)

    @property
    def has_parts(self) -> bool:
        """Whether an update takes several programs."""
        return len(self.parts) > 1

    @property
    def room(self) -> int:
        """Events for which a thread has room in one call."""
        return min(part.program.stamped.room for part in self.parts)


def profiled_step(program: Program, kind: GraphKind, options: Options) -> ProfiledStep:
    """The step of a kind, training or prediction, compiled for a profile; the machine's peaks are measured.

    Raises UsageError for the reference target, which has no kernels, and for the emulator.
    """
    expect_measurable(options)
    program, options = complete(program), options_of(program, options)
    options = with_products(program, kind, options)
    made = profiled_programs(program, kind, options)
    parts = tuple(ProfiledPart(part, watched, *size_of(program, part, options)) for part, watched in made.items())
    target = kernel_target_of(options)
    dtype = DType.F64 if options.dtype == "f64" else DType.F32
    threads = made[next(iter(made))].plain.threads
    # more threads than cores reach no more than the cores do, and take turns, so that none could tell by its own time
    cores = usable_cores()
    peaks = {1: target.peaks(options, 1, dtype)}
    if threads > 1:
        peaks[threads] = target.peaks(options, min(threads, cores), dtype, peaks[1].gflops)
    plain = joined(program, {part.kind: part.program.plain for part in parts}, options)
    stamped = joined(program, {part.kind: part.program.stamped for part in parts}, options)
    device = target.device()
    name = "" if device is None else device.name
    return ProfiledStep(program, options, target.machine(options), parts, plain, stamped, peaks, name)


def expect_measurable(options: Options) -> None:
    """Raise UsageError but for code of a processor or of a GPU, which that runs itself."""
    expect_times(options)
    if options.target not in KERNEL_TARGETS:
        raise UsageError(f"the target {options.target} has no kernels that can be profiled", "leave out --target")


def native_only(options: Options) -> None:
    """Raise UsageError but for code of a processor, which it runs itself."""
    if options.target != Options().target:
        message = f"threads are simulated of a processor, not of the target {options.target}"
        raise UsageError(message, "leave out --target")


def size_of(program: Program, kind: GraphKind, options: Options) -> tuple[int, int]:
    """The rows of one of the programs that a step is made of, and how often a step runs it."""
    is_repeated = kind.purpose in (Purpose.COUNTING, Purpose.ACCUMULATING)
    accumulation = program.plan.accumulation if is_repeated and program.plan is not None else None
    return fitting(program, kind, options).batch, 1 if accumulation is None else max(
        accumulation.batches, accumulation.shards
    )
