"""A GPU target whose driver is `FakeCuda`, and whose kernels are those of the emulator."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import pytest
from fake_cuda import ADVANCE, FakeCuda, Kernel

from compiler.nest.ir import Nest
from compiler.support.cache import ObjectCache
from compiler.targets import target
from compiler.targets.cpu.runner import SYMBOLS, runner_text
from compiler.targets.cpu.target import CpuTarget
from compiler.targets.gpu import opened
from compiler.targets.gpu.code import loaded_code
from compiler.targets.gpu.device_memory import DeviceMemory
from compiler.targets.gpu.driver import Driver, begun
from compiler.targets.gpu.emulated_loops import host_loop_text
from compiler.targets.gpu.executable import GpuExecutable
from compiler.targets.gpu.hardware import Gpu
from compiler.targets.gpu.loop_text import LoopPlan
from compiler.targets.gpu.target import EmulatedTarget, GpuTarget
from compiler.targets.gpu.text import host_text
from compiler.targets.gpu.touched_bytes import with_touched_bytes
from compiler.targets.llvm.codegen_worker import WorkerPool
from compiler.targets.llvm.host import machine_of
from compiler.targets.llvm.jit import Library, compile_module
from compiler.targets.lowered import Lowered
from compiler.targets.manifest import Manifest, ends_of_arguments
from compiler.targets.registry import KERNEL_TARGETS, TARGETS

_COMPILED: dict[str | None, tuple[Lowered, Library]] = {}
TRANSFERS = {"dlc_fetch": 5, "dlc_collect": 5, "dlc_copy": 3}


class FakeTarget(EmulatedTarget):
    """Programs run on the device of `fake`, from the compiler's own files for GPUs on."""

    def __init__(self, fake: FakeCuda) -> None:
        self.fake = fake
        self._memory: DeviceMemory | None = None
        self.loaded: list[GpuExecutable] = []

    def memory(self) -> DeviceMemory:
        if self._memory is None:
            self._memory = DeviceMemory(Gpu(begun(Driver(self.fake))))
        return self._memory

    def close(self) -> None:
        """Give back everything that the driver gave."""
        for executable in self.loaded:
            executable.close()
        self.loaded.clear()
        if self._memory is not None:
            self._memory.close()
            self._memory.gpu.close()
            self._memory = None

    def text_of(self, nest: Nest) -> str:
        return host_text(nest, machine_of(None), is_strict=True)

    def loop_text_of(self, plan: LoopPlan) -> str:
        return host_loop_text(plan, machine_of(None), is_strict=True)

    def load(self, compilation: target.Compilation) -> Any:
        memory, options = self.memory(), compilation.options
        if compilation.name not in _COMPILED:
            _COMPILED[compilation.name] = self._compiled_here(compilation)
        lowered, library = _COMPILED[compilation.name]
        self.fake.kernels |= kernels_of(lowered.manifest, library)
        texts = [(" ".join(found).encode(), found) for found in ([*lowered.texts], [*TRANSFERS, ADVANCE])]
        code = loaded_code(memory.gpu, texts, ObjectCache(options.cache), 1)
        made = GpuExecutable(lowered.manifest, memory, code.modules, code.functions)
        self.loaded.append(made)
        return made

    def _compiled_here(self, compilation: target.Compilation) -> tuple[Lowered, Library]:
        options = compilation.options
        machine = machine_of(None)
        with WorkerPool(machine, ObjectCache(options.cache), 1) as pool:
            lowered = CpuTarget._lowered(self, compilation, self.machine(options), pool.begin)
            lowered = with_touched_bytes(lowered)
            objects = pool.compile([*lowered.texts.values(), runner_text(machine)])
        return lowered, Library(objects, [*lowered.texts, *runs_of(lowered.manifest), *SYMBOLS], machine)

    def missing(self, names: Any, options: Any, elsewhere: bool = False) -> list[str]:
        return []


def kernels_of(manifest: Manifest, library: Library) -> dict[str, Kernel]:
    """The kernels of a program, with how many words each takes."""
    ends = ends_of_arguments(manifest)
    words = {
        manifest.functions[e.function]: ends[e.first_argument] - e.first_argument
        for e in manifest.entries
        if e.function >= 0
    } | TRANSFERS
    loops = {
        kernel.symbol: Kernel(library.address(run), kernel.words, loop=True)
        for kernel, run in zip(manifest.loop_kernels, runs_of(manifest), strict=True)
    }
    return {symbol: Kernel(library.address(symbol), count) for symbol, count in words.items()} | loops


def runs_of(manifest: Manifest) -> list[str]:
    """The functions that run blocks of loops."""
    return [f"{kernel.symbol}.run" for kernel in manifest.loop_kernels]


class PtxTarget(GpuTarget):
    """The compiler's own target of GPUs, which gives `fake` PTX; of each kernel, the emulator's code runs."""

    def __init__(self, fake: FakeCuda) -> None:
        self.fake = fake
        self.libraries: list[Library] = []
        self.loaded: list[Any] = []

    def load(self, compilation: target.Compilation) -> target.LoadedProgram:
        self.loaded.append(super().load(compilation))
        return self.loaded[-1]

    def text_of(self, nest: Nest) -> str:
        device = super().text_of(nest)
        self.add(device, host_text(nest, machine_of(None), is_strict=True), len(nest.arguments))
        return device

    def loop_text_of(self, plan: LoopPlan) -> str:
        device = super().loop_text_of(plan)
        self.add(device, host_loop_text(plan, machine_of(None), is_strict=True), plan.words, ".run")
        return device

    def add(self, device: str, text: str, words: int, function: str = "") -> None:
        """Let a function of the emulator's text stand for the kernel with a text for devices."""
        symbol = "k_" + sha256(device.encode()).hexdigest()[:20]  # as lowering names kernels
        if symbol in self.fake.kernels:
            return
        machine, name = machine_of(None), symbol + function
        self.libraries.append(Library([compile_module(text.replace("KERNEL", symbol), machine)], [name], machine))
        self.fake.kernels[symbol] = Kernel(self.libraries[-1].address(name), words, loop=bool(function))


@contextmanager
def gpu_at_hand(seed: int = 2, capability: tuple[int, int] = (9, 0)) -> Generator[PtxTarget]:
    """`--target gpu` with a driver that stands for libcuda, on a device of that compute capability."""
    library, transfers = transfers_on_this_processor()
    target = PtxTarget(FakeCuda(transfers, seed=seed, capability=capability))
    target.libraries = [library]
    memory = DeviceMemory(Gpu(begun(Driver(target.fake))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opened, "device_memory", lambda: memory)
        for targets in (TARGETS, KERNEL_TARGETS):
            patch.setitem(targets, "gpu", lambda: target)
        yield target


def transfers_on_this_processor() -> tuple[Library, dict[str, Kernel]]:
    """The functions of the CPU's runner that stand for the kernels which move rows."""
    machine = machine_of(None)
    library = Library([compile_module(runner_text(machine), machine)], SYMBOLS, machine)
    return library, {name: Kernel(library.address(name), words) for name, words in TRANSFERS.items()}
