"""The values of a `scan`: its emitted stacks and its carries, and both where a mask leaves steps out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.builtins.reductions import aligned, is_placed_by_names
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.failures import Poisoned, failure
from compiler.frontend.tensors.operators import choose, scalar, spread, with_unit_axes
from compiler.frontend.tensors.shapes import broadcast, origin_notes, shown
from compiler.frontend.values import BatchValue, Poison, RunTimeNumber, TensorValue, TupleValue, Value, describe
from compiler.ops.control import StopGradient
from compiler.syntax import tree
from compiler.syntax.walk import statements_of
from compiler.types import DType


def known(elaborator: Elaborator, expression: tree.Expression) -> Value:
    """The value of an expression, which messages then show."""
    value = elaborator.evaluate(expression)
    elaborator.span = expression.span
    return value


def emit(elaborator: Elaborator, expressions: Sequence[tree.Expression], span: Span) -> None:
    """`emit a, b`: each value of this step goes onto a stack of its own."""
    if not elaborator.scans or elaborator.scans[-1].frame is not elaborator.frame:
        raise failure("E0205", "`emit` stands in the body of a `scan`, and this is none", span)
    for expression in expressions:
        value = known(elaborator, expression)
        elaborator.scans[-1].emitted += leaves(elaborator, value, "the emitted value")


def leaves(elaborator: Elaborator, value: Value, what: str) -> list[TensorValue]:
    """The tensors in a tensor, a number, or a list of such."""
    match value:
        case TensorValue():
            return [value]
        case bool():
            return [scalar(elaborator, value, DType.BOOL)]
        case int():
            return [scalar(elaborator, value, DType.I32)]
        case float() | RunTimeNumber() | BatchValue():
            return [scalar(elaborator, value, DType.F32)]
        case tuple() | TupleValue():
            items = value.items if isinstance(value, TupleValue) else value
            return [leaf for item in items for leaf in leaves(elaborator, item, what)]
        case _:
            elaborator.fail("E0312", f"{what} is a tensor or a list of tensors, not {describe(value)}")


def rebuilt(value: Value, tensors: Iterator[TensorValue]) -> Value:
    """`value` with other tensors in the places of its `leaves`."""
    if isinstance(value, TupleValue):
        return TupleValue(tuple(rebuilt(item, tensors) for item in value.items))
    return tuple(rebuilt(item, tensors) for item in value) if isinstance(value, tuple) else next(tensors)


def next_carry(elaborator: Elaborator, scan: tree.Scan, carry: tree.Carry, old: Value, new: Value) -> list[TensorValue]:
    """The tensors that the next step gets, which have the types of those that this one got."""
    if isinstance(new, Poison):
        raise Poisoned
    elaborator.span = _last_assignment(scan, carry)
    before = leaves(elaborator, old, f"the carry `{carry.name}`")
    after = _like(elaborator, carry, before, new)
    found: list[TensorValue] = []
    for first, then in zip(before, after, strict=True):
        if first.value.type != then.value.type:
            _changed_type(elaborator, carry, first, then)
        _, axes = broadcast(elaborator, f"carry {carry.name}", first, then)
        found.append(TensorValue(then.value, axes))
    return found


def _like(elaborator: Elaborator, carry: tree.Carry, before: list[TensorValue], new: Value) -> list[TensorValue]:
    if len(before) == 1 and isinstance(new, int | float | RunTimeNumber):
        (first,) = before
        return [TensorValue(spread(elaborator, scalar(elaborator, new, first.dtype), first.shape), first.axes)]
    after = leaves(elaborator, new, f"the next value of the carry `{carry.name}`")
    if len(after) != len(before):
        message = f"the carry `{carry.name}` is {_counted(before)}, but its next value is {_counted(after)}"
        elaborator.fail("E0420", message, Note("it starts here", carry.span))
    return after


def _counted(tensors: Sequence[TensorValue]) -> str:
    return "one tensor" if len(tensors) == 1 else f"{len(tensors)} tensors"


def _changed_type(elaborator: Elaborator, carry: tree.Carry, first: TensorValue, then: TensorValue) -> None:
    if first.dtype is not then.dtype:
        advice = f"start it as {then.dtype.value}, or convert the result of the step: `cast(…, {first.dtype.value})`"
    else:
        advice = "give the initial value the shape that every step gives, such as `zeros(batch, units)`"
    elaborator.fail(
        "E0420",
        f"the carry `{carry.name}` is {shown(elaborator, first)} and keeps its type, but its next value is "
        f"{shown(elaborator, then)}",
        Note("it starts here", carry.span),
        *origin_notes(elaborator, *zip(then.shape, then.axes, strict=True)),
        hint(advice),
    )


def _last_assignment(scan: tree.Scan, carry: tree.Carry) -> Span:
    """Where the body gives a carry its next value."""
    place = carry.span
    for statement in statements_of(scan.body):
        if isinstance(statement, tree.Assign) and any(target.id == carry.name for target in statement.targets):
            place = statement.span
    return place


def cut_gradient(elaborator: Elaborator, cut: TensorValue | None, value: Value) -> Value:
    """A carry as it is; no gradient flows to the step before where `cut`, a scalar, says so."""
    if cut is None:
        return value

    def stopped(tensor: TensorValue) -> TensorValue:
        constant = TensorValue(elaborator.emit(StopGradient(), tensor.value), tensor.axes)
        return choose(elaborator, cut, constant, tensor)

    return rebuilt(value, map(stopped, leaves(elaborator, value, "")))


def chosen(elaborator: Elaborator, mask: TensorValue, tensor: TensorValue, other: TensorValue | None) -> TensorValue:
    """The tensor where the mask of a step holds; elsewhere the other one, or 0."""
    if other is None:
        other = scalar(elaborator, 0, tensor.dtype)
    return choose(elaborator, _over(elaborator, mask, tensor), tensor, other)


def _over(elaborator: Elaborator, mask: TensorValue, tensor: TensorValue) -> TensorValue:
    """The mask with unit axes, so that it spreads over a tensor: by its names, or else over its leading axes."""
    if is_placed_by_names(mask, tensor):
        return aligned(elaborator, mask, tensor)
    if mask.shape != tensor.shape[: mask.rank]:
        elaborator.fail(
            "E0401",
            f"the mask of a step is {shown(elaborator, mask)}, which chooses no rows of {shown(elaborator, tensor)}",
            hint("its axes are the first of a carry or an emitted value: [batch, time] for a carry [batch, units]"),
        )
    return with_unit_axes(elaborator, mask, range(mask.rank, tensor.rank))
