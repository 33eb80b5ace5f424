"""Values of many batches: `metrics`, with which of their values is the better, and the sums of `accumulate = n`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from compiler.errors.diagnostics import Diagnostic, Note, Span, hint
from compiler.frontend.applications import Application
from compiler.frontend.failures import failure, nearest
from compiler.frontend.program import ParameterSpec
from compiler.frontend.tensors.binding import advised, are_exchanged, learned_values
from compiler.frontend.update_rules import Accumulation, OptimizerState
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphOutput, Node, Role, Value, depending
from compiler.ops.across_shards import other_meeting
from compiler.ops.batch_sums import ledger_of, made_of_sums, slopes_of, taken_apart, trained_sums
from compiler.ops.build import filled
from compiler.ops.control import resolve_custom_gradients
from compiler.ops.rules import FLOATS
from compiler.ops.scan import draws_for_rows
from compiler.ops.sources import BatchSize
from compiler.ops.totals import dependent_on_the_batch
from compiler.syntax import tree
from compiler.types import DType, TensorType, depends_on_batch

LOSS = "loss"
_KEYS = (
    *("event", "epoch", "step", "rate", "samples_per_second", "seconds", "best"),  # of the line of an epoch
    *("model", "data", "rows"),  # of an evaluation
    *("run", "created", "state", "epochs", "best_epoch", "checkpoints", "bytes", "numerics"),  # of a run in a list
)
DIRECTIONS = ("minimise", "maximise")


def reserved_names(scalars: Sequence[str]) -> set[str]:
    """The keys of records in which `scalars` stand beside the loss: those names mean something else there."""
    return {LOSS, *_KEYS, *(prefix + scalar for prefix in ("val_", "test_") for scalar in (LOSS, *scalars))}


def named_metrics(
    value: tree.Expression | None, outputs: Collection[str], losses: Sequence[str]
) -> list[tuple[str, tree.Expression]]:
    """The metrics by the names of their calls, numbered where a name is repeated or that of an output or stated loss.

    So it is where a name is a key of the records in which metrics stand, or what another scalar is called in validation
    or at the end.
    """
    if value is None:
        return []
    items = value.items if isinstance(value, tree.ListLiteral) else (value,)
    used = {*outputs, *losses, *reserved_names((*losses, *map(name_of_call, items)))}
    named: list[tuple[str, tree.Expression]] = []
    for item in items:
        name = base = name_of_call(item)
        count = 1
        while name in used:
            count += 1
            name = f"{base}_{count}"
        used.add(name)
        named.append((name, item))
    return named


def name_of_call(expression: tree.Expression) -> str:
    """The name of a metric: the function that gives it; `maximise` and `minimise` only say which value is better."""
    match expression:
        case tree.Call(tree.Name(name), (metric,), ()) if name in DIRECTIONS:
            return name_of_call(metric)
        case tree.Pipe(metric, tree.Name(name)) if name in DIRECTIONS:
            return name_of_call(metric)
        case tree.Call(function):
            return name_of_call(function)
        case tree.Pipe(_, stage):
            return name_of_call(stage)
        case tree.Name(name):
            return name
        case _:
            return "metric"


def unsound_metrics(
    graph: Graph, named: Sequence[tuple[str, tree.Expression]], own: Sequence[Node], calls: Sequence[Application]
) -> list[Diagnostic]:
    """The metrics whose value would depend on how rows are cut into batches; `own` are the nodes that they added.

    `calls` are those of functions in the graph.
    """
    if not named:
        return []
    outputs = {output.name for output in graph.outputs}
    plain = resolve_custom_gradients(graph)
    found: list[Diagnostic] = []
    for name, expression in named:
        if name not in outputs:
            continue
        node = dependent_on_the_batch(plain, (plain.output(name).value,), own)
        if node is not None:
            mistake = _unsound(name, node, expression.span)
            learned = learned_values(graph.inputs, graph.nodes)
            own_calls = [a for a in calls if a.call == expression.span and are_exchanged(a.operands, learned)]
            for call in own_calls[:1]:
                mistake = advised(mistake, call.declaration.name, call.operands)
            found.append(mistake)
    return found


def _unsound(name: str, node: Node, span: Span) -> Diagnostic:
    place = node.origins[0].user_span if node.origins else span
    notes = () if place == span else (Note("rows meet here", place),)
    advice = hint(
        "make it of sums, means, variances, maxima and minima over rows, each of terms of a row alone, and combine"
        " these at the end"
    )
    message = (
        f"the metric `{name}` would depend on the division of rows into batches: its value of one row depends on others"
    )
    return Diagnostic("E0616", message, span, (*notes, advice))


def expect_direction(best: str, known: tuple[str, ...], directions: Mapping[str, bool], span: Span | None) -> None:
    """Raise Failure where `best` is no metric, or nothing says which of its values is better."""
    if span is None:  # it is the loss
        return
    if best not in known:
        notes = nearest(best, known) or (hint(f"it is one of {', '.join(f'`{name}`' for name in known)}"),)
        raise failure(
            "E0617", f"`best` is `loss` or a metric of this `train`; there is no `{best}` among them", span, *notes
        )
    if best not in directions:
        advice = hint(f"say it in `metrics`, by `maximise(…)` or `minimise(…)` around `{best}`")
        raise failure("E0617", f"nothing says whether a large `{best}` is good or bad", span, advice)


def accumulation_of(
    batches: int,
    training: Graph,
    trained: Sequence[ParameterSpec],
    metrics: Sequence[str],
    losses: Mapping[str, Span],
    shards: int = 1,
) -> Accumulation:
    """The tensors that add up over the batches of an update, or over so many `shards` of each of them.

    `losses` has the places of the losses that the model states, then that of `loss`. What is not made of sums over rows
    is told by the epoch, not by the update. Raises Failure for a loss that does not follow from such sums.
    """
    key, parts = ("accumulate", "batches") if shards == 1 else ("shards", "shards")
    for name, place in losses.items():
        if not made_of_sums(training, (name,)):
            message = f"`{key}` cannot put `{name}` together from several {parts}: it is not made of sums over rows"
            advice = hint("`sum` and `mean` over the batch can be added up, a maximum or a variance cannot")
            raise failure("E0614", message, place, advice)
    if not _adds_up(training, LOSS):
        name = next(name for name in losses if not _adds_up(training, name))
        message = f"`{key}` cannot add up gradients of `{name}`: it is not linear in its sums over rows"
        advice = hint("a mean of rows is, a product, root or quotient of sums that depend on parameters is not")
        raise failure("E0614", message, losses[name], advice)
    ledger = ledger_of(training, made_of_sums(training, metrics))
    named = [(Accumulation.gradient(spec.path), spec.type) for spec in trained]
    named += [(Accumulation.count(number), value.type) for number, value in enumerate(ledger.counts)]
    named += [(Accumulation.sum(number), value.type) for number, value in enumerate(ledger.sums)]
    of_rows: list[GraphOutput] = []
    if shards > 1:
        of_rows = _states_of_rows(training, losses[LOSS])
        named += [(Accumulation.ROWS, TensorType(DType.I64))]
        named += [(Accumulation.state(output.name), output.value.type) for output in of_rows]
    states = tuple(OptimizerState(name, type_, _zeros(type_), is_zero=True) for name, type_ in named)
    paths, counts_rows = tuple(output.name for output in of_rows), _count_rows(training, ledger.counts)
    parts = batches * shards if shards > 1 else 1
    return Accumulation(batches, len(ledger.counts), states, parts, paths, counts_rows)


def expect_sums_over_rows(training: Graph, fallback: Span) -> None:
    """Raise Failure where rows depend on other rows in a way that sums over all shards do not give."""
    node = other_meeting(training)
    if node is not None:
        place = node.origins[0].user_span if node.origins else fallback
        message = f"`synchronised` cannot take this `{node.op.name}` over all shards: it is no sum over rows"
        advice = hint("leave `synchronised` out, so that rows meet within their shard, or leave `shards` out")
        raise failure("E0614", message, place, advice)


def _count_rows(training: Graph, counts: Sequence[Value]) -> bool:
    """Whether counts are whole numbers on which only the number of rows has an influence."""
    given = (entry.value.index for entry in training.inputs)
    varying = depending(training.nodes, given, draws_for_rows)
    return not any(count.index in varying or count.type.dtype.is_float for count in counts)


def _states_of_rows(training: Graph, fallback: Span) -> list[GraphOutput]:
    """The states of the model that rows have a part in. Raises Failure for one that has no mean over shards."""
    given = (i.value.index for i in training.inputs if depends_on_batch(i.value.type.shape))
    varying = depending(training.nodes, given, lambda node: isinstance(node.op, BatchSize) or draws_for_rows(node))
    found = [o for o in training.outputs if o.role is Role.STATE and o.value.index in varying]
    for output in found:
        if output.value.type.dtype not in FLOATS:
            makers = (n for n in training.nodes if output.value in n.results and n.origins)
            place = next((node.origins[0].user_span for node in makers), fallback)
            dtype = output.value.type.dtype.value
            message = f"the state `{output.name}` has no mean over shards: its elements are {dtype}"
            advice = hint("let it hold f32, or compute it from values that all rows share; or leave `shards` out")
            raise failure("E0614", message, place, advice)
    return found


def _adds_up(training: Graph, name: str) -> bool:
    """Whether the gradient of an output follows from those of batches."""
    value = training.output(name).value
    parts = taken_apart(training, (value,))
    return slopes_of(GraphBuilder.extending(training), parts, value, trained_sums(training, parts)) is not None


def _zeros(type_: TensorType) -> Graph:
    builder = GraphBuilder("zeros")
    builder.output("value", Role.OUTPUT, filled(builder, 0, type_))
    return builder.build()
