"""The step of a training whose updates take several batches (`accumulate`) or shards of one, as three graphs.

For each batch, `counting` adds up the divisor of the loss, and `accumulating`, once that is known of all batches,
gradients and sums. `updating` then does for the whole what a step does after its gradients. For each shard of a batch
the first two store the same in tensors of its own, and whoever runs them adds these up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from compiler.errors.diagnostics import CompilerBug
from compiler.frontend.program import Program, TrainingPlan
from compiler.frontend.update_rules import Accumulation
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphInput, GraphOutput, Role, Value
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.graph_passes.simplify import simplify
from compiler.ops.batch_sums import Ledger, evaluated_again, ledger_of, made_of_sums, slopes_of
from compiler.ops.build import filled, spread
from compiler.ops.elementwise import Add, Cast, Divide, Multiply
from compiler.ops.sources import BatchSize
from compiler.ops.spreading import Sum
from compiler.programs.kinds import ACCUMULATION, GraphKind, Purpose
from compiler.programs.steps.finishing import with_totals
from compiler.programs.steps.segments import segments
from compiler.programs.steps.shard_draws import numbered_by_batch
from compiler.programs.steps.synchronised import synchronised
from compiler.programs.steps.training_step import StepBuilder, finished_in_training, in_phase, reported
from compiler.types import DType, TensorType, depends_on_batch

_SHARE = "(share)"


def accumulated_step(program: Program, kind: GraphKind) -> Graph:
    """One of ACCUMULATION. Sums lie in the tensors that `Accumulation` names; updating empties those of batches."""
    if program.plan is not None and program.plan.synchronises and kind.purpose is Purpose.ACCUMULATING:
        return segments_of_step(program, kind.phase)[kind.segment]
    return _whole(program, kind)


def segments_of_step(program: Program, phase: int) -> Sequence[Graph]:
    """The segments of a shard's step that waits for sums over all shards. The last ones that were made are kept."""
    assert program.plan is not None
    key = phase, program.plan.precision
    if _last and _last[0][0] is program.training_graph and _last[0][1] == key:
        return _last[0][2]
    found = segments(_whole(program, GraphKind(Purpose.ACCUMULATING, phase)))
    _last[:] = [(program.training_graph, key, found)]
    return found


_last: list[tuple[Graph, tuple[int, str], Sequence[Graph]]] = []


def _whole(program: Program, kind: GraphKind) -> Graph:
    program, plan = in_phase(program, kind.phase)
    if plan.accumulation is None:
        raise CompilerBug("accumulated_step", f"{program.name} makes an update of each batch")
    ledger = ledger_of(program.training_graph, made_of_sums(program.training_graph, plan.metrics))
    build = (_counting, _accumulating, _updating)[ACCUMULATION.index(kind.purpose)]
    graph = eliminate_dead(build(program, plan, ledger).builder.build())
    return _with_used_inputs(numbered_by_batch(graph) if plan.is_sharded else graph)


def _counting(program: Program, plan: TrainingPlan, ledger: Ledger) -> StepBuilder:
    graph = replace(program.training_graph, outputs=_outputs(ledger.counts))
    step = StepBuilder(replace(program, training_graph=graph), plan)
    _add_all(step, ledger.counts, Accumulation.count)
    return step


def _accumulating(program: Program, plan: TrainingPlan, ledger: Ledger) -> StepBuilder:
    graph, gathered = with_totals(program.training_graph, finished_in_training(plan), by_rows=False)
    if plan.synchronises:
        graph = synchronised(graph)
    outputs = tuple(output for output in graph.outputs if output.name in gathered)
    graph = _with_share(graph, ledger)
    step = StepBuilder(replace(program, training_graph=replace(graph, outputs=(*graph.outputs, *outputs))), plan)
    step.differentiate(step.forward[_SHARE])
    for path, gradient in step.gradients.items():
        _add(step, Accumulation.gradient(path), gradient)
    _add_all(step, ledger.sums, Accumulation.sum)
    if plan.is_sharded:
        _weigh_states(step)
    else:
        step.keep_states()
    for name in gathered:
        step.builder.output(name, Role.OUTPUT, step.forward[name])
    return step


def _weigh_states(step: StepBuilder) -> None:
    """The new states that differ from shard to shard, times the rows of the shard; and these rows."""
    assert step.plan.accumulation is not None
    rows = step.builder.emit(BatchSize())
    _add(step, Accumulation.ROWS, rows)
    for path in step.plan.accumulation.states_of_rows:
        new = step.forward[path]
        weight = spread(step.builder, step.builder.emit(Cast(new.type.dtype), rows), new.type.shape)
        _add(step, Accumulation.state(path), step.builder.emit(Multiply(), new, weight))


def _updating(program: Program, plan: TrainingPlan, ledger: Ledger) -> StepBuilder:
    # Other metrics are told by the epoch, from what `accumulating` gathers.
    plan = replace(plan, metrics=made_of_sums(program.training_graph, plan.metrics))
    after = _after_sums(program.training_graph, reported(program.training_graph, plan), ledger)
    whole = simplify(after, plan.is_double)
    # No batch takes part: this step begins with what follows from sums.
    step = StepBuilder(replace(program, training_graph=whole, augmentation=None), plan)
    step.differentiate(_loss_without_rows(step, whole, ledger))
    for path, gradient in step.gradients.items():
        added_up = step.input(Accumulation.gradient(path), Role.OPTIMIZER_STATE, gradient.type)
        step.gradients[path] = step.builder.emit(Add(), added_up, gradient)
    step.clip()
    step.update()
    step.keep_updates()
    step.report()
    assert plan.accumulation is not None
    if plan.is_sharded:
        _keep_states_of_shards(step, program.training_graph, plan.accumulation)
        return step
    for state in plan.accumulation.states:
        step.input(state.name, Role.OPTIMIZER_STATE, state.type)
        nothing = filled(step.builder, 0, state.type)
        step.builder.output(state.name, Role.OPTIMIZER_STATE, nothing, updates=state.name)
    return step


def _keep_states_of_shards(step: StepBuilder, graph: Graph, accumulation: Accumulation) -> None:
    """The new states of the model: means over the rows of all shards, and those that rows have no part in."""
    others: list[GraphOutput] = []
    for output in graph.outputs:
        if output.role is Role.STATE and output.name in accumulation.states_of_rows:
            type_ = output.value.type
            rows = step.input(Accumulation.ROWS, Role.OPTIMIZER_STATE, TensorType(DType.I64))
            count = spread(step.builder, step.builder.emit(Cast(type_.dtype), rows), type_.shape)
            total = step.input(Accumulation.state(output.name), Role.OPTIMIZER_STATE, type_)
            step.input(output.name, Role.STATE, type_)
            step.builder.output(output.name, Role.STATE, step.builder.emit(Divide(), total, count), output.updates)
        elif output.role is Role.STATE:
            others.append(output)
    without_rows = eliminate_dead(replace(graph, outputs=tuple(others)))
    arguments = [step.input(entry.name, entry.role, entry.value.type) for entry in without_rows.inputs]
    for name, value in step.builder.inline(without_rows, arguments).items():
        step.builder.output(name, Role.STATE, value, updates=graph.output(name).updates)


def _add_all(step: StepBuilder, values: Sequence[Value], name: Callable[[int], str]) -> None:
    for number, value in enumerate(values):
        _add(step, name(number), step.forward[str(value.index)])


def _add(step: StepBuilder, name: str, value: Value) -> None:
    before = step.input(name, Role.OPTIMIZER_STATE, value.type)
    added_up = value if step.plan.is_sharded else step.builder.emit(Add(), before, value)
    step.builder.output(name, Role.OPTIMIZER_STATE, added_up, updates=name)


def _with_share(graph: Graph, ledger: Ledger) -> Graph:
    """The training graph with the sums and `(share)`: the contribution of its rows to the loss of the whole.

    Counts are those of the whole, in a tensor. Terms of the loss without rows are left out.
    """
    builder = GraphBuilder.extending(graph)
    loss = graph.output("loss").value
    slopes = slopes_of(builder, ledger.loss, loss, ledger.trained)
    assert slopes is not None, "the front end has refused such a loss"
    known = {
        count.index: builder.input(Accumulation.count(number), Role.OPTIMIZER_STATE, count.type)
        for number, count in enumerate(ledger.counts)
    }
    again = evaluated_again(builder, (*ledger.loss.nodes, *builder.nodes[len(graph.nodes) :]), known)
    share = filled(builder, 0, loss.type)
    for value in ledger.trained:
        if value.index in slopes:
            slope = slopes[value.index]
            product = builder.emit(Multiply(), value, again.get(slope.index, slope))
            share = builder.emit(Add(), share, builder.emit(Sum(tuple(range(value.type.rank))), product))
    states = (output for output in graph.outputs if output.role is Role.STATE)
    builder.outputs = [*states, *_outputs(ledger.sums), GraphOutput(_SHARE, Role.OUTPUT, share)]
    return builder.build()


def _after_sums(graph: Graph, names: Sequence[str], ledger: Ledger) -> Graph:
    """The loss and the metrics from counts and sums, which are inputs."""
    inputs = [
        *_inputs(ledger.counts, Accumulation.count),
        *_inputs(ledger.sums, Accumulation.sum),
        *(
            entry
            for entry in graph.inputs
            if entry.role is not Role.DATA or not depends_on_batch(entry.value.type.shape)
        ),
    ]
    return Graph(graph.name, tuple(inputs), ledger.every.nodes, tuple(map(graph.output, names)))


def _loss_without_rows(step: StepBuilder, whole: Graph, ledger: Ledger) -> Value:
    """The loss where each sum that parameters have a part in is 0: penalties, say."""
    trained = {Accumulation.sum(k) for k, value in enumerate(ledger.sums) if value in ledger.trained}
    arguments = [
        filled(step.builder, 0, entry.value.type)
        if entry.name in trained
        else step.input(entry.name, entry.role, entry.value.type)
        for entry in whole.inputs
    ]
    return step.builder.inline(whole, arguments)["loss"]


def _outputs(values: Sequence[Value]) -> tuple[GraphOutput, ...]:
    return tuple(GraphOutput(str(value.index), Role.OUTPUT, value) for value in values)


def _inputs(values: Sequence[Value], name: Callable[[int], str]) -> list[GraphInput]:
    return [GraphInput(name(number), Role.OPTIMIZER_STATE, value) for number, value in enumerate(values)]


def _with_used_inputs(graph: Graph) -> Graph:
    """Each part is fed with the tensors that it reads, and has no others."""
    used = {operand.index for node in graph.nodes for operand in node.operands}
    used |= {output.value.index for output in graph.outputs}
    updated = {output.updates for output in graph.outputs}
    return replace(graph, inputs=tuple(i for i in graph.inputs if i.value.index in used or i.name in updated))
