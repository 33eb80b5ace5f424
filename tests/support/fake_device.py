"""A GPU target whose driver is `FakeCuda`, and whose kernels are those of this processor: an item is a block."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fake_cuda import ADVANCE, FakeCuda, Kernel

from compiler.machine import Machine
from compiler.support.cache import ObjectCache
from compiler.targets import target
from compiler.targets.cpu.runner import SYMBOLS, runner_text
from compiler.targets.cpu.target import CpuTarget
from compiler.targets.gpu.code import loaded_code
from compiler.targets.gpu.device_memory import DeviceMemory
from compiler.targets.gpu.driver import Driver, begun
from compiler.targets.gpu.executable import GpuExecutable
from compiler.targets.gpu.hardware import Gpu
from compiler.targets.gpu.touched_bytes import with_touched_bytes
from compiler.targets.llvm.codegen_worker import WorkerPool
from compiler.targets.llvm.jit import Library
from compiler.targets.lowered import Lowered
from compiler.targets.manifest import SHARED_ARENA, STATIC_ARENA, Manifest, Touched

NEVER = 1 << 30
_COMPILED: dict[str | None, tuple[Lowered, Library]] = {}
TRANSFERS = {"dlc_fetch": 5, "dlc_collect": 5, "dlc_copy": 3}


class FakeTarget(CpuTarget):
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
        machine = _unchained(self.machine(options))
        with WorkerPool(machine, ObjectCache(options.cache), 1) as pool:
            lowered = with_panels(with_touched_bytes(self._lowered(compilation, machine, pool.begin)))
            objects = pool.compile([*lowered.texts.values(), runner_text(machine)])
        return lowered, Library(objects, [*lowered.texts, *SYMBOLS], machine)

    def missing(self, names: Any, options: Any, elsewhere: bool = False) -> list[str]:
        return []


def kernels_of(manifest: Manifest, library: Library) -> dict[str, Kernel]:
    """The kernels of a program, with how many words each takes."""
    firsts = sorted({entry.first_argument for entry in manifest.entries if entry.function >= 0})
    ends = dict(zip(firsts, [*firsts[1:], len(manifest.relocations)], strict=True))
    words = {
        manifest.functions[e.function]: ends[e.first_argument] - e.first_argument
        for e in manifest.entries
        if e.function >= 0
    } | TRANSFERS
    return {symbol: Kernel(library.address(symbol), count) for symbol, count in words.items()}


def with_panels(lowered: Lowered) -> Lowered:
    """The program with what kernels of processors touch besides: packed panels, shared or at the end of an arena."""
    manifest, lines = lowered.manifest, list[tuple[Touched, ...]]()
    ends = sorted({entry.first_argument for entry in manifest.entries if entry.function >= 0})
    for entry, line in zip(manifest.entries, manifest.touched, strict=True):
        later = [end for end in ends if end > entry.first_argument]
        end = later[0] if later else len(manifest.relocations)
        for kind, base, _ in manifest.relocations[entry.first_argument : end] if entry.function >= 0 else ():
            if kind == SHARED_ARENA:
                line = (*line, Touched(kind, 0, 1, True))
            if kind == STATIC_ARENA and base >= lowered.plan.static_bytes:
                line = (*line, Touched(kind, lowered.plan.static_bytes, manifest.static_bytes, True))
        lines.append(line)
    return replace(lowered, manifest=replace(manifest, touched=tuple(lines)))


def _unchained(machine: Machine) -> Machine:
    """The machine with a tuning by which no kernels are chained."""
    return replace(machine, tuning=replace(machine.tuning, shards=NEVER, image_shards=NEVER))
