"""From evaluated graphs to a program: which settings stay open at run time, and which became constants."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from compiler.errors.diagnostics import Source
from compiler.frontend.axes import NamedAxes
from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.elaborator import Session
from compiler.frontend.program import KEPT, Generation, ParameterSpec, Program, Sampler, TrainingPlan
from compiler.frontend.update_rules import Clip, UpdateBlock, UpdateRule
from compiler.graph.ir import Graph, GraphInput, GraphOutput, Node, Role
from compiler.graph.ir import Value as IrValue
from compiler.ops.batch_sums import divisor_of
from compiler.ops.control import resolve_custom_gradients
from compiler.ops.means import is_mean
from compiler.ops.sources import Constant
from compiler.ops.totals import dependent_on_the_batch, form_of, split
from compiler.syntax.suppressions import without_suppressed
from compiler.types import DType, TensorType


def with_constants(session: Session, graph: Graph) -> Graph:
    """The graph with constants in place of numbers all of whose settings also decided its form."""
    known = {name: number.value for name, number in session.run_time.items() if number.sources <= session.decided}
    fixed = [entry for entry in graph.inputs if entry.role is Role.SETTING and entry.name in known]
    if not fixed:
        return graph
    constants = tuple(_constant(entry, known[entry.name]) for entry in fixed)
    inputs = tuple(entry for entry in graph.inputs if entry not in fixed)
    return replace(graph, inputs=inputs, nodes=(*constants, *graph.nodes))


def _constant(entry: GraphInput, value: int | float | None) -> Node:
    assert value is not None
    return Node(Constant(float(value), DType.F32), (), (entry.value,))


def finished(
    session: Session,
    name: str,
    model: str,
    sources: tuple[Source, ...],
    training: Evaluator,
    inference: Evaluator,
    plan: TrainingPlan | None,
    augmentation: Graph | None = None,
    generation: Generation | None = None,
    samplers: Sequence[Sampler] = (),
) -> Program:
    """The program of two evaluated graphs."""
    record = training.model
    assert record is not None
    if generation is not None:
        generation = replace(generation, sampler=with_constants(session, generation.sampler))
    if plan is not None:
        plan = _plan_with_constants(session, plan)
        plan = _with_finishing(plan, training.builder.build(), inference.builder.build(), record.losses)
    return Program(
        name,
        model,
        sources,
        session.settings.resolved(session.run_time, session.decided, session.limits),
        tuple(record.inputs),
        tuple(record.outputs),
        tuple(_spec_with_constants(session, spec) for spec in session.parameters.values()),
        _with_counts(with_constants(session, training.builder.build()), plan),
        _with_counts(with_constants(session, inference.builder.build()), plan),
        plan,
        without_suppressed(session.report.warnings),
        None if augmentation is None else with_constants(session, augmentation),
        generation,
        tuple(replace(sampler, graph=with_constants(session, sampler.graph)) for sampler in samplers),
        axes=NamedAxes(training.axes, training.user_scopes),
        applications=tuple(training.applied),
    )


def _with_counts(graph: Graph, plan: TrainingPlan | None) -> Graph:
    """With the number of elements that the loss is the mean of, by which an epoch weighs it."""
    if plan is None or plan.updates:
        return graph
    count = divisor_of(graph, graph.output("loss").value)
    added = () if count is None else (GraphOutput("loss" + KEPT, Role.OUTPUT, count),)
    return replace(graph, outputs=(*graph.outputs, *added))


def _with_finishing(plan: TrainingPlan, training: Graph, inference: Graph, stated: Collection[str]) -> TrainingPlan:
    """With the values that are finished once over many rows, and whether training and evaluation finish them alike.

    `stated` are the losses that the model states.
    """
    graphs = [resolve_custom_gradients(graph) for graph in (training, inference)]
    loss = graphs[1].output("loss").value
    is_plain = dependent_on_the_batch(graphs[1], (loss,), graphs[1].nodes) is None
    averaged = tuple(name for name in stated if not _follows_from_totals(graphs, name))
    plan = replace(plan, averaged=(*(block.loss for block in plan.updates), *averaged))
    is_finished = is_plain and not plan.updates and is_mean(graphs[1], loss)
    finished = (*(("loss",) if is_finished else ()), *plan.finished_metrics)

    def values(graph: Graph, names: Sequence[str]) -> list[IrValue]:
        return [graph.output(name).value for name in names]

    metrics = [form_of(split(graph, values(graph, plan.finished_metrics))) for graph in graphs]
    totals = [split(graph, values(graph, finished)).totals for graph in graphs]
    of_training, of_inference = ([total.form for total in found] for found in totals)
    return replace(
        plan,
        finished=finished,
        finishes_alike=metrics[0] == metrics[1] and of_training == of_inference,
        gathered=tuple(total.type for found in totals for total in found),
    )


def _follows_from_totals(graphs: Sequence[Graph], name: str) -> bool:
    """Whether a loss that the model states has a value of all rows, whatever batches they are cut into.

    `graphs` are those of training and of inference; in training, a model may mix the rows of a batch.
    """
    training, inference = graphs
    if split(training, (training.output(name).value,)).others:
        return False
    return dependent_on_the_batch(inference, (inference.output(name).value,), inference.nodes) is None


def _plan_with_constants(session: Session, plan: TrainingPlan) -> TrainingPlan:
    phases = (
        replace(
            phase,
            training_graph=_with_counts(with_constants(session, phase.training_graph), plan),
            rules=_rules_with_constants(session, phase.rules),
        )
        for phase in plan.phases
    )
    follower = plan.follower
    return replace(
        plan,
        rules=_rules_with_constants(session, plan.rules),
        phases=tuple(phases),
        schedule=None if plan.schedule is None else with_constants(session, plan.schedule),
        follower=None if follower is None else replace(follower, graph=with_constants(session, follower.graph)),
        clip=None if plan.clip is None else _clip_with_constants(session, plan.clip),
        updates=tuple(_update_with_constants(session, block) for block in plan.updates),
    )


def _rules_with_constants(session: Session, rules: tuple[UpdateRule, ...]) -> tuple[UpdateRule, ...]:
    return tuple(replace(rule, graph=with_constants(session, rule.graph)) for rule in rules)


def _spec_with_constants(session: Session, spec: ParameterSpec) -> ParameterSpec:
    if spec.average is None:
        return spec
    return replace(spec, average=replace(spec.average, momentum=with_constants(session, spec.average.momentum)))


def _update_with_constants(session: Session, block: UpdateBlock) -> UpdateBlock:
    return replace(
        block,
        rules=_rules_with_constants(session, block.rules),
        schedule=None if block.schedule is None else with_constants(session, block.schedule),
        clip=None if block.clip is None else _clip_with_constants(session, block.clip),
    )


def _clip_with_constants(session: Session, clip: Clip) -> Clip:
    def graph_of(type_: TensorType) -> Graph:
        return with_constants(session, clip.graph_of(type_))

    return replace(clip, graph_of=graph_of)
