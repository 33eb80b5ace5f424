"""`sample`: programs over a trained model that make new rows, each of the seed and its number alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

from compiler.errors.diagnostics import Note, hint
from compiler.frontend.axes import Axis
from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.bodies.model import add_outputs, run_model
from compiler.frontend.bodies.row_draws import NUMBERS, RowEvaluator
from compiler.frontend.bodies.statements import run_body
from compiler.frontend.elaborator import Frame, ModelRecord, Session
from compiler.frontend.failures import Poisoned, failure
from compiler.frontend.program import ROW_NUMBERS, Sampler
from compiler.frontend.scope import Located, ModuleScope, as_layer
from compiler.frontend.tensors.shapes import shown
from compiler.frontend.values import LayerInstance, TensorValue, Value, holds_tensor
from compiler.graph import ir
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Role, needed_by
from compiler.ops.row_mixing import where_rows_meet
from compiler.ops.scan import Scan
from compiler.syntax import tree
from compiler.types import BatchExtent

ROW = "row"
"""The name in a `sample` that stands for the numbers of the rows."""


def samplers_of(session: Session, found: Located, model: tree.Model, begun: Begun) -> tuple[Sampler, ...]:
    """The samplers of a model; those with mistakes are left out, and these recorded.

    `begun` gives an evaluator of that name and kind, in which the model has its settings.
    """
    if session.report.has_errors:
        return ()
    declared = session.samples.get(model.name, ())
    made = (session.report.attempt(_Sampling(session, *one, found, model, begun).sampler) for one in declared)
    return tuple(sampler for sampler in made if sampler is not None)


class SamplerEvaluator(RowEvaluator):
    """Evaluates the body of a `sample`, where `Model.part` is a part of the model with its trained tensors."""

    rows = ROW_NUMBERS

    def __init__(self, session: Session, builder: GraphBuilder, frame: Frame, training: bool) -> None:
        super().__init__(session, builder, frame, training)
        self.applies_trained = True
        self.model_name = ""
        self.parts: Mapping[str, Value] = {}

    def counter(self, stream: ir.Value) -> ir.Value:
        return stream

    def _attribute(self, expression: tree.Attribute) -> Value:
        owner = expression.value
        if self.frame.keyword != "sample" or not isinstance(owner, tree.Name) or owner.id != self.model_name:
            return super()._attribute(expression)
        return self._part(expression)

    def _part(self, expression: tree.Attribute) -> Value:
        """A layer, parameter or state of the model by its name in the model's body."""
        self.span = expression.span
        value = self.parts.get(expression.name)
        if expression.name not in self.parts:
            raise Poisoned  # the check of names has told
        if holds_tensor(value) and not self._lasts(value):
            self.fail(
                "E0632",
                f"`{expression.name}` is a tensor that `{self.model_name}` makes of inputs, and a `sample` has none",
                hint(f"apply a layer of the model, or all of it: `{self.model_name}(x)` gives its outputs"),
            )
        return value

    def _lasts(self, value: Value) -> bool:
        """Whether a value is a parameter or state of the model."""
        lasting = {entry.value for entry in self.builder.inputs if entry.role in (Role.PARAMETER, Role.STATE)}
        return isinstance(value, TensorValue) and value.value in lasting


Begun: TypeAlias = "Callable[[str, type[SamplerEvaluator]], SamplerEvaluator]"


class _Sampling:
    """One `sample` in the course of elaboration."""

    def __init__(
        self,
        session: Session,
        declaration: tree.Sample,
        scope: ModuleScope,
        found: Located,
        model: tree.Model,
        begun: Begun,
    ) -> None:
        self.session, self.declaration, self.scope = session, declaration, scope
        self.found, self.model, self.begun = found, model, begun

    def sampler(self) -> Sampler:
        if any(setting.default is None for setting in self.declaration.settings):
            raise Poisoned  # the check of names has told
        evaluator = self.begun(f"sample {self.declaration.name}", SamplerEvaluator)
        run_model(evaluator, self.model)
        trained = set(self.session.parameters)
        self._enter(evaluator)
        run_body(evaluator, self.declaration.body)
        self._expect_trained(trained)
        assert evaluator.model is not None
        if not evaluator.model.is_sound:
            raise Poisoned
        for output in evaluator.model.outputs.items():
            self._expect_rows(evaluator, *output)
        add_outputs(evaluator)
        graph = _needed(evaluator.builder.build())
        self._expect_apart(graph)
        return Sampler(self.declaration.name, graph, self.declaration.head)

    def _enter(self, evaluator: SamplerEvaluator) -> None:
        """From the body of the model to that of the `sample`, which sees settings, sizes, and the model by its name."""
        inside, name = evaluator.frame, self.declaration.name
        frame = Frame(self.scope, "sample", name, inside.scope, application="#sample")
        frame.dimensions, frame.dimension_origins = dict(inside.dimensions), inside.dimension_origins
        evaluator.frame, evaluator.span = frame, self.declaration.head
        evaluator.user_scopes.add(frame.scope)
        evaluator.model_name, evaluator.parts = self.model.name, dict(inside.variables)
        settings = {p.name: inside.variables[p.name] for p in self.model.settings}
        own = evaluator.bind_settings(self.session.signature(self.declaration, self.scope), self.scope, (), (), name)
        axis = Axis(frozenset({(frame.scope, "batch")}), self.declaration.head)
        rows = TensorValue(evaluator.input(ROW_NUMBERS, Role.DATA, NUMBERS), (axis,))
        whole = LayerInstance(as_layer(self.model), self.found.scope, settings, "", ("model",), path="")
        frame.variables = {ROW: rows, **settings, self.model.name: whole, **own}
        frame.dimensions.setdefault("batch", BatchExtent())
        evaluator.model = ModelRecord()

    def _expect_trained(self, known: set[str]) -> None:
        """All parameters are those of the model, as it is trained."""
        new = [spec for path, spec in self.session.parameters.items() if path not in known]
        if new:
            place = next((call for call in new[0].calls if call.source is self.declaration.span.source), new[0].span)
            message = f"nothing trains `{new[0].path}`: `{self.model.name}` never applies the layer that it belongs to"
            raise failure("E0632", message, place, hint("apply the layer in the body of the model, too"))

    def _expect_rows(self, evaluator: Evaluator, name: str, output: TensorValue) -> None:
        if output.shape[:1] != (BatchExtent(),):
            raise failure(
                "E0630",
                f"the output `{name}` of a `sample` has a part for each row, and this is {shown(evaluator, output)}",
                _place_of(self.declaration, name),
                hint("its first dimension is `batch`: begin with a draw such as `random(batch, 16)`"),
            )

    def _expect_apart(self, graph: Graph) -> None:
        """No row depends on another, or on its place in a batch: so samples are the same however they are grouped."""
        mixing = where_rows_meet(graph.nodes)
        if mixing is None:
            return
        place = (Note("here rows of a batch meet", mixing.origins[0].user_span),) if mixing.origins else ()
        raise failure(
            "E0631",
            f"a row of the `sample` `{self.declaration.name}` would depend on the rows beside it",
            self.declaration.head,
            *place,
            hint(
                f"a row is made of the seed and its number: `{ROW}` has the numbers, `arange(batch)` places in a batch"
            ),
        )


def _place_of(declaration: tree.Sample, name: str) -> tree.Span:
    """Where an output is declared."""
    outputs = (s for s in declaration.body.statements if isinstance(s, tree.OutputDeclaration))
    return next((n.span for s in outputs for n in s.names if n.id == name), declaration.head)


def _needed(graph: Graph) -> Graph:
    """The graph without the nodes, those of bodies too, and inputs on which no output depends.

    A `gradient` has also made the gradients of parameters, which nobody asked for: sums over rows.
    """
    found = _with_needed_nodes(graph)
    read = {operand.index for node in found.nodes for operand in node.operands}
    read |= {output.value.index for output in graph.outputs}
    return replace(found, inputs=tuple(i for i in graph.inputs if i.value.index in read))


def _with_needed_nodes(graph: Graph) -> Graph:
    nodes, _ = needed_by(graph.nodes, (output.value.index for output in graph.outputs))
    return replace(graph, nodes=tuple(map(_with_needed_body, nodes)))


def _with_needed_body(node: Node) -> Node:
    if not isinstance(node.op, Scan):
        return node
    return replace(node, op=replace(node.op, body=_with_needed_nodes(node.op.body)))


def names_of_parts(model: tree.Model) -> Iterator[str]:
    """The names in the body of a model that `Model.name` can stand for."""
    for statement in model.body.statements:
        match statement:
            case tree.Assign(targets):
                yield from (target.id for target in targets)
            case tree.ParamDeclaration(name) | tree.StateDeclaration(name):
                yield name
            case _:
                pass


def samples_of(session: Session) -> dict[str, tuple[tuple[tree.Sample, ModuleScope], ...]]:
    """The samplers of each model, in the order of the text; those of an imported file stand before."""
    found: dict[str, tuple[tuple[tree.Sample, ModuleScope], ...]] = {}
    own: dict[str, tree.Sample] = {}
    for module in session.modules:
        for declaration in module.declarations:
            if not isinstance(declaration, tree.Sample):
                continue
            earlier = own.setdefault(declaration.name, declaration)
            if earlier is not declaration:
                first = Note("the first one", earlier.head)
                message = f"there are two samplers `{declaration.name}`"
                session.report.mistake("E0202", message, declaration.head, first)
                continue
            listed = found.get(declaration.model.id, ())
            found[declaration.model.id] = (*listed, (declaration, session.scopes[module.source.name]))
    return found
