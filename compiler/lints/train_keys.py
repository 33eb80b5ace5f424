"""W0110, W0111, W0116, W0125 to W0127: keys of `train` that do not go together, as ends of run and schedule."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.errors.diagnostics import Diagnostic, Note, hint
from compiler.frontend.program import ParameterSpec, TrainingPlan
from compiler.frontend.trace import Subject
from compiler.graph.ir import Node, Role
from compiler.lints.flow import Flow, inlined, owner_place, place_of
from compiler.ops.reduction import Moments
from compiler.ops.row_mixing import mixes_rows
from compiler.ops.sources import BatchSize
from compiler.ops.spreading import Sum
from compiler.syntax.tree import Train
from compiler.types import depends_on_batch, is_of_pairs


def find_schedule_length(subject: Subject) -> Iterator[Diagnostic]:
    """W0110: a schedule that ends before the run does, or would end after it.

    As far as the text says how long the run is; `dlc train` compares again, when the data is known.
    """
    plan, train = subject.program.plan, subject.train
    if plan is None or train is None:
        return
    message = ""
    if plan.steps is not None and (end := plan.other_end(plan.steps)) is not None:
        message = f"the schedule ends at update {end:g}, the run at update {plan.steps}"
    # An epoch has one update at least.
    if plan.epochs is not None and (end := plan.other_end(plan.epochs)) is not None and end < plan.epochs:
        message = f"the schedule ends at update {end:g}, and {plan.epochs} epochs have more updates than that"
    if message:
        advice = hint("`total_steps` is the length of the run: `T = total_steps`")
        yield Diagnostic("W0110", message, train.place_of("schedule"), (advice,), "warning")


def find_frozen_to_the_end(subject: Subject) -> Iterator[Diagnostic]:
    """W0116: a training or an update in which everything is frozen, or one that ends before frozen parameters train.

    As far as the text says how long the run is.
    """
    plan, train = subject.program.plan, subject.train
    if plan is None or train is None:
        return
    owns = any(spec.role is Role.PARAMETER for spec in subject.program.parameters)
    if owns and any(entry.key == "freeze" for entry in train.entries):
        yield from _all_frozen(plan, train)
    late = max((phase.first_epoch for phase in plan.phases), default=0)
    if plan.epochs is not None and late >= plan.epochs:
        message = f"parameters that `unfreeze` trains after {late} epochs stay frozen: the run has {plan.epochs}"
        advice = hint("unfreeze it earlier, or train for more epochs")
        yield Diagnostic("W0116", message, train.place_of("unfreeze"), (advice,), "warning")


def _all_frozen(plan: TrainingPlan, train: Train) -> Iterator[Diagnostic]:
    advice = hint("leave the parameters to train out of `freeze`" + ", or end it with `unfreeze`" * (not plan.updates))
    idle = [block.name for block in plan.updates if not block.rules]
    messages = [f"`freeze` selects every parameter of the update `{name}`, which trains nothing" for name in idle]
    if not plan.every_rule:
        messages = ["`freeze` selects every parameter, so nothing is trained"]
    for message in messages:
        yield Diagnostic("W0116", message, train.place_of("freeze"), (advice,), "warning")


def find_moving_statistics(subject: Subject) -> Iterator[Diagnostic]:
    """W0111: a layer whose parameters are all frozen, while the statistics that it keeps still move.

    One finding for each: inference after training is not that of the weights that were frozen.
    """
    if subject.train is None:
        return
    place = subject.train.place_of("freeze")
    moved = {output.updates for output in subject.program.training_graph.outputs if output.role is Role.STATE}
    layers: dict[str, list[ParameterSpec]] = {}
    for spec in subject.program.parameters:
        layers.setdefault(spec.path.rpartition(".")[0], []).append(spec)
    for path, specs in layers.items():
        parameters = [spec for spec in specs if spec.role is Role.PARAMETER]
        moving = [spec.path for spec in specs if spec.role is Role.STATE and spec.path in moved]
        if path and moving and parameters and all(spec.frozen for spec in parameters):
            message = f"`{path}` is frozen, but {' and '.join(f'`{name}`' for name in moving)} still move"
            advice = hint(f'freeze the whole layer: `"{path}.*"`')
            note = Note("the layer stands here", owner_place(specs[0]))
            yield Diagnostic("W0111", message, place, (advice, note), "warning")


def find_pairs_of_one_row(subject: Subject) -> Iterator[Diagnostic]:
    """W0126: a loss over pairs of rows, of batches or shards that have one row each."""
    plan, train, graph = subject.program.plan, subject.train, subject.program.training_graph
    if plan is None or train is None or plan.batch is None or plan.batch // plan.shards != 1:
        return
    opened = inlined(graph)
    reached = Flow(opened).reaching([graph.output("loss").value])
    made = (
        node for node in opened.nodes if any(is_of_pairs(r.type.shape) and r.index in reached for r in node.results)
    )
    first = next(made, None)
    if first is None:
        return
    place = place_of(first)
    notes = () if place is None else (Note("pairs of rows are made here", place),)
    message = "a row has no other in its batch, so a loss over pairs compares it with itself alone"
    advice = hint("take more rows in a batch, such as `batch = 64`")
    yield Diagnostic("W0126", message, train.place_of("batch"), (advice, *notes), "warning")


def find_lone_shard(subject: Subject) -> Iterator[Diagnostic]:
    """W0127: `synchronised = true` where a batch is one shard, so that nothing is synchronised."""
    plan, train = subject.program.plan, subject.train
    if plan is None or train is None or plan.is_sharded:
        return
    if any(setting.name == "synchronised" and setting.value is True for setting in subject.program.settings):
        message = "a batch is one shard, so that its statistics are those of all rows with or without `synchronised`"
        advice = hint("cut it with `shards = 8`, or leave `synchronised` out")
        yield Diagnostic("W0127", message, train.place_of("synchronised"), (advice,), "warning")


def find_rows_of_shards(subject: Subject) -> Iterator[Diagnostic]:
    """W0125: rows that take something other than statistics from the rows beside them, while `shards` cut the batch."""
    plan, train = subject.program.plan, subject.train
    if plan is None or train is None or not plan.is_sharded or plan.synchronises:
        return
    mixing: dict[int, Node] = {}
    for node in inlined(subject.program.training_graph).nodes:
        begins = mixes_rows(node) and not isinstance(node.op, Sum | Moments | BatchSize)
        maker = node if begins else next((mixing[o.index] for o in node.operands if o.index in mixing), None)
        if maker is None:
            continue
        mixing.update((result.index, maker) for result in node.results)
        if any(depends_on_batch(result.type.shape) for result in node.results):
            shards = plan.shards
            rows = "the rows" if plan.batch is None else f"the {-(-plan.batch // shards)} rows"
            message = f"rows meet here, and with `shards = {shards}` only {rows} of a shard do"
            advice = hint("take a larger batch, or fewer shards")
            yield Diagnostic("W0125", message, place_of(maker) or train.place_of("shards"), (advice,), "warning")
            return
