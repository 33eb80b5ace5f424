"""Graphs compiled and run natively in this process, without cache and without worker processes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache, lru_cache

from compiler.graph.ir import Graph
from compiler.interface import FUSIONS
from compiler.machine import Machine
from compiler.schedule.build import schedule
from compiler.schedule.ir import Schedule
from compiler.schedule.verify import verify_schedule
from compiler.targets.cpu import runner
from compiler.targets.cpu.executable import NativeExecutable
from compiler.targets.cpu.lower import lower
from compiler.targets.cpu.team import Team
from compiler.targets.llvm import jit, llvm
from compiler.targets.llvm.host import detect
from compiler.targets.lowered import Lowered

EVERY_KERNEL_PARALLEL = 1_000_000  # a nominal batch for which each kernel that depends on the batch pays for threads


@dataclass(frozen=True, slots=True)
class Native:
    """A compiled graph; any number of executables may be made of it."""

    plan: Schedule
    lowered: Lowered
    library: jit.Library

    def executable(self, threads: int = 1) -> NativeExecutable:
        return NativeExecutable(self.lowered.manifest, Team(threads, self.library))


def compiled(
    graph: Graph,
    *,
    fuse: bool = True,
    without: Collection[str] = (),
    batch: int = 32,
    machine: Machine | None = None,
    level: int = llvm.OPTIMISATION_LEVEL,
) -> Native:
    """`graph` as native code for `machine`, by default the one that runs; `batch` is the nominal size.

    The schedule is verified. At the `level` 0, LLVM takes half the time, and its code has the same bits.
    """
    machine = machine or host()
    plan = schedule(graph, without if fuse else FUSIONS, batch, machine=machine)
    verify_schedule(plan, batch)
    lowered = lower(graph, plan, machine, batch)
    target = (machine.triple, machine.cpu, machine.features, level)
    kernels = [_object(text, *target) for text in (*lowered.texts.values(), _runner(machine))]
    symbols = (*lowered.texts, *runner.SYMBOLS)
    return Native(plan, lowered, jit.Library(kernels, symbols, machine))


@cache
def host() -> Machine:
    return detect()


@cache
def _runner(machine: Machine) -> str:
    return runner.runner_text(machine)


@lru_cache(maxsize=2000)
def _object(text: str, triple: str, cpu: str, features: str, level: int) -> bytes:
    """The object code of a kernel, which many graphs may share."""
    library, target = _generator(triple, cpu, features, level)
    return library.emit_for(target, triple, text, as_object=True, verify=True)


@cache
def _generator(triple: str, cpu: str, features: str, level: int) -> tuple[llvm.Llvm, int]:
    """LLVM and what it generates code with; to make it takes as long as the code of a small kernel."""
    library = llvm.Llvm()
    library.initialise(triple)
    return library, library.target_machine(triple, cpu, features, level)
