"""A program or a graph becomes an executable, from the cache where it can serve, and gets the memory it runs in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from compiler.frontend.program import Program
from compiler.graph.ir import Graph, Role
from compiler.interface import Decoding, Executable, Options, Steps, Tensors
from compiler.programs.accumulating_executable import AccumulatingExecutable
from compiler.programs.compilation import Graphs, compilation, compile_graphs
from compiler.support.arrays import np
from compiler.support.cache import compiler_version
from compiler.support.processors import usable_processors
from compiler.targets.available_memory import expect_memory
from compiler.targets.manifest import TensorSpec
from compiler.targets.registry import kernel_target_of, target_of
from compiler.targets.target import Compilation, LoadedProgram, Watched, WatchedInTurns
from compiler.types import DType, TensorType

# settings that say what a program is run on and how long, which no graph knows
_OF_THE_RUN = ("data", "validation", "test", "epochs", "seed", "early_stop", "plateau", "keep", "best", "init_from")
_OF_A_SEQUENCE = ("generate.start", "generate.stop", "generate.length")
# Nodes whose lowering takes longer than a process to start, which loads the compiler anew.
WORTH_A_PROCESS = 800
VALUES = "gradients and values of a step"
OPTIMIZER_STATES = "states of the optimizer"


def program_executable(program: Program, kind: str, options: Options) -> LoadedProgram:
    """Compile a graph of a program: `training`, `evaluation`, `prediction` or `initialisation`."""
    return target_of(options).load(_compilation(program, kind, options))


def executable(graph: Graph, options: Options) -> LoadedProgram:
    """Compile a graph for the target of the options."""
    return target_of(options).load(compilation(lambda: graph, options))


def training_executable(program: Program, options: Options, phase: int = 0) -> Executable:
    """Compile the step of a phase of the training: one program, or those that `accumulate` makes of it."""
    kind = f"training {phase}" if phase else "training"
    accumulation = None if program.plan is None else program.plan.accumulation
    if program.plan is None or program.plan.batch is None or accumulation is None:
        return program_executable(program, kind, options)
    parts = {part.split()[0]: program_executable(program, part, options) for part in _parts(program, kind)}
    return AccumulatingExecutable(
        parts.get("counting"),
        parts["accumulating"],
        parts["updating"],
        program.plan.batch,
        accumulation.batches,
    )


def watched_programs(program: Program, kind: str, options: Options) -> dict[str, Watched]:
    """The programs that an executable of a kind is made of, by their kinds, each as it is and with stamps."""
    target = kernel_target_of(options)
    return {part: target.watch(_compilation(program, part, options)) for part in _parts(program, kind)}


def programs_in_turns(
    program: Program, kind: str, options: Options, threads: Sequence[int], real: Sequence[int] = ()
) -> dict[str, WatchedInTurns]:
    """The programs that an executable of a kind is made of, for each number of threads; one takes the shares of all."""
    target = kernel_target_of(options)
    return {
        part: target.watch_in_turns(_compilation(program, part, options), threads, real)
        for part in _parts(program, kind)
    }


def _parts(program: Program, kind: str) -> list[str]:
    """The programs that an executable of a kind is made of."""
    accumulation = None if program.plan is None else program.plan.accumulation
    name, _, phase = kind.partition(" ")
    if name != "training" or accumulation is None:
        return [kind]
    names = ["counting", "accumulating", "updating"][0 if accumulation.counts else 1 :]
    return [f"{part} {phase}".rstrip() for part in names]


def compile_ahead(program: Program, kinds: Sequence[str], options: Options) -> int:
    """Compile all that will be needed at once, which takes less time than one by one, and keep it in the cache.

    kinds: of `initialisation training augmentation evaluation prediction schedule following finishing finishing_epoch`;
    `training N` of a later phase. The result is how many were not in the cache.
    """
    named: dict[str, tuple[str, Options]] = {}
    for part in (part for kind in kinds for part in _parts(program, kind)):
        fitting = _fitting(program, part, options)
        named[_entry_name(_identity(program, part), fitting)] = part, fitting
    missing = target_of(options).missing(list(named), options)
    if missing:
        _compile_in_two({name: (_graph(program, named[name][0], options)(), named[name][1]) for name in missing})
    return len(missing)


def _compile_in_two(graphs: Graphs) -> None:
    """The largest here, which is the training step as a rule, and all others beside it, where that is worth it."""
    largest = max(graphs, key=lambda name: len(graphs[name][0].nodes))
    others = {name: graphs[name] for name in graphs if name != largest}
    if usable_processors() == 1 or sum(len(graph.nodes) for graph, _ in others.values()) < WORTH_A_PROCESS:
        compile_graphs(graphs)
        return
    from compiler.programs.second_process import compiled_beside  # small models need none

    with compiled_beside(others):
        compile_graphs({largest: graphs[largest]})


def _compilation(program: Program, kind: str, options: Options) -> Compilation:
    fitting = _fitting(program, kind, options)
    return compilation(_graph(program, kind, options), fitting, _entry_name(_identity(program, kind), fitting))


def _graph(program: Program, kind: str, options: Options) -> Callable[[], Graph]:
    def graph() -> Graph:
        from compiler.programs.stages import graph_of  # a cached program is loaded without any stage of the compiler

        return graph_of(program, kind, options)

    return graph


def _fitting(program: Program, kind: str, options: Options) -> Options:
    """The options with the batch that a program runs on: first contents have nothing to do with it."""
    match kind.split()[0]:
        case "initialisation" | "updating" | "following" | "finishing" | "finishing_epoch" | "prompt" | "position":
            return replace(options, batch=1)
        case "counting" | "accumulating" if program.plan is not None and program.plan.batch is not None:
            return replace(options, batch=program.plan.batch)
        case _:
            return options


def _entry_name(name: str, options: Options) -> str:
    """A program with the options that decide its code, and the compiler that makes it."""
    without = ",".join(sorted({*options.without}))
    return f"{name}\0{without} {options.dtype} {options.batch} {options.verify} {compiler_version()}"


def _identity(program: Program, kind: str) -> str:
    """All that decides the graphs of a program: its texts and its settings, except values that reach it at run time."""
    is_decoding = kind.split()[0] in ("window", "prompt", "position")
    settings = [
        (s.name, None if s.is_runtime or s.is_within else s.value)
        for s in program.settings
        if s.name.split(".")[0] not in _OF_THE_RUN
        and (is_decoding or not s.name.startswith("generate."))
        and s.name not in _OF_A_SEQUENCE
    ]
    return repr((kind, program.name, program.model, [source.text for source in program.sources], settings))


def allocate(program: Program, options: Options) -> Tensors:
    """Room for the parameters, states and optimizer states of a program, all zero."""
    return target_of(options).allocate(_specs(program, options))


def _specs(program: Program, options: Options) -> list[TensorSpec]:
    specs = [_spec(p.path, p.role, p.type, options) for p in program.parameters]
    if program.plan is not None:
        states = program.plan.optimizer_states.items()
        specs += [_spec(name, Role.OPTIMIZER_STATE, state.type, options) for name, state in states]
    return specs


def memory_needed(program: Program, kinds: Sequence[str], options: Options) -> dict[str, int]:
    """Bytes by what they are for: what `allocate` takes, and VALUES for what programs of `kinds` keep during a step.

    Of these, it knows those that the cache has. The reference target takes what it takes.
    """
    names = {Role.PARAMETER: "parameters", Role.STATE: "states", Role.OPTIMIZER_STATE: OPTIMIZER_STATES}
    needed = dict.fromkeys((*names.values(), VALUES), 0)
    for spec in _specs(program, options):
        needed[names[spec.role]] += math.prod(spec.shape) * spec.dtype.size
    target = target_of(options)
    for part in (part for kind in kinds for part in _parts(program, kind)):
        fitting = _fitting(program, part, options)
        found = target.bytes_of_step(_entry_name(_identity(program, part), fitting), fitting)
        needed[VALUES] = max(needed[VALUES], found or 0)
    return needed


def _spec(name: str, role: Role, type_: TensorType, options: Options) -> TensorSpec:
    dtype = DType.F64 if options.dtype == "f64" and type_.dtype is DType.F32 else type_.dtype
    return TensorSpec(name, role, dtype, tuple(e for e in type_.shape if isinstance(e, int)))


def decoding(program: Program, tensors: Tensors, rows: int, options: Options) -> Decoding:
    """The program that decodes `rows` sequences position by position, and the tensors with its states, all zero."""
    position = program_executable(program, f"position {rows}", options)
    added = [spec for spec in position.tensors if spec.name not in tensors.names()]
    needed = sum(math.prod(spec.shape) * spec.dtype.size for spec in added)
    expect_memory(f"generating {rows} sequences with {program.name}", {"states of positions": needed}, "ask for fewer")
    return Decoding(position, target_of(options).allocate(added, tensors))


def initialise(program: Program, tensors: Tensors, seed: int, options: Options) -> None:
    """Fill the tensors of a program by its compiled initialisers."""
    program_executable(program, "initialisation", options).run(
        Steps(tensors, {}, np.zeros(1, np.int64), batch=1, seed=seed)
    )
