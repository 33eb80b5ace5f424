"""The CPU as a target: kernels through LLVM, run by a team of threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from compiler.interface import Options, Tensors
from compiler.machine import Machine
from compiler.support.cache import ObjectCache
from compiler.support.processors import usable_cores, usable_processors
from compiler.targets.cpu.executable import NativeExecutable
from compiler.targets.cpu.runner import SYMBOLS, TICKS, clock_of, runner_text
from compiler.targets.cpu.team import Team
from compiler.targets.llvm.host import machine_of
from compiler.targets.llvm.jit import Library
from compiler.targets.llvm.object_code import FrontDoor, Lowering
from compiler.targets.manifest import TensorSpec, capacity_for
from compiler.targets.memory import allocated
from compiler.targets.target import Begin, Compilation, MachineInstruction, Peaks, ProfiledProgram, SimulatedProgram
from compiler.types import DType

if TYPE_CHECKING:
    from compiler.graph.ir import Graph
    from compiler.schedule.ir import Schedule
    from compiler.targets.lowered import Lowered


class CpuTarget:
    """See `compiler.targets.target.KernelTarget`."""

    def machine(self, options: Options, runs: bool = True) -> Machine:
        return _machine(options, runs)

    def lower(
        self,
        graph: Graph,
        plan: Schedule,
        machine: Machine,
        batch: int,
        begin: Begin | None = None,
        keeps_nests: bool = False,
    ) -> Lowered:
        from compiler.targets.cpu.lower import lower  # a cached program is loaded without code generation

        return lower(graph, plan, machine, batch, begin, keeps_nests)

    def load(self, compilation: Compilation) -> NativeExecutable:
        options = compilation.options
        machine = _machine(options)
        found = _front_door(options).load(compilation.name, self._lowering(compilation, machine))
        library = Library(found.objects, [*found.symbols, *SYMBOLS], machine)
        return NativeExecutable(
            found.manifest, library.address, Team(options.threads or usable_cores(), library.address, library)
        )

    def missing(self, names: Sequence[str], options: Options) -> list[str]:
        return _front_door(options).missing(names)

    def compile_ahead(self, compilations: Sequence[Compilation], workers: int | None = None) -> None:
        options = compilations[0].options
        machine = _machine(options)
        named = ((c.name, self._lowering(c, machine)) for c in compilations if c.name is not None)
        _front_door(options).compile_ahead(named, workers)

    def bytes_of_step(self, name: str, options: Options) -> int | None:
        manifest = _front_door(options).manifest(name)
        if manifest is None:
            return None
        rows = capacity_for(manifest.batch_bytes, options.batch)
        return manifest.static_bytes + manifest.shared_bytes + manifest.batch_bytes * rows

    def allocate(self, specs: Sequence[TensorSpec], beside: Tensors | None = None) -> Tensors:
        return allocated(specs, beside)

    def product_passes(self, machine: Machine, batch: int) -> Mapping[str, Callable[[str, str], str]]:
        from compiler.targets.cpu.products.one_pass import passes_on_text  # only `dlc pass` asks

        return passes_on_text(machine, batch)

    def listing(self, text: str, symbol: str, machine: Machine) -> tuple[MachineInstruction, ...]:
        from compiler.targets.llvm.listing import listing  # only readers of code ask

        return listing(text, symbol, machine)

    def profiled(self, compilation: Compilation) -> ProfiledProgram:
        from compiler.targets.cpu.stamped import StampedExecutable  # only a profile asks for programs in this way

        machine = _machine(compilation.options)
        clock = clock_of(machine)
        runners = [runner_text(machine), runner_text(machine, clock)]
        program, kernels, (plain, stamped) = self._compiled(compilation, machine, runners)
        with_ticks = (*SYMBOLS, TICKS)
        threads = compilation.options.threads or usable_cores()
        first, second = Library([plain], SYMBOLS, machine), Library([stamped], with_ticks, machine)
        one, other = _address_in(first, SYMBOLS, kernels), _address_in(second, with_ticks, kernels)
        return ProfiledProgram(
            program,
            NativeExecutable(program.manifest, one, Team(threads, one, (first, kernels))),
            StampedExecutable(program.manifest, other, Team(threads, other, (second, kernels))),
            clock.value,
        )

    def simulated(self, compilation: Compilation, threads: Sequence[int], real: Sequence[int] = ()) -> SimulatedProgram:
        # only a simulation asks for programs in this way
        from compiler.targets.cpu.stamped import ROOM_IN_TURNS, OneForAll, StampedExecutable

        machine = _machine(compilation.options)
        symbols, clock = (*SYMBOLS, TICKS), clock_of(machine)
        runners = [runner_text(machine, clock, True), runner_text(machine, clock)]
        program, kernels, (turns, stamped) = self._compiled(compilation, machine, runners)
        library, team = Library([turns], symbols, machine), Library([stamped], symbols, machine)
        one, all_ = _address_in(library, symbols, kernels), _address_in(team, symbols, kernels)
        return SimulatedProgram(
            program,
            {
                n: StampedExecutable(program.manifest, one, OneForAll(n, one, (library, kernels)), ROOM_IN_TURNS)
                for n in threads
            },
            {n: StampedExecutable(program.manifest, all_, Team(n, all_, (team, kernels))) for n in real},
        )

    def peaks(self, options: Options, threads: int, dtype: DType, alone: float = 0.0) -> Peaks:
        from compiler.targets.cpu.peaks import measured_peaks  # only a profile asks

        return measured_peaks(machine_of(options.machine), threads, dtype, ObjectCache(options.cache), alone)

    def barrier_nanoseconds(self, machine: Machine, threads: int) -> tuple[float, bool]:
        from compiler.targets.cpu.peaks import barrier_nanoseconds  # only a simulation asks

        return barrier_nanoseconds(machine, threads)

    def _lowering(self, compilation: Compilation, machine: Machine) -> Lowering:
        return partial(self._lowered, compilation, machine)

    def _lowered(self, compilation: Compilation, machine: Machine, begin: Begin) -> Lowered:
        ready, options = compilation.prepared(), compilation.options
        plan = compilation.scheduled(ready, machine)
        found = self.lower(ready, plan, machine, options.batch, begin, keeps_nests=options.verify)
        if options.verify:
            from compiler.targets.verify_nests import verify_nests  # few programs are verified

            verify_nests(found)
        return found

    def _compiled(
        self, compilation: Compilation, machine: Machine, runners: Sequence[str]
    ) -> tuple[Lowered, Library, list[bytes]]:
        """A program, its kernels, and the objects of its runners."""
        from compiler.targets.llvm.codegen_worker import WorkerPool  # only what is not cached needs processes

        with WorkerPool(machine, ObjectCache(compilation.options.cache), usable_processors()) as pool:
            program = self._lowered(compilation, machine, pool.begin)
            objects = pool.compile([*program.texts.values(), *runners])
        count = len(program.texts)
        return program, Library(objects[:count], tuple(program.texts), machine), objects[count:]


def _machine(options: Options, runs: bool = True) -> Machine:
    return replace(machine_of(options.machine, runs), tuning=options.tuning)


def _front_door(options: Options) -> FrontDoor:
    machine = _machine(options)
    return FrontDoor(machine, ObjectCache(options.cache), partial(runner_text, machine))


def _address_in(runner: Library, symbols: Sequence[str], kernels: Library) -> Callable[[str], int]:
    def address(symbol: str) -> int:
        return runner.address(symbol) if symbol in symbols else kernels.address(symbol)

    return address
