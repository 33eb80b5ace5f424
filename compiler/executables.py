"""A graph becomes an executable: passes, schedule, kernels, object code, and the memory that it runs in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from compiler.diagnostics import UsageError
from compiler.frontend.program import Program
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.interface import Array, Executable, Options, Tensors
from compiler.pipeline import optimise_graph
from compiler.schedule.build import schedule
from compiler.targets.cpu.executable import NativeExecutable
from compiler.targets.cpu.jit import Library
from compiler.targets.cpu.machine import Machine
from compiler.targets.cpu.manifest import Lowered, TensorSpec, lower
from compiler.targets.cpu.memory import TensorStore
from compiler.targets.cpu.object_code import object_code
from compiler.targets.cpu.runner import SYMBOLS
from compiler.targets.cpu.team import Team, available_threads
from compiler.targets.reference.executable import ReferenceExecutable
from compiler.types import DType, TensorType

TARGETS = ("native", "reference")


class Callable(Protocol):
    """An executable that also takes whole arrays, for graphs whose inputs are no rows."""

    def call(self, inputs: Mapping[str, Array], batch: int = 1) -> dict[str, Array]: ...


def prepared(graph: Graph, options: Options) -> Graph:
    """The optimised graph in the element type that the options ask for."""
    if options.dtype == "f64":
        graph = to_dtype(graph, DType.F64)
    return optimise_graph(graph, options.verify)


def executable(graph: Graph, options: Options) -> NativeExecutable | ReferenceExecutable:
    """Compile a graph for the target of the options."""
    if options.target not in TARGETS:
        raise UsageError(f"there is no target '{options.target}'", f"targets are {', '.join(TARGETS)}")
    if options.target == "reference":
        return ReferenceExecutable(prepared(graph, options))
    machine = detect_machine()
    return load(lowered(graph, options, machine), options, machine)


def detect_machine() -> Machine:
    from compiler.targets.cpu.machine import detect  # asks LLVM, which takes a while to load

    return detect()


def lowered(graph: Graph, options: Options, machine: Machine) -> Lowered:
    """The step table and kernel texts of a graph."""
    ready = prepared(graph, options)
    return lower(ready, schedule(ready, options.fuse, options.batch), machine, options.batch)


def load(program: Lowered, options: Options, machine: Machine) -> NativeExecutable:
    """Compile what the cache lacks, load the code, and lay out memory."""
    objects = object_code(program.texts, machine, options)
    library = Library(objects, [*program.texts, *SYMBOLS], machine)
    threads = options.threads or available_threads()
    return NativeExecutable(program.manifest, library.address, Team(threads, library.address), library)


def allocate(program: Program, options: Options) -> TensorStore:
    """Room for the parameters, states and optimizer states of a program, all zero."""
    specs = [_spec(p.path, p.role, p.type, options) for p in program.parameters]
    if program.plan is not None:
        specs += [
            _spec(f"{rule.parameter}:{state.name}", Role.OPTIMIZER_STATE, state.type, options)
            for rule in program.plan.rules
            for state in rule.states
        ]
    return TensorStore(specs)


def _spec(name: str, role: Role, type_: TensorType, options: Options) -> TensorSpec:
    dtype = DType.F64 if options.dtype == "f64" and type_.dtype is DType.F32 else type_.dtype
    return TensorSpec(name, role, dtype, tuple(e for e in type_.shape if isinstance(e, int)))


def initialise(program: Program, tensors: Tensors, seed: int, options: Options) -> None:
    """Fill the tensors of a program by its compiled initialisers. Optimizer states that start at zero stay as they are."""
    builder = GraphBuilder("initialise")
    key = builder.input("seed", Role.SEED, TensorType(DType.I64))
    graphs = {p.path: p.initializer for p in program.parameters}
    if program.plan is not None:
        for rule in program.plan.rules:
            graphs |= {f"{rule.parameter}:{state.name}": state.initializer for state in rule.states}
    for name, graph in graphs.items():
        value = builder.inline(graph, [key] * len(graph.inputs))["value"]
        builder.output(name, Role.OUTPUT, value)
    made = executable(builder.build(), options).call({}, seed=seed)
    for name, array in made.items():
        tensors[name][...] = array


def as_executable(graph: Graph, options: Options) -> Executable:
    """`executable`, as callers outside the compiler see it."""
    return executable(graph, options)
