"""`param` and `state`: their specifications for the runtime, and their values in a graph."""

from __future__ import annotations

from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.axes import Axis
from compiler.frontend.elaborator import Elaborator, joined
from compiler.frontend.failures import Poisoned, failure
from compiler.frontend.program import ParameterSpec
from compiler.frontend.tensors.binding import declared_type
from compiler.frontend.tensors.operators import cast, scalar, spread
from compiler.frontend.tensors.shapes import shown
from compiler.frontend.values import FormValue, Poison, RunTimeNumber, TensorValue, Value, describe
from compiler.graph import ir
from compiler.graph.ir import Role
from compiler.syntax import tree
from compiler.types import TensorType, depends_on_batch


def declare_parameter(elaborator: Elaborator, statement: tree.ParamDeclaration) -> TensorValue:
    """The value of a parameter of the layer or model whose body is running."""
    elaborator.span = statement.span
    _expect_owner(elaborator, "param", statement.name)
    type_, axes = declared_type(elaborator, statement.annotation)
    elaborator.span = statement.span
    if not type_.dtype.is_float:
        elaborator.fail("E0416", f"a parameter holds floats, and `{statement.name}` is {type_}")
    return TensorValue(_tensor(elaborator, statement, Role.PARAMETER, type_), axes)


def declare_state(elaborator: Elaborator, statement: tree.StateDeclaration) -> TensorValue:
    """The value of a state; in an optimizer, its shape defaults to that of `p`, in a schedule it is a number."""
    elaborator.span = statement.span
    if elaborator.frame.keyword in ("optimizer", "schedule"):
        return elaborator.declare_optimizer_state(statement)
    _expect_owner(elaborator, "state", statement.name)
    if statement.annotation is None:
        elaborator.fail("E0415", f"the state `{statement.name}` needs a type", hint("such as `state s: [n] = zeros`"))
    type_, axes = declared_type(elaborator, statement.annotation)
    elaborator.span = statement.span
    path = _path(elaborator, statement.name)
    elaborator.frame.states[statement.name] = path
    _tensor(elaborator, statement, Role.STATE, type_)
    return TensorValue(elaborator.state(path), axes)


def _expect_owner(elaborator: Elaborator, keyword: str, name: str) -> None:
    frame = elaborator.frame
    if not frame.makes_instances:
        elaborator.fail("E0205", f"`{keyword} {name}` stands in the {frame.keyword} `{frame.name}`, which owns nothing")


def _path(elaborator: Elaborator, name: str) -> str:
    return joined(elaborator.frame.path, name, *map(str, elaborator.frame.rounds))


def _tensor(
    elaborator: Elaborator, statement: tree.ParamDeclaration | tree.StateDeclaration, role: Role, type_: TensorType
) -> ir.Value:
    path = _path(elaborator, statement.name)
    known = elaborator.session.parameters.get(path)
    if known is None:
        _declare(elaborator, statement, path, role, type_)
    elif known.type != type_:
        elaborator.fail(
            "E0502",
            f"`{path}` is shared with an earlier application of this layer, where it is {known.type}; here it would be "
            f"{type_}",
            hint("apply a layer of its own here: `fresh(layer)`"),
        )
    elif known.span != statement.span:
        elaborator.fail("E0507", f"`{path}` is declared twice", Note("first declared here", known.span))
    return elaborator.input(path, role, type_)


def _declare(
    elaborator: Elaborator,
    statement: tree.ParamDeclaration | tree.StateDeclaration,
    path: str,
    role: Role,
    type_: TensorType,
) -> None:
    if depends_on_batch(type_.shape):
        elaborator.fail(
            "E0410",
            f"`{statement.name}` is {type_}, but a tensor that is saved with the model cannot depend on the batch",
            hint("give it sizes that are known before the program runs"),
            span=statement.annotation.span if statement.annotation else statement.span,
        )
    if 0 in type_.shape:
        elaborator.fail(
            "E0413", f"`{path}` would be {type_}, which has no elements", hint("make the axis at least 1 long")
        )
    value = elaborator.evaluate_initializer(statement.initializer)
    if isinstance(value, Poison):
        raise Poisoned
    initializer = elaborator.initializer_graph(path, type_, value, statement.initializer.span)
    if isinstance(value, FormValue):
        elaborator.session.trace.initializers[path] = value
    elaborator.session.parameters[path] = ParameterSpec(
        path, role, type_, initializer, statement.span, elaborator.frame.calls
    )


def update_state(elaborator: Elaborator, statement: tree.StateUpdate) -> None:
    """`mean <- value`: seen by the next application."""
    frame, name = elaborator.frame, statement.target.id
    path = frame.states.get(name)
    if path is None:
        raise failure(
            "E0503", f"`<-` gives a `state` its next value, and `{name}` is not a state here", statement.target.span
        )
    if not elaborator.training:
        raise failure(
            "E0503",
            f"`{name} <- …` would change a state during inference",
            statement.span,
            hint("put it under `if training { … }`"),
        )
    old = frame.variables[name]
    value = elaborator.evaluate(statement.value)
    elaborator.span = statement.span
    if isinstance(old, Poison) or isinstance(value, Poison):
        raise Poisoned
    assert isinstance(old, TensorValue)
    frame.pending[path] = like(elaborator, f"`{name}`", old.value.type, old.axes, value, statement.value.span).value


def like(
    elaborator: Elaborator, what: str, type_: TensorType, axes: tuple[Axis, ...], value: Value, span: Span
) -> TensorValue:
    """A new value of a state: a number, or a tensor of the same type."""
    if isinstance(value, (RunTimeNumber, int, float)):
        return TensorValue(spread(elaborator, scalar(elaborator, value, type_.dtype), type_.shape), axes)
    if not isinstance(value, TensorValue):
        elaborator.fail("E0503", f"{what} is a tensor; {describe(value)} cannot be its next value", span=span)
    is_wider = type_.dtype.is_float and not value.dtype.is_float
    if value.shape != type_.shape or (value.dtype is not type_.dtype and not is_wider):
        elaborator.fail(
            "E0503",
            f"{what} is {type_}, and keeps its type; the next value is {shown(elaborator, value)}",
            span=span,
        )
    return TensorValue(cast(elaborator, value, type_.dtype).value, axes)


def assign_state(elaborator: Elaborator, target: tree.Name, value: Value, span: Span) -> Value:
    """Plain assignment to a state: the update of an optimizer's or a schedule's, a mistake elsewhere."""
    if elaborator.frame.keyword not in ("optimizer", "schedule"):
        raise failure(
            "E0503",
            f"`{target.id}` is a state of this layer, which `=` does not change",
            target.span,
            hint(f"`{target.id} <- …` gives it its next value"),
        )
    old = elaborator.frame.variables[target.id]
    if isinstance(old, Poison) or isinstance(value, Poison):
        return value
    assert isinstance(old, TensorValue)
    elaborator.span = span
    new = like(elaborator, f"`{target.id}`", old.value.type, old.axes, value, span)
    return old if elaborator.keeps_states else new
