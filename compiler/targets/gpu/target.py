"""A GPU as a target, and the processor that stands for one: its kernels are run here, block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from compiler.errors.diagnostics import UsageError
from compiler.interface import Options
from compiler.machine import Machine
from compiler.support.cache import ObjectCache
from compiler.support.processors import usable_processors
from compiler.targets import target
from compiler.targets.cpu.growing import GrowingExecutable
from compiler.targets.cpu.target import CpuTarget
from compiler.targets.gpu.device import device_called, device_for
from compiler.targets.llvm.host import machine_of
from compiler.targets.llvm.object_code import FrontDoor, ObjectCode
from compiler.types import DType

if TYPE_CHECKING:
    from compiler.graph.ir import Graph
    from compiler.nest.ir import Nest
    from compiler.schedule.ir import Schedule
    from compiler.targets.gpu.loop_text import LoopPlan
    from compiler.targets.lowered import Lowered


class EmulatedTarget(CpuTarget):
    """The kernels of a device as code of this processor, run by the CPU's runner: an item is a block of threads."""

    def machine(self, options: Options, runs: bool = True) -> Machine:
        if options.machine is not None:
            raise UsageError(f"the emulator is no `{options.machine}`", "leave out the machine")
        return _with_loops(device_called(None), options)

    def expect_products(self, options: Options, runs: bool = True) -> None:
        if options.products == "f32" or (machine := self.machine(options, runs)).multiplies_matrices:
            return
        message = f"`precision = {options.products}` needs a GPU of compute capability 8.0 or later, not {machine.name}"
        raise UsageError(message, "train with `precision = f32`; a run that has begun keeps its precision")

    def lower(
        self,
        graph: Graph,
        plan: Schedule,
        machine: Machine,
        batch: int,
        begin: target.Begin | None = None,
        keeps_nests: bool = False,
    ) -> Lowered:
        from compiler.targets.gpu.lower import lower  # a cached program is loaded without code generation

        loop_text_of = self.loop_text_of if machine.persistent_loops else None
        return lower(graph, plan, machine, batch, self.text_of, begin, keeps_nests, loop_text_of)

    def text_of(self, nest: Nest) -> str:
        """The text of a kernel."""
        from compiler.targets.gpu.text import host_text

        return host_text(nest, machine_of(None))

    def loop_text_of(self, plan: LoopPlan) -> str:
        """The text of the kernel of a loop."""
        from compiler.targets.gpu.emulated_loops import host_loop_text

        return host_loop_text(plan, machine_of(None))

    def listing(self, text: str, symbol: str, machine: Machine) -> tuple[target.MachineInstruction, ...]:
        return super().listing(text, symbol, machine_of(None))

    def device_plan(self, lowered: Lowered, batch: int) -> target.DevicePlan:
        from compiler.targets.gpu.device_plan import device_plan  # only `dlc plan` asks

        return device_plan(lowered, batch)

    def kernel_passes(self, machine: Machine, batch: int) -> Mapping[str, Callable[[str, str], str]]:
        from compiler.targets.cpu.passes_on_text import passes_on_text  # only `dlc pass` asks
        from compiler.targets.gpu.passes import PRODUCT_PASSES, ROW_PASSES

        return passes_on_text(machine, batch, ROW_PASSES, PRODUCT_PASSES)

    def library(
        self, functions: Sequence[target.LibraryFunction], tensors: target.LibraryTensors, form: target.LibraryForm
    ) -> target.ExportedLibrary:
        raise UsageError("a library is code of a processor", "leave out --target, or name one such as avx2")

    def _lowered(self, compilation: target.Compilation, machine: Machine, begin: target.Begin) -> Lowered:
        from compiler.targets.gpu.loop_kernels import with_loops_as_calls  # as above

        lowered = super()._lowered(compilation, self.machine(compilation.options), begin)
        return replace(lowered, manifest=with_loops_as_calls(lowered.manifest))


class GpuTarget(EmulatedTarget):
    """The kernels of a device as PTX."""

    def machine(self, options: Options, runs: bool = True) -> Machine:
        """That for the device at hand where the code `runs`; else the one that is named, or what most devices run."""
        if not runs:
            return _with_loops(device_called(options.machine), options)
        from compiler.targets.gpu.opened import device_memory

        return _with_loops(device_for(device_memory().gpu.capability, options.machine), options)

    def ptx(self, text: str, machine: Machine) -> str:
        from compiler.targets.gpu.ptx import ptx_of  # only a device asks, and readers of code

        return ptx_of(text, machine)

    def listing(self, text: str, symbol: str, machine: Machine) -> tuple[target.MachineInstruction, ...]:
        from compiler.targets.gpu.sass import listing  # only readers of code ask

        return listing(self.ptx(text, machine), machine.cpu)

    def load(self, compilation: target.Compilation) -> target.LoadedProgram:
        from compiler.targets.gpu.opened import device_memory, executable

        memory = device_memory()  # before anything is compiled for it
        options, machine = compilation.options, self.machine(compilation.options)
        lowered = partial(self._lowered, compilation, machine)
        found = _front_door(options, machine).load(compilation.name, lowered)
        made = executable(found.manifest, _texts(found), memory, ObjectCache(options.cache), usable_processors())
        if not made.manifest.most_rows:
            return made
        return GrowingExecutable(made, lambda rows: self.load(compilation.for_rows(rows)))

    def missing(self, names: Sequence[str], options: Options, elsewhere: bool = False) -> list[str]:
        return _front_door(options, self.machine(options)).missing(names)

    def compile_ahead(
        self, compilations: Sequence[target.Compilation], workers: int | None = None, elsewhere: bool = False
    ) -> None:
        options = compilations[0].options
        machine = self.machine(options)
        named = ((c.name, partial(self._lowered, c, machine)) for c in compilations if c.name is not None)
        _front_door(options, machine).compile_ahead(named, workers)

    def device(self) -> target.DeviceState:
        from compiler.targets.gpu.opened import device_memory

        gpu = device_memory().gpu
        return target.DeviceState(gpu.name, gpu.context.held_bytes)

    def profiled(self, compilation: target.Compilation) -> target.ProfiledProgram:
        # only a profile asks for programs in this way
        from compiler.targets.gpu.executable import GpuExecutable
        from compiler.targets.gpu.opened import device_memory, executable
        from compiler.targets.gpu.stamped import StampedExecutable

        memory, options, machine = device_memory(), compilation.options, self.machine(compilation.options)
        lowered = self._lowered(compilation, machine, lambda _: None)
        found = _front_door(options, machine).load(compilation.name, lambda _: lowered)
        cache, threads = ObjectCache(options.cache), usable_processors()
        plain, stamped = (
            executable(found.manifest, _texts(found), memory, cache, threads, kind)
            for kind in (GpuExecutable, StampedExecutable)
        )
        assert isinstance(stamped, StampedExecutable)
        return target.ProfiledProgram(lowered, plain, stamped, "events")

    def simulated(
        self, compilation: target.Compilation, threads: Sequence[int], real: Sequence[int] = ()
    ) -> target.SimulatedProgram:
        raise _unmeasured("simulation of threads")

    def peaks(self, options: Options, threads: int, dtype: DType, alone: float = 0.0) -> target.Peaks:
        from compiler.targets.gpu.opened import device_memory
        from compiler.targets.gpu.peaks import measured_peaks  # only a profile asks

        return measured_peaks(device_memory(), dtype, ObjectCache(options.cache))

    def bytes_of_step(self, name: str, options: Options) -> int | None:
        return None  # the device's memory is not that of this process

    def _lowered(self, compilation: target.Compilation, machine: Machine, begin: target.Begin) -> Lowered:
        from compiler.targets.gpu.touched_bytes import with_touched_bytes

        return with_touched_bytes(CpuTarget._lowered(self, compilation, machine, begin))

    def text_of(self, nest: Nest) -> str:
        from compiler.targets.gpu.text import device_text

        return device_text(nest)

    def loop_text_of(self, plan: LoopPlan) -> str:
        from compiler.targets.gpu.device_loops import device_loop_text

        return device_loop_text(plan)


def _with_loops(machine: Machine, options: Options) -> Machine:
    return replace(machine, persistent_loops=options.persistent_loops)


def _texts(found: ObjectCode) -> list[tuple[bytes, Sequence[str]]]:
    """The PTX of a program, each with its kernels."""
    from compiler.targets.gpu.transfers import SYMBOLS

    return list(zip(found.objects, [*((symbol,) for symbol in found.symbols), SYMBOLS], strict=True))


def _unmeasured(what: str) -> UsageError:
    return UsageError(f"there is no {what} of a GPU", "leave out --target gpu, and this processor is measured")


def _front_door(options: Options, machine: Machine) -> FrontDoor:
    from compiler.targets.gpu.transfers import transfers_text

    return FrontDoor(machine, ObjectCache(options.cache), transfers_text)
