"""The CPU as a target: kernels through LLVM, run by a team of threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from compiler.errors.diagnostics import UsageError
from compiler.interface import Options, Tensors
from compiler.machine import Machine
from compiler.support.cache import ObjectCache
from compiler.support.processors import usable_cores, usable_processors
from compiler.targets import target
from compiler.targets.cpu.bf16_products import why_no_bf16
from compiler.targets.cpu.executable import NativeExecutable
from compiler.targets.cpu.growing import GrowingExecutable
from compiler.targets.cpu.runner import SYMBOLS, TICKS, Clock, clock_of, runner_text
from compiler.targets.cpu.team import Team
from compiler.targets.llvm.host import machine_elsewhere, machine_of
from compiler.targets.llvm.jit import Library
from compiler.targets.llvm.object_code import FrontDoor
from compiler.targets.manifest import TensorSpec, capacity_for
from compiler.targets.memory import allocated
from compiler.types import DType

if TYPE_CHECKING:
    from compiler.graph.ir import Graph
    from compiler.schedule.ir import Schedule
    from compiler.targets.lowered import Lowered

_WITHOUT_BF16 = "train with `precision = f32`; a run that has begun keeps its precision, and goes on where that works"
_WITHOUT_TF32 = (
    "train with `--target gpu`, or with `precision = bf16` or `f32`; a run that has begun keeps its precision"
)


class CpuTarget:
    """See `compiler.targets.target.KernelTarget`."""

    def machine(self, options: Options, runs: bool = True) -> Machine:
        return _machine(options, runs)

    def expect_products(self, options: Options, runs: bool = True) -> None:
        if options.products == "tf32":
            raise UsageError("`precision = tf32` is not possible: no processor has products of tf32", _WITHOUT_TF32)
        if options.products == "bf16" and (reason := why_no_bf16(_machine(options, runs), runs)):
            is_chosen = options.machine is not None and why_no_bf16(machine_of(None), runs) is None
            fix = "leave `--target` out, for this processor" if is_chosen else _WITHOUT_BF16
            raise UsageError(f"`precision = bf16` is not possible: {reason}", fix)

    def lower(
        self,
        graph: Graph,
        plan: Schedule,
        machine: Machine,
        batch: int,
        begin: target.Begin | None = None,
        keeps_nests: bool = False,
    ) -> Lowered:
        from compiler.targets.cpu.lower import lower  # a cached program is loaded without code generation

        return lower(graph, plan, machine, batch, begin, keeps_nests)

    def load(self, compilation: target.Compilation) -> target.LoadedProgram:
        options = compilation.options
        machine = _machine(options)
        found = _front_door(options).load(compilation.name, partial(self._lowered, compilation, machine))
        library = Library(found.objects, [*found.symbols, *SYMBOLS], machine)
        made = NativeExecutable(found.manifest, Team(options.threads or usable_cores(), library))
        if not made.manifest.most_rows:
            return made
        return GrowingExecutable(made, lambda rows: self.load(compilation.for_rows(rows)))

    def missing(self, names: Sequence[str], options: Options, elsewhere: bool = False) -> list[str]:
        return _front_door(options, elsewhere).missing(names)

    def compile_ahead(
        self, compilations: Sequence[target.Compilation], workers: int | None = None, elsewhere: bool = False
    ) -> None:
        options = compilations[0].options
        machine = _machine_elsewhere(options) if elsewhere else _machine(options)
        named = ((c.name, partial(self._lowered, c, machine)) for c in compilations if c.name is not None)
        _front_door(options, elsewhere).compile_ahead(named, workers)

    def bytes_of_step(self, name: str, options: Options) -> int | None:
        manifest = _front_door(options).manifest(name)
        if manifest is None:
            return None
        rows = capacity_for(manifest.batch_bytes, options.batch)
        return manifest.static_bytes + manifest.shared_bytes + manifest.batch_bytes * rows

    def allocate(self, specs: Sequence[TensorSpec], beside: Tensors | None = None) -> Tensors:
        return allocated(specs, beside)

    def library(
        self, functions: Sequence[target.LibraryFunction], tensors: target.LibraryTensors, form: target.LibraryForm
    ) -> target.ExportedLibrary:
        from compiler.targets.cpu.library import library  # only an export asks

        options = functions[0].compilation.options
        machine, door = _machine_elsewhere(options), _front_door(options, elsewhere=True)
        compilations = [function.compilation for function in functions]
        codes = [door.load(one.name, partial(self._lowered, one, machine)) for one in compilations]
        return library(functions, codes, tensors, machine, form)

    def kernel_passes(self, machine: Machine, batch: int) -> Mapping[str, Callable[[str, str], str]]:
        from compiler.targets.cpu.passes_on_text import passes_on_text  # only `dlc pass` asks

        return passes_on_text(machine, batch)

    def listing(self, text: str, symbol: str, machine: Machine) -> tuple[target.MachineInstruction, ...]:
        from compiler.targets.llvm.listing import listing  # only readers of code ask

        return listing(text, symbol, machine)

    def device(self) -> target.DeviceState | None:
        return None

    def device_plan(self, lowered: Lowered, batch: int) -> target.DevicePlan | None:
        return None

    def ptx(self, text: str, machine: Machine) -> str:
        raise UsageError("code of a processor is no PTX", "use --target gpu, or look at --stage asm")

    def profiled(self, compilation: target.Compilation) -> target.ProfiledProgram:
        from compiler.targets.cpu.stamped import StampedExecutable  # only a profile asks for programs in this way

        clock = clock_of(_machine(compilation.options))
        program, (plain, stamped) = self._compiled(compilation, [(None, False), (clock, False)])
        threads = compilation.options.threads or usable_cores()
        return target.ProfiledProgram(
            program,
            NativeExecutable(program.manifest, Team(threads, plain)),
            StampedExecutable(program.manifest, Team(threads, stamped)),
            clock.value,
        )

    def simulated(
        self, compilation: target.Compilation, threads: Sequence[int], real: Sequence[int] = ()
    ) -> target.SimulatedProgram:
        # only a simulation asks for programs in this way
        from compiler.targets.cpu.stamped import ROOM_IN_TURNS, OneForAll, StampedExecutable

        clock = clock_of(_machine(compilation.options))
        program, (turns, stamped) = self._compiled(compilation, [(clock, True), (clock, False)])
        return target.SimulatedProgram(
            program,
            {n: StampedExecutable(program.manifest, OneForAll(n, turns), ROOM_IN_TURNS) for n in threads},
            {n: StampedExecutable(program.manifest, Team(n, stamped)) for n in real},
        )

    def peaks(self, options: Options, threads: int, dtype: DType, alone: float = 0.0) -> target.Peaks:
        from compiler.targets.cpu.peaks import measured_peaks  # only a profile asks

        return measured_peaks(machine_of(options.machine), threads, dtype, ObjectCache(options.cache), alone)

    def barrier_nanoseconds(self, machine: Machine, threads: int) -> tuple[float, bool]:
        from compiler.targets.cpu.peaks import barrier_nanoseconds  # only a simulation asks

        return barrier_nanoseconds(machine, threads)

    def _lowered(self, compilation: target.Compilation, machine: Machine, begin: target.Begin) -> Lowered:
        ready, options = compilation.prepared(), compilation.options
        plan = compilation.scheduled(ready, machine)
        found = self.lower(ready, plan, machine, options.batch, begin, keeps_nests=options.verify)
        if options.verify:
            from compiler.support.verified import note_verified  # few programs are verified
            from compiler.targets.verify_nests import verify_nests

            verified = verify_nests(found, has_blocks=machine.is_gpu)
            note_verified(verified.proved, verified.left_out)
        return found

    def _compiled(
        self, compilation: target.Compilation, runners: Sequence[tuple[Clock | None, bool]]
    ) -> tuple[Lowered, list[Library]]:
        """A program, and a library for each runner with the same kernels: its clock, and whether it is one in turns."""
        from compiler.targets.llvm.codegen_worker import WorkerPool  # only what is not cached needs processes

        machine = _machine(compilation.options)
        with WorkerPool(machine, ObjectCache(compilation.options.cache), usable_processors()) as pool:
            program = self._lowered(compilation, machine, pool.begin)
            objects = pool.compile([*program.texts.values(), *(runner_text(machine, *runner) for runner in runners)])
        count = len(program.texts)
        kernels = Library(objects[:count], tuple(program.texts), machine)
        return program, [
            Library([made], SYMBOLS if clock is None else (*SYMBOLS, TICKS), machine, kernels)
            for made, (clock, _) in zip(objects[count:], runners, strict=True)
        ]


def _machine(options: Options, runs: bool = True) -> Machine:
    return replace(machine_of(options.machine, runs), tuning=options.tuning)


def _machine_elsewhere(options: Options) -> Machine:
    return replace(machine_elsewhere(options.machine), tuning=options.tuning)


def _front_door(options: Options, elsewhere: bool = False) -> FrontDoor:
    machine = _machine_elsewhere(options) if elsewhere else _machine(options)
    return FrontDoor(machine, ObjectCache(options.cache), partial(runner_text, machine))
