"""A program or a graph becomes an executable, from the cache where it can serve, and gets the memory it runs in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

from compiler.frontend.program import Program, TrainingPlan
from compiler.frontend.update_rules import Accumulation
from compiler.graph.ir import Graph, Role
from compiler.interface import Decoding, Executable, Options, Peers, Steps, Tensors
from compiler.programs.compilation import Graphs, compilation, compile_graphs, prepared_compilation, resting_compilation
from compiler.programs.kinds import (
    ACCUMULATION,
    DECODING,
    INITIALISATION,
    PREDICTION,
    STATES,
    TRAINING,
    GraphKind,
    Purpose,
    with_products,
)
from compiler.programs.owned_states import OwnedStates
from compiler.programs.shard_owners import OwnedUpdate, UpdateLayout
from compiler.programs.shard_segments import ShardSegment, SumsOfShards, known, segments_of
from compiler.programs.shard_tree import deepest
from compiler.support.arrays import Array, np
from compiler.support.cache import ObjectCache, compiler_version
from compiler.support.processors import usable_processors
from compiler.targets.available_memory import expect_memory
from compiler.targets.manifest import TensorSpec
from compiler.targets.registry import kernel_target_of, target_of
from compiler.targets.target import Compilation, LoadedProgram, ProfiledProgram, SimulatedProgram
from compiler.types import DType, Shape, TensorType

# settings of the data and the length of a run, which no graph knows
_OF_THE_RUN = ("data", "validation", "test", "epochs", "seed", "early_stop", "plateau", "keep", "best", "init_from")
_OF_ONE_ROW = (
    *(Purpose.INITIALISATION, Purpose.STATES, Purpose.UPDATING, Purpose.FOLLOWING),
    *(Purpose.FINISHING, Purpose.FINISHING_EPOCH, Purpose.PROMPT, Purpose.POSITION),
)
_OF_A_SEQUENCE = ("generate.start", "generate.stop", "generate.length")
# Nodes whose lowering takes longer than a process to start, which loads the compiler anew.
WORTH_A_PROCESS = 800
VALUES = "gradients and values of a step"
OPTIMIZER_STATES = "states of the optimizer"


def compile_program(program: Program, kind: GraphKind, options: Options) -> Executable:
    """Compile a graph of a program, or those that `accumulate` makes of a training step.

    The attention weights of a model without attention raise UsageError.
    """
    parts = {part: load_program(program, part, options) for part in graphs_of_step(program, kind, options)}
    return joined(program, parts, options)


def load_program(program: Program, kind: GraphKind, options: Options) -> LoadedProgram:
    """Compile a single graph of a program."""
    return target_of(options).load(compilation_of(program, kind, options))


def graphs_of_step(program: Program, kind: GraphKind, options: Options) -> list[GraphKind]:
    """The graphs that an executable of a kind is made of."""
    accumulation = None if program.plan is None else program.plan.accumulation
    if kind.purpose is not Purpose.TRAINING or accumulation is None:
        return [kind]
    count = len(segments_of_shard(program, options, kind.phase)) if accumulation.synchronised else 1
    shard = [replace(kind, purpose=Purpose.ACCUMULATING, segment=number) for number in range(count)]
    counting = [replace(kind, purpose=Purpose.COUNTING)] if accumulation.counts else []
    return [*counting, *shard, replace(kind, purpose=Purpose.UPDATING)]


def segments_of_shard(program: Program, options: Options, phase: int = 0) -> tuple[ShardSegment, ...]:
    """The segments of the step of a shard, of which there are several where it is synchronised."""
    assert program.plan is not None
    assert program.plan.accumulation is not None
    accumulation = program.plan.accumulation
    counts = {Accumulation.count(number) for number in range(accumulation.counts)}
    if not accumulation.synchronised:
        return (ShardSegment(tuple((s.name, s.type) for s in accumulation.states if s.name not in counts)),)
    name = _entry_name(f"segments of {_identity(program, GraphKind(Purpose.ACCUMULATING, phase))}", options)

    def cut() -> tuple[ShardSegment, ...]:
        from compiler.programs.stages import segment_graphs  # a cached program is loaded without any stage

        return segments_of(segment_graphs(program, phase, options))

    return known(ObjectCache(options.cache), name, cut)


def joined(program: Program, graphs: Mapping[GraphKind, LoadedProgram], options: Options) -> Executable:
    """The executables of `graphs_of_step` as one."""
    by_purpose = {kind.purpose: made for kind, made in graphs.items()}
    phase = next(iter(graphs)).phase
    plan = program.plan
    if plan is not None and plan.updates and Purpose.TRAINING in by_purpose:
        from compiler.programs.batched_executable import in_batches  # few trainings have several updates

        return in_batches(program, _with_rests(program, by_purpose[Purpose.TRAINING], options))
    if len(by_purpose) == 1 or plan is None or plan.accumulation is None:
        return next(iter(by_purpose.values()))
    counting = by_purpose.get(Purpose.COUNTING)
    accumulating, updating = by_purpose[Purpose.ACCUMULATING], by_purpose[Purpose.UPDATING]
    if plan.is_sharded:
        from compiler.programs.sharded_executable import ShardedExecutable, ShardPrograms  # few models have shards

        segments = [made for kind, made in graphs.items() if kind.purpose is Purpose.ACCUMULATING]
        programs = ShardPrograms(counting, segments, updating, _adder(options), _owned_update(program, options, phase))
        return ShardedExecutable(programs, plan.accumulation, sums_of_shards(program, options, phase))
    from compiler.programs.accumulating_executable import AccumulatingExecutable  # few models accumulate

    assert plan.batch is not None
    return AccumulatingExecutable(counting, accumulating, updating, plan.batch, plan.accumulation.batches)


def _with_rests(program: Program, acting: LoadedProgram, options: Options) -> Executable:
    """The step of a training, with a program of its own for steps in which blocks rest, where that is worth it."""
    from compiler.programs.resting_executable import RestingExecutable, resting_blocks  # as above

    every = resting_blocks(program)
    if not every:
        return acting
    chosen = fitting(program, TRAINING, options)
    name = _entry_name(f"resting {_identity(program, TRAINING)}", chosen)
    made = resting_compilation(_graph(program, TRAINING, options), chosen, name)
    return RestingExecutable(acting, target_of(options).load(made), every)


def layout_of_update(program: Program, options: Options, processes: int, phase: int = 0) -> UpdateLayout:
    """How the update of a step that is cut into shards is divided among several processes."""
    kind = GraphKind(Purpose.UPDATING, phase)
    chosen = fitting(program, kind, options)
    least = options.tuning.bucket_bytes
    name = _entry_name(f"layout for {processes} processes, {least} bytes, of {_identity(program, kind)}", chosen)

    def lay_out() -> UpdateLayout:
        from compiler.programs.stages import update_layout  # a cached program is loaded without any stage

        return update_layout(program, phase, chosen, processes)

    return known(ObjectCache(options.cache), name, lay_out)


def owned_states(program: Program, options: Options, tensors: Tensors, peers: Peers) -> OwnedStates:
    """The states of the optimizer where several processes divide the shards of a training."""
    from compiler.targets.memory import TensorStore  # a check of a text imports no NumPy

    assert isinstance(tensors, TensorStore)
    return OwnedStates(layout_of_update(program, options, peers.size), tensors, peers)


def _owned_update(program: Program, options: Options, phase: int) -> Callable[[int, int], OwnedUpdate]:
    """Gives the part that a process has in the update, compiled when it is asked for."""

    def owned(rank: int, processes: int) -> OwnedUpdate:
        kind = GraphKind(Purpose.UPDATING, phase)
        chosen, layout = fitting(program, kind, options), layout_of_update(program, options, processes, phase)
        target, parts, least = target_of(options), list[LoadedProgram | None](), options.tuning.bucket_bytes

        @cache
        def graphs() -> Sequence[Graph]:
            from compiler.programs.stages import update_parts  # a cached program is loaded without any stage

            return update_parts(program, phase, chosen, layout, rank)

        for part in range(layout.parts):
            name = f"part {part} of process {rank} of {processes}, {least} bytes, in {_identity(program, kind)}"
            made = prepared_compilation(partial(_part_of, graphs, part), chosen, _entry_name(name, chosen))
            parts.append(target.load(made) if layout.has_part(rank, part) else None)
        given = [_spec(one.name, Role.OPTIMIZER_STATE, one.type, options) for one in layout.given]
        return OwnedUpdate(layout, parts, given)

    return owned


def _part_of(graphs: Callable[[], Sequence[Graph]], part: int) -> Graph:
    return graphs()[part]


def _adder(options: Options) -> Callable[[DType, int], Executable]:
    """Gives the programs that add rows of elements, each compiled once."""

    @cache
    def adder(dtype: DType, elements: int) -> Executable:
        plain = replace(options, batch=1, dtype="f32")
        name = _entry_name(f"adding {dtype.value} {elements}", plain)
        return target_of(plain).load(compilation(lambda: _adding(dtype, elements), plain, name))

    return adder


def _adding(dtype: DType, elements: int) -> Graph:
    from compiler.programs.steps.adding import adding_graph  # a cached program is loaded without any op

    return adding_graph(dtype, elements)


def executable(graph: Graph, options: Options) -> LoadedProgram:
    """Compile a graph for the target of the options."""
    return target_of(options).load(compilation(lambda: graph, options))


def profiled_programs(program: Program, kind: GraphKind, options: Options) -> dict[GraphKind, ProfiledProgram]:
    """The programs that an executable of a kind is made of, by their kinds, each as it is and with stamps."""
    target = kernel_target_of(options)
    return {
        part: target.profiled(compilation_of(program, part, options)) for part in graphs_of_step(program, kind, options)
    }


def simulated_programs(
    program: Program, kind: GraphKind, options: Options, threads: Sequence[int], real: Sequence[int] = ()
) -> dict[GraphKind, SimulatedProgram]:
    """The programs that an executable of a kind is made of, for each number of threads; one takes the shares of all."""
    target = kernel_target_of(options)
    return {
        part: target.simulated(compilation_of(program, part, options), threads, real)
        for part in graphs_of_step(program, kind, options)
    }


def compile_ahead(program: Program, kinds: Sequence[GraphKind], options: Options, elsewhere: bool = False) -> int:
    """Compile all that will be needed at once, which takes less time than one by one, and keep it in the cache.

    elsewhere: for the functions of a library, which may be for a machine that this process does not run on.
    kinds: of `initialisation training augmentation evaluation prediction schedule following finishing finishing_epoch`;
    `training N` of a later phase. The result is how many were not in the cache.
    """
    named: dict[str, tuple[GraphKind, Options]] = {}
    for part in (part for kind in kinds for part in graphs_of_step(program, kind, options)):
        chosen = fitting(program, part, options)
        named[_entry_name(_identity(program, part), chosen)] = part, chosen
    missing = target_of(options).missing(list(named), options, elsewhere)
    if missing:
        graphs = {name: (_graph(program, named[name][0], options)(), named[name][1]) for name in missing}
        _compile_in_two(graphs, elsewhere)
    return len(missing)


def _compile_in_two(graphs: Graphs, elsewhere: bool) -> None:
    """The largest here, which is the training step as a rule, and all others beside it, where that is worth it.

    With `--verify`, this process counts what is proved, so it compiles all of them.
    """
    largest = max(graphs, key=lambda name: len(graphs[name][0].nodes))
    others = {name: graphs[name] for name in graphs if name != largest}
    verifies = any(options.verify for _, options in graphs.values())
    if verifies or usable_processors() == 1 or sum(len(g.nodes) for g, _ in others.values()) < WORTH_A_PROCESS:
        compile_graphs(graphs, elsewhere=elsewhere)
        return
    from compiler.programs.second_process import compiled_beside  # small models need none

    with compiled_beside(others, elsewhere):
        compile_graphs({largest: graphs[largest]}, elsewhere=elsewhere)


def compilation_of(program: Program, kind: GraphKind, options: Options) -> Compilation:
    chosen = fitting(program, kind, options)
    return compilation(_graph(program, kind, options), chosen, _entry_name(_identity(program, kind), chosen))


def _graph(program: Program, kind: GraphKind, options: Options) -> Callable[[], Graph]:
    def graph() -> Graph:
        from compiler.programs.stages import graph_of  # a cached program is loaded without any stage of the compiler

        return graph_of(program, kind, options)

    return graph


def fitting(program: Program, kind: GraphKind, options: Options) -> Options:
    """The options with the precision of a graph's products and the batch that it runs on.

    First contents have nothing to do with it.
    """
    options = with_products(program, kind, options)
    target_of(options).expect_products(options)
    if kind.purpose in _OF_ONE_ROW:
        return replace(options, batch=1)
    plan = program.plan
    takes_several = plan is not None and (kind.purpose in ACCUMULATION or _is_batched(plan, kind))
    if takes_several and plan is not None and plan.batch is not None:
        rows = plan.usual_rows if plan.is_sharded else plan.batch
        return replace(options, batch=-(-rows // plan.shards))
    return options


def _is_batched(plan: TrainingPlan, kind: GraphKind) -> bool:
    return kind.purpose is Purpose.TRAINING and plan.batches > 1


def _entry_name(name: str, options: Options) -> str:
    """A program with the options that decide its code, and the compiler that makes it."""
    without = ",".join(sorted({*options.without}))
    how = f"{options.target} {without} {options.dtype} {options.batch} {options.persistent_loops} {options.verify}"
    return f"{name}\0{how} {compiler_version()}"


def _identity(program: Program, kind: GraphKind) -> str:
    """All that decides the graphs of a program: its texts and its settings, except values that reach it at run time."""
    others = {sampler.name for sampler in program.samplers} - {kind.sampler}
    settings = [
        (s.name, None if s.is_runtime or s.is_within else s.value)
        for s in program.settings
        if s.name.split(".")[0] not in (*_OF_THE_RUN, *others)
        and (kind.purpose in DECODING or not s.name.startswith("generate."))
        and s.name not in _OF_A_SEQUENCE
    ]
    return repr((str(kind), program.name, program.model, [source.text for source in program.sources], settings))


def allocate(program: Program, options: Options) -> Tensors:
    """Room for the parameters, states and optimizer states of a program, all zero."""
    return target_of(options).allocate(_specs(program, options))


def _specs(program: Program, options: Options) -> list[TensorSpec]:
    specs = [_spec(p.path, p.role, p.type, options) for p in program.parameters]
    if program.plan is not None:
        states = program.plan.optimizer_states.items()
        specs += [_spec(name, Role.OPTIMIZER_STATE, state.type, options) for name, state in states]
    return specs


def sums_of_shards(program: Program, options: Options, phase: int = 0) -> SumsOfShards:
    """The tensors that each shard has of its own."""
    assert program.plan is not None
    assert program.plan.accumulation is not None
    accumulation, segments = program.plan.accumulation, segments_of_shard(program, options, phase)
    types = {state.name: state.type for state in accumulation.states}
    counts = [Accumulation.count(number) for number in range(accumulation.counts)]

    def specs(named: Iterable[tuple[str, TensorType]]) -> list[TensorSpec]:
        return [_spec(name, Role.OPTIMIZER_STATE, type_, options) for name, type_ in named]

    of_segments = [specs(segment.sums) for segment in segments]
    return SumsOfShards(specs((name, types[name]) for name in counts), of_segments, segments)


def memory_needed(
    program: Program, kinds: Sequence[GraphKind], options: Options, rows: int | None = None
) -> dict[str, int]:
    """Bytes by purpose: those of `allocate`, and VALUES for the values that programs of `kinds` keep during a step.

    A step has the rows of the options' batch, or as many `rows`.
    Of these, it knows those that the cache has. Those of the reference target are unknown.
    """
    names = {Role.PARAMETER: "parameters", Role.STATE: "states", Role.OPTIMIZER_STATE: OPTIMIZER_STATES}
    needed = dict.fromkeys((*names.values(), VALUES), 0)
    for spec in _specs(program, options):
        needed[names[spec.role]] += math.prod(spec.shape) * spec.dtype.size
    target = target_of(options)
    for part in (part for kind in kinds for part in graphs_of_step(program, kind, options)):
        chosen = fitting(program, part, options)
        of_rows = chosen if rows is None else replace(chosen, batch=rows)
        found = target.bytes_of_step(_entry_name(_identity(program, part), chosen), of_rows)
        needed[VALUES] = max(needed[VALUES], found or 0)
    if any(kind.purpose is Purpose.TRAINING for kind in kinds):
        needed[VALUES] += _held_of_shards(program, options, options.batch if rows is None else rows)
    return needed


def _held_of_shards(program: Program, options: Options, rows: int) -> int:
    """Bytes that a process which computes all shards holds at once: their gradients and sums, and what segments keep of
    so many `rows`."""
    plan = program.plan
    if plan is None or plan.accumulation is None or not plan.is_sharded:
        return 0
    sums = sums_of_shards(program, options)
    of_shard = sum(math.prod(spec.shape) * spec.dtype.size for spec in sums.every)
    kept = max(segment.bytes_of_row for segment in sums.segments) * rows * (2 if options.dtype == "f64" else 1)
    return of_shard * deepest([range(plan.shards)]) + kept


def _spec(name: str, role: Role, type_: TensorType, options: Options) -> TensorSpec:
    dtype = DType.F64 if options.dtype == "f64" and type_.dtype is DType.F32 else type_.dtype
    return TensorSpec(name, role, dtype, tuple(e for e in type_.shape if isinstance(e, int)))


def compile_decoding(program: Program, tensors: Tensors, rows: int, options: Options) -> Decoding:
    """The program that decodes `rows` sequences position by position, and the tensors with its states, all zero.

    The tensors stay shared with the caller.
    """
    position = load_program(program, GraphKind(Purpose.POSITION, rows=rows), options)
    added = [spec for spec in position.tensors if spec.name not in tensors.names()]
    needed = sum(math.prod(spec.shape) * spec.dtype.size for spec in added)
    expect_memory(f"generating {rows} sequences with {program.name}", {"states of positions": needed}, "ask for fewer")
    return Decoding(position, target_of(options).allocate(added, tensors))


def initialise(program: Program, tensors: Tensors, seed: int, options: Options) -> None:
    """Fill the tensors of a program by its compiled initialisers."""
    compile_program(program, INITIALISATION, options).run(Steps(tensors, {}, np.zeros(1, np.int64), 1, seed=seed))


def initialise_states(program: Program, tensors: Tensors, seed: int, options: Options) -> None:
    """Fill the states of a program's optimizer, as `initialise` does; zeros in new memory are there already."""
    if program.plan is None:
        return
    states = program.plan.optimizer_states
    if not all(state.is_zero for state in states.values()) or any(_is_written(tensors[name]) for name in states):
        compile_program(program, STATES, options).run(Steps(tensors, {}, np.zeros(1, np.int64), 1, seed=seed))


def _is_written(tensor: Array) -> bool:
    """Whether some bit of a tensor is not 0."""
    return bool(tensor.reshape(-1).view(np.bool_).any())


def attention_shapes(program: Program) -> Mapping[str, Shape]:
    """The shapes of the attention weights by the paths of their layers, the batch first. Raises UsageError."""
    from compiler.programs.stages import graph_of  # a cached program is loaded without any stage of the compiler

    graph = graph_of(program, GraphKind(Purpose.ATTENTION))
    return {output.name: output.value.type.shape for output in graph.outputs}


def predicts_row_by_row(program: Program) -> bool:
    """Whether a prediction for a row is the same in any batch: no output depends on other rows, or on draws."""
    from compiler.ops.row_mixing import rows_are_apart  # with the graphs, as above
    from compiler.programs.stages import graph_of

    return rows_are_apart(graph_of(program, PREDICTION))


def finishing_kind(program: Program, of_training: bool) -> GraphKind:
    """The graph by which the metrics of rows, or those of an epoch of training, are finished."""
    is_another = of_training and program.plan is not None and not program.plan.finishes_alike
    return GraphKind(Purpose.FINISHING_EPOCH if is_another else Purpose.FINISHING)
