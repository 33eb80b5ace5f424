"""A graph becomes an executable: passes, schedule, kernels, object code, and the memory that it runs in."""

from __future__ import annotations

from collections.abc import Callable

from compiler.diagnostics import UsageError
from compiler.frontend.program import Program
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.interface import Options, Tensors
from compiler.pipeline import optimise_graph
from compiler.schedule.build import schedule
from compiler.targets.cpu.cache import compiler_version
from compiler.targets.cpu.executable import NativeExecutable
from compiler.targets.cpu.lower import Lowered, lower
from compiler.targets.cpu.machine import Machine
from compiler.targets.cpu.manifest import TensorSpec
from compiler.targets.cpu.memory import TensorStore
from compiler.targets.cpu.object_code import load_program
from compiler.targets.reference.executable import ReferenceExecutable
from compiler.types import DType, TensorType

TARGETS = ("native", "reference")


def prepared(graph: Graph, options: Options) -> Graph:
    """The optimised graph in the element type that the options ask for."""
    if options.dtype == "f64":
        graph = to_dtype(graph, DType.F64)
    return optimise_graph(graph, options.verify)


def executable(
    graph: Graph | Callable[[], Graph], options: Options, name: str | None = None
) -> NativeExecutable | ReferenceExecutable:
    """Compile a graph for the target of the options.

    `name` identifies the program with everything that went into it; under it, what was compiled before is found again
    without making the graph.
    """
    if options.target not in TARGETS:
        raise UsageError(f"there is no target '{options.target}'", f"targets are {', '.join(TARGETS)}")

    def made() -> Graph:
        return prepared(graph if isinstance(graph, Graph) else graph(), options)

    if options.target == "reference":
        return ReferenceExecutable(made())

    def lowered(machine: Machine) -> Lowered:
        ready = made()
        return lower(ready, schedule(ready, options.fuse, options.batch), machine, options.batch)

    return load_program(None if name is None else f"{name}\0{_choices(options)}", lowered, options)


def _choices(options: Options) -> str:
    """The options that decide the code."""
    return f"{options.fuse} {options.dtype} {options.batch} {compiler_version()}"


def identity(program: Program, kind: str) -> str:
    """All that decides the graphs of a program: its sources and its settings, except the values passed at run time."""
    settings = [(s.name, None if s.is_runtime else s.value) for s in program.settings]
    return repr((kind, program.name, program.model, [(s.name, s.text) for s in program.sources], settings))


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
    """Fill the tensors of a program by its compiled initialisers."""
    made = executable(lambda: initial_graph(program), options, identity(program, "initialise")).call({}, seed=seed)
    for name, array in made.items():
        tensors[name][...] = array


def initial_graph(program: Program) -> Graph:
    """One output for each tensor of a program, its first content."""
    builder = GraphBuilder("initialise")
    key = builder.input("seed", Role.SEED, TensorType(DType.I64))
    graphs = {p.path: p.initializer for p in program.parameters}
    if program.plan is not None:
        for rule in program.plan.rules:
            graphs |= {f"{rule.parameter}:{state.name}": state.initializer for state in rule.states}
    for name, graph in graphs.items():
        value = builder.inline(graph, [key] * len(graph.inputs))["value"]
        builder.output(name, Role.OUTPUT, value)
    return builder.build()
