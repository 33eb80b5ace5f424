"""A program to its schedule: the stages that a program from the cache skips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from compiler.frontend.program import Program
from compiler.frontend.update_rules import Accumulation
from compiler.graph.ir import Graph, Role
from compiler.graph_passes.flush_updates import flush_updates
from compiler.graph_passes.lay_out_pairs import has_pairs
from compiler.graph_passes.widen_numbers import widen_numbers
from compiler.interface import Options
from compiler.machine import Machine
from compiler.pipeline import laid_out, optimise_graph, rounding_of, simplified, to_f64
from compiler.programs.kinds import ACCUMULATION, GraphKind, Purpose
from compiler.programs.load import complete, in_precision
from compiler.programs.shard_owners import (
    UpdateLayout,
    buckets_of,
    divided,
    owned_parameters,
    owned_tensors,
    states_of_parameters,
)
from compiler.programs.steps import training_step
from compiler.programs.steps.accumulated_step import accumulated_step, segments_of_step
from compiler.programs.steps.attention_weights import attention_graph
from compiler.programs.steps.decoding.incremental import position_graph, prompt_graph
from compiler.programs.steps.decoding.window import window_graph
from compiler.programs.steps.finishing import finishing_graph
from compiler.programs.steps.owned_update import Division, owned_parts
from compiler.programs.steps.sampling import sampling_graph
from compiler.schedule.build import schedule
from compiler.schedule.ir import Schedule

GRAPHS: Mapping[Purpose, Callable[[Program, GraphKind], Graph]] = {
    Purpose.INITIALISATION: lambda program, kind: training_step.initial_graph(program),
    Purpose.STATES: lambda program, kind: training_step.initial_states_graph(program),
    Purpose.TRAINING: lambda program, kind: training_step.training_step(program, kind.phase),
    **dict.fromkeys(ACCUMULATION, lambda program, kind: accumulated_step(program, kind)),
    Purpose.AUGMENTATION: lambda program, kind: training_step.augmentation_graph(program),
    Purpose.EVALUATION: lambda program, kind: training_step.evaluation_graph(program),
    Purpose.BATCH_EVALUATION: lambda program, kind: training_step.batch_evaluation_graph(program),
    Purpose.PREDICTION: lambda program, kind: training_step.prediction_graph(program),
    Purpose.SAMPLING: lambda program, kind: sampling_graph(program, kind.sampler),
    Purpose.ATTENTION: lambda program, kind: attention_graph(program),
    Purpose.GRADIENTS: lambda program, kind: training_step.gradient_graph(program),
    Purpose.SCHEDULE: lambda program, kind: training_step.schedule_graph(program),
    Purpose.FOLLOWING: lambda program, kind: training_step.following_graph(program),
    Purpose.FINISHING: lambda program, kind: finishing_graph(program, program.inference_graph),
    Purpose.FINISHING_EPOCH: lambda program, kind: finishing_graph(program, program.training_graph),
    Purpose.WINDOW: lambda program, kind: window_graph(program),
    Purpose.PROMPT: lambda program, kind: prompt_graph(program, kind.rows),
    Purpose.POSITION: lambda program, kind: position_graph(program, kind.rows),
}


def graph_of(program: Program, kind: GraphKind, options: Options | None = None) -> Graph:
    """The graph of a kind that is made of a program.

    What is simplified before it is differentiated, is so in the precision of the options, or else in the program's own.
    """
    program = complete(program)
    if options is not None:
        program = in_precision(program, options)
    return GRAPHS[kind.purpose](program, kind)


def segment_graphs(program: Program, phase: int, options: Options) -> Sequence[Graph]:
    """The segments of the step of a shard that waits for sums over all shards."""
    return segments_of_step(in_precision(complete(program), options), phase)


def division_of(program: Program, phase: int, options: Options) -> Division:
    """How the update of a step could be divided among processes, by its optimised graph."""
    program = complete(program)
    graph = prepared(graph_of(program, GraphKind(Purpose.UPDATING, phase), options), options)
    return Division(graph, owned_tensors(program))


def update_layout(program: Program, phase: int, options: Options, processes: int) -> UpdateLayout:
    """How it is divided. Who owns a parameter is the same in all phases: what can be cut is found in the last."""
    program = complete(program)
    assert program.plan is not None
    whole = division_of(program, len(program.plan.phases), options)
    own = whole if phase == len(program.plan.phases) else division_of(program, phase, options)
    parameters = [(spec.path, spec.type) for spec in owned_parameters(program)]
    cuttable = {path: whole.can_be_cut(path) for path, _ in parameters}
    followers = {
        output.name: path for path, _ in parameters for output in whole.outputs_of(path) if output.role is Role.STATE
    }
    shapes = {path: type_.shape for path, type_ in parameters}
    states = states_of_parameters(program)
    finished = finishing_order(program, options)
    ordered = sorted(parameters, key=lambda parameter: finished.index(Accumulation.gradient(parameter[0])))
    buckets = buckets_of(ordered, cuttable, options.tuning.bucket_bytes)
    stretches = divided(buckets, dict(parameters), cuttable, processes)
    return UpdateLayout(processes, shapes, buckets, stretches, states, followers, tuple(own.given_of()), own.last + 2)


def finishing_order(program: Program, options: Options) -> list[str]:
    """The tensors of a shard's gradients, in the order in which its step finishes them where all parameters train.

    It is that of the graph, which the kernels of every machine follow.
    """
    assert program.plan is not None
    kind = GraphKind(Purpose.ACCUMULATING, len(program.plan.phases))
    if program.plan.synchronises:
        graphs = segment_graphs(program, kind.phase, options)
    else:
        graphs = [graph_of(program, kind, options)]
    found: list[str] = []
    for graph in graphs:
        places = {result.index: place for place, node in enumerate(graph.nodes) for result in node.results}
        stored = [output for output in graph.outputs if output.role is Role.OPTIMIZER_STATE]
        found += [o.name for o in sorted(stored, key=lambda output: places.get(output.value.index, -1))]
    return found


def update_parts(program: Program, phase: int, options: Options, layout: UpdateLayout, rank: int) -> list[Graph]:
    """The parts of the update that a process makes, optimised."""
    return owned_parts(division_of(program, phase, options), layout, rank)


def prepared(graph: Graph, options: Options, before_each: Callable[[], None] = lambda: None) -> Graph:
    """The optimised graph in the element type that the options ask for. `before_each` pass may raise an error."""
    graph = to_f64(graph) if options.dtype == "f64" else widen_numbers(graph)
    if options.target == "reference" and has_pairs(graph):
        ready = flush_updates(simplified(graph))  # NumPy needs no places for pairs, so it says what these should give
    else:
        ready = optimise_graph(laid_out(graph, options.batch), options.verify, before_each)
    for rounding in rounding_of(options):
        ready = rounding(ready)
    return ready


def scheduled(
    ready: Graph, options: Options, machine: Machine, before_each: Callable[[], None] = lambda: None
) -> Schedule:
    """The schedule of an optimised graph; with `verify`, kernels, barriers and memory plan are checked.

    `before_each` stage may raise an error.
    """
    plan = schedule(ready, options.without, options.batch, options.verify, machine, before_each)
    if options.verify:
        from compiler.schedule.verify import verify_schedule  # few programs are verified

        verify_schedule(plan, options.batch)
    return plan
