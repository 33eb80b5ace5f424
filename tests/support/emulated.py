"""Graphs as kernels of a GPU that are run on this processor, their text written as a test wants it."""

from __future__ import annotations

from collections.abc import Callable

from native import host
from op_samples import Sample

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.machine import Machine
from compiler.nest.ir import Nest
from compiler.schedule.build import schedule
from compiler.targets.cpu import runner
from compiler.targets.cpu.executable import NativeExecutable
from compiler.targets.cpu.team import Team
from compiler.targets.gpu.device import DEVICE
from compiler.targets.gpu.lower import lower
from compiler.targets.llvm.jit import Library, compile_module
from compiler.targets.lowered import Lowered


def graph_of_sample(sample: Sample) -> Graph:
    """One operation, on inputs `x0`, `x1` and so on."""
    builder = GraphBuilder("op")
    inputs = [builder.input(f"x{i}", Role.DATA, type_) for i, type_ in enumerate(sample.operands)]
    for i, result in enumerate(builder.emit_all(sample.op, *inputs)):
        builder.output(f"y{i}", Role.OUTPUT, result)
    return builder.build()


def lowered_for_device(graph: Graph, batch: int, text_of: Callable[[Nest], str], machine: Machine = DEVICE) -> Lowered:
    """The kernels of a graph, each with the text that `text_of` gives it, and the nests."""
    return lower(graph, schedule(graph, (), batch, machine=machine), machine, batch, text_of, keeps_nests=True)


def emulated(lowered: Lowered) -> NativeExecutable:
    """The kernels as they run on this processor, in one thread of it."""
    objects = [compile_module(text, host()) for text in (*lowered.texts.values(), runner.runner_text(host()))]
    return NativeExecutable(lowered.manifest, Team(1, Library(objects, [*lowered.texts, *runner.SYMBOLS], host())))
