"""A model elaborated once, for training or for inference: its inputs, outputs, parameters and states in one graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.bodies.instances import ordinals_in
from compiler.frontend.bodies.setting_binding import Keywords
from compiler.frontend.bodies.statements import run_body
from compiler.frontend.elaborator import Frame, ModelRecord, Session
from compiler.frontend.scope import ModuleScope
from compiler.frontend.values import LayerInstance, Value
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Role
from compiler.syntax import tree

_Kind = TypeVar("_Kind", bound=Evaluator)


def start(
    session: Session,
    model: tree.Model,
    scope: ModuleScope,
    name: str,
    training: bool,
    kind: type[_Kind],
    columns: Mapping[str, tree.Name] | None = None,
) -> _Kind:
    """An evaluator of a kind with the frame of a model, whose settings are not bound yet.

    Some inputs may be views of columns.
    """
    frame = Frame(scope, "model", model.name, session.new_scope(), application="#0")
    frame.ordinals = ordinals_in(scope, model)
    evaluator = kind(session, GraphBuilder(name), frame, training)
    evaluator.model = ModelRecord(columns=columns or {})
    evaluator.span = model.head
    return evaluator


def bind_model_settings(
    evaluator: Evaluator, model: tree.Model, scope: ModuleScope, keywords: Keywords, caller: Frame
) -> None:
    """The settings of a model, from `train` and the command line; a layer among them has the setting's name as path."""
    session = evaluator.session
    signature = session.signature(model, scope)
    frame, evaluator.frame = evaluator.frame, caller
    values: dict[str, Value] = evaluator.bind_settings(signature, scope, (), keywords, prefix="")
    evaluator.frame = frame
    frame.variables.update(values)
    for name, value in values.items():
        if isinstance(value, LayerInstance) and value.path is None:
            value.place = name


def run_model(evaluator: Evaluator, model: tree.Model) -> None:
    """Evaluate the body; the outputs and new states become outputs of the graph."""
    run_body(evaluator, model.body)
    evaluator.states.update(evaluator.frame.pending)


def add_outputs(evaluator: Evaluator) -> None:
    """The model's outputs and each state that changed, as outputs of the graph."""
    record = evaluator.model
    assert record is not None
    for name, tensor in record.outputs.items():
        evaluator.builder.output(name, Role.OUTPUT, tensor.value)


def add_states(evaluator: Evaluator, frozen: frozenset[str] = frozenset()) -> None:
    """Each state that a `<-` changed updates the input of its name; a frozen one keeps its value."""
    for path, value in evaluator.states.items():
        if path not in frozen:
            evaluator.builder.output(path, Role.STATE, value, updates=path)
