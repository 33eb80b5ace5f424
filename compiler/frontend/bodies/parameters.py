"""`param` and `state`: their specifications for the runtime, and their values in a graph."""

from __future__ import annotations

from compiler.diagnostics import Note, Span, hint
from compiler.frontend.failures import Poisoned, failure
from compiler.frontend.machine import Machine, joined
from compiler.frontend.program import ParameterSpec
from compiler.frontend.tensors.binding import declared_type
from compiler.frontend.tensors.operators import cast, scalar, spread
from compiler.frontend.tensors.shapes import shown
from compiler.frontend.values import Axis, FormValue, Poison, RunTimeNumber, TensorValue, Value, describe
from compiler.graph import ir
from compiler.graph.ir import Role
from compiler.syntax import tree
from compiler.types import TensorType, depends_on_batch


def declare_parameter(machine: Machine, statement: tree.ParamDeclaration) -> TensorValue:
    """The value of a parameter of the layer or model whose body is running."""
    machine.span = statement.span
    _expect_owner(machine, "param", statement.name)
    type_, axes = declared_type(machine, statement.annotation)
    machine.span = statement.span
    if not type_.dtype.is_float:
        machine.fail("E0416", f"a parameter holds floats, and `{statement.name}` is {type_}")
    return TensorValue(_tensor(machine, statement, Role.PARAMETER, type_), axes)


def declare_state(machine: Machine, statement: tree.StateDeclaration) -> TensorValue:
    """The value of a state; in an optimizer, its shape defaults to that of `p`, in a schedule it is a number."""
    machine.span = statement.span
    if machine.frame.keyword in ("optimizer", "schedule"):
        return machine.declare_optimizer_state(statement)
    _expect_owner(machine, "state", statement.name)
    if statement.annotation is None:
        machine.fail("E0415", f"the state `{statement.name}` needs a type", hint("such as `state s: [n] = zeros`"))
    type_, axes = declared_type(machine, statement.annotation)
    machine.span = statement.span
    path = _path(machine, statement.name)
    machine.frame.states[statement.name] = path
    _tensor(machine, statement, Role.STATE, type_)
    return TensorValue(machine.state(path), axes)


def _expect_owner(machine: Machine, keyword: str, name: str) -> None:
    frame = machine.frame
    if not frame.makes_instances:
        machine.fail("E0205", f"`{keyword} {name}` stands in the {frame.keyword} `{frame.name}`, which owns nothing")


def _path(machine: Machine, name: str) -> str:
    return joined(machine.frame.path, name, *map(str, machine.frame.rounds))


def _tensor(
    machine: Machine, statement: tree.ParamDeclaration | tree.StateDeclaration, role: Role, type_: TensorType
) -> ir.Value:
    path = _path(machine, statement.name)
    known = machine.session.parameters.get(path)
    if known is None:
        _declare(machine, statement, path, role, type_)
    elif known.type != type_:
        machine.fail(
            "E0502",
            f"`{path}` is shared with an earlier application of this layer, where it is {known.type}; here it would be "
            f"{type_}",
            hint("apply a layer of its own here: `fresh(layer)`"),
        )
    elif known.span != statement.span:
        machine.fail("E0507", f"`{path}` is declared twice", Note("first declared here", known.span))
    return machine.input(path, role, type_)


def _declare(
    machine: Machine,
    statement: tree.ParamDeclaration | tree.StateDeclaration,
    path: str,
    role: Role,
    type_: TensorType,
) -> None:
    if depends_on_batch(type_.shape):
        machine.fail(
            "E0410",
            f"`{statement.name}` is {type_}, but what is saved with the model cannot depend on the batch",
            hint("give it sizes that are known before the program runs"),
            span=statement.annotation.span if statement.annotation else statement.span,
        )
    if 0 in type_.shape:
        machine.fail(
            "E0413", f"`{path}` would be {type_}, which has no elements", hint("make the axis at least 1 long")
        )
    value = machine.evaluate_initializer(statement.initializer)
    if isinstance(value, Poison):
        raise Poisoned
    initializer = machine.initializer_graph(path, type_, value, statement.initializer.span)
    if isinstance(value, FormValue):
        machine.session.trace.initializers[path] = value
    machine.session.parameters[path] = ParameterSpec(
        path, role, type_, initializer, statement.span, machine.frame.calls
    )


def update_state(machine: Machine, statement: tree.StateUpdate) -> None:
    """`mean <- value`: seen by the next application."""
    frame, name = machine.frame, statement.target.id
    path = frame.states.get(name)
    if path is None:
        raise failure(
            "E0503", f"`<-` gives a `state` its next value, and `{name}` is not a state here", statement.target.span
        )
    if not machine.training:
        raise failure(
            "E0503",
            f"`{name} <- …` would change a state during inference",
            statement.span,
            hint("put it under `if training { … }`"),
        )
    old = frame.variables[name]
    value = machine.evaluate(statement.value)
    machine.span = statement.span
    if isinstance(old, Poison) or isinstance(value, Poison):
        raise Poisoned
    assert isinstance(old, TensorValue)
    frame.pending[path] = like(machine, f"`{name}`", old.value.type, old.axes, value, statement.value.span).value


def like(
    machine: Machine, what: str, type_: TensorType, axes: tuple[Axis, ...], value: Value, span: Span
) -> TensorValue:
    """A new value of a state: a number, or a tensor of the same type."""
    if isinstance(value, (RunTimeNumber, int, float)):
        return TensorValue(spread(machine, scalar(machine, value, type_.dtype), type_.shape), axes)
    if not isinstance(value, TensorValue):
        machine.fail("E0503", f"{what} is a tensor; {describe(value)} cannot be its next value", span=span)
    is_wider = type_.dtype.is_float and not value.dtype.is_float
    if value.shape != type_.shape or (value.dtype is not type_.dtype and not is_wider):
        machine.fail(
            "E0503",
            f"{what} is {type_}, and keeps its type; the next value is {shown(machine, value)}",
            span=span,
        )
    return TensorValue(cast(machine, value, type_.dtype).value, axes)


def assign_state(machine: Machine, target: tree.Name, value: Value, span: Span) -> Value:
    """Plain assignment to a state: the update of an optimizer's or a schedule's, a mistake elsewhere."""
    if machine.frame.keyword not in ("optimizer", "schedule"):
        raise failure(
            "E0503",
            f"`{target.id}` is a state of this layer, which `=` does not change",
            target.span,
            hint(f"`{target.id} <- …` gives it its next value"),
        )
    old = machine.frame.variables[target.id]
    if isinstance(old, Poison) or isinstance(value, Poison):
        return value
    assert isinstance(old, TensorValue)
    machine.span = span
    new = like(machine, f"`{target.id}`", old.value.type, old.axes, value, span)
    return old if machine.keeps_states else new
