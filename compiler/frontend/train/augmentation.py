"""`augment`: the changes that training makes to samples before the model, elaborated into a graph of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.axes import Axis
from compiler.frontend.bodies.declared_tensors import declare_input
from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.bodies.row_draws import NUMBER, RowEvaluator
from compiler.frontend.bodies.statements import run_body
from compiler.frontend.elaborator import Frame, ModelRecord, Session
from compiler.frontend.failures import Poisoned, failure
from compiler.frontend.program import EPOCH_NUMBER, SAMPLE_NUMBERS, InputSpec
from compiler.frontend.tensors.shapes import shown
from compiler.frontend.values import POISON, TensorValue, describe
from compiler.graph import ir
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.ops.elementwise import Add
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.walk import first_name
from compiler.types import BatchExtent


@record
class Augmentation:
    """The graph, from the inputs and targets as the data has them to those that change, and all of them afterwards."""

    graph: Graph
    targets: tuple[InputSpec, ...]
    values: dict[str, TensorValue]


class SampleEvaluator(RowEvaluator):
    """Draws belong to a sample in an epoch: they are the same in any batch, and whatever was trained before."""

    rows = SAMPLE_NUMBERS

    def counter(self, stream: ir.Value) -> ir.Value:
        return self.emit(Add(), self.input(EPOCH_NUMBER, Role.DATA, NUMBER), stream)


def augmentation(
    session: Session, train: tree.Train, block: tree.Block, around: Frame, model: ModelRecord
) -> Augmentation:
    """The `augment` block of a `train`; `around` has the settings of the model. Raises `Failure` and `Poisoned`."""
    inputs = model.inputs
    frame = replace(around, variables=dict(around.variables), dimensions=dict(around.dimensions), draws=[0])
    frame.application = "#augment"
    evaluator = SampleEvaluator(session, GraphBuilder("augmentation"), frame, True)
    evaluator.user_scopes.add(frame.scope)
    record = evaluator.model = ModelRecord(list(inputs))
    for name in model.views:
        frame.variables.pop(name, None)
    for spec in inputs:
        axes = tuple(Axis(frozenset({(frame.scope, n)}) if n else frozenset(), spec.span) for n in spec.dimension_names)
        frame.variables[spec.name] = TensorValue(evaluator.input(spec.name, Role.DATA, spec.type), axes)
    for target in train.targets:
        declare_input(evaluator, target)
    targets = tuple(record.inputs[len(inputs) :])
    before = {spec.name: frame.variables[spec.name] for spec in record.inputs}
    run_body(evaluator, block)
    values: dict[str, TensorValue] = {}
    for spec in _seen(model, targets):
        place = _place_of(block, spec.name)
        value = values[spec.name] = _checked(evaluator, spec, frame.variables.get(spec.name, POISON), place)
        if value is not before.get(spec.name):
            evaluator.builder.output(spec.name, Role.OUTPUT, value.value)
    return Augmentation(evaluator.builder.build(), targets, values)


def columns_of(train: tree.Train) -> dict[str, tree.Name]:
    """For each input that the `augment` of a `train` makes as a view, the name of the column that it shows."""
    found: dict[str, tree.Name] = {}
    for statement in () if train.augment is None else train.augment.statements:
        if isinstance(statement, tree.View) and (column := first_name(statement.value)) is not None:
            found |= dict.fromkeys((name.id for name in statement.names), found.get(column.id, column))
    return found


def _seen(model: ModelRecord, targets: Sequence[InputSpec]) -> Iterator[InputSpec]:
    """Inputs and targets. A column that only views show is no input of the model."""
    of_views = {column.span for column in model.columns.values()}
    yield from (s for s in model.inputs if s.name not in model.views and s.span not in of_views)
    yield from model.views.values()
    yield from targets


def _place_of(block: tree.Block, name: str) -> Span:
    """The last statement that assigns `name`."""
    assigned = [
        statement
        for statement in block.statements
        if (isinstance(statement, tree.Assign) and any(target.id == name for target in statement.targets))
        or (isinstance(statement, tree.View) and any(target.id == name for target in statement.names))
    ]
    return assigned[-1].span if assigned else block.span


def _checked(evaluator: Evaluator, spec: InputSpec, value: object, place: Span) -> TensorValue:
    """The augmented form of an input or target, which the model or the loss can take in its stead."""
    if not isinstance(value, TensorValue):
        raise Poisoned
    if not spec.is_target and value.value.type != spec.type:
        message = f"`augment` makes {shown(evaluator, value)} of the input `{spec.name}: {spec.type}`"
        advice = hint(f"`cast(…, {spec.name})` gives the element type of `{spec.name}`; the shape stays as it is")
        raise failure("E0613", message, place, Note("the input is declared here", spec.span), advice)
    if not value.shape or value.shape[0] != BatchExtent():
        raise failure(
            "E0613",
            f"the first dimension of the target `{spec.name}` is `batch`, but `augment` makes {describe(value)} of it",
            place,
        )
    return value
