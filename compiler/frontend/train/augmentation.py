"""`augment`: the changes that training makes to samples before the model, elaborated into a graph of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.axes import Axis
from compiler.frontend.bodies.declared_tensors import declare_input
from compiler.frontend.bodies.evaluate import Evaluator
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
from compiler.ops.movement import Transpose
from compiler.ops.sources import Constant, Iota, Threefry
from compiler.ops.spreading import Broadcast, Reshape
from compiler.support.record import record
from compiler.syntax import tree
from compiler.syntax.walk import first_name
from compiler.types import BatchExtent, DType, Shape, TensorType, batch_axis, static_elements

_NUMBER = TensorType(DType.I64)
_NUMBERS = TensorType(DType.I64, (BatchExtent(),))


@record
class Augmentation:
    """The graph, from the inputs and targets as the data has them to those that change, and all of them afterwards."""

    graph: Graph
    targets: tuple[InputSpec, ...]
    values: dict[str, TensorValue]


class SampleEvaluator(Evaluator):
    """Draws belong to a sample in an epoch: they are the same in any batch, and whatever was trained before."""

    def draw(self, shape: Shape) -> ir.Value:
        stream = self.emit(Constant(self.next_stream() << 32, DType.I64))
        epoch = self.emit(Add(), self.input(EPOCH_NUMBER, Role.DATA, _NUMBER), stream)
        key = self.emit(Threefry(DType.I64), self.input("seed", Role.SEED, _NUMBER), epoch)
        axis = batch_axis(shape)
        flat: Shape = (static_elements(shape),)
        if axis is not None:
            flat = (BatchExtent(), *flat)
            rows = self.input(SAMPLE_NUMBERS, Role.DATA, _NUMBERS)
            key = self.emit(Threefry(DType.I64), self.emit(Broadcast(rows.type.shape, ()), key), rows)
        keys = self.emit(Broadcast(flat, tuple(range(key.type.rank))), key)
        drawn = self.emit(Threefry(DType.F32), keys, self.emit(Iota(flat, len(flat) - 1, DType.I64)))
        return self.emit(Reshape(shape), drawn) if not axis else self._placed(drawn, shape, axis)

    def _placed(self, drawn: ir.Value, shape: Shape, axis: int) -> ir.Value:
        """Draws with the batch first, where the shape has it."""
        first = (shape[axis], *shape[:axis], *shape[axis + 1 :])
        order = (*range(1, axis + 1), 0, *range(axis + 1, len(shape)))
        return self.emit(Transpose(order), self.emit(Reshape(first), drawn))


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
