"""The losses of a `train`: scalars of the text, and the penalties of parameters that training adds to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.errors.diagnostics import Span, hint
from compiler.frontend.axes import Axis
from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.bodies.setting_binding import ready
from compiler.frontend.failures import Poisoned, failure
from compiler.frontend.program import ParameterSpec
from compiler.frontend.scope import Namespace
from compiler.frontend.tensors.operators import arithmetic, real, scalar
from compiler.frontend.tensors.shapes import shown
from compiler.frontend.train.entries import Keys
from compiler.frontend.train.patterns import select_parameters, selector_of, without_keywords
from compiler.frontend.values import FormValue, TensorValue, describe, is_number
from compiler.graph.ir import Role
from compiler.syntax import tree
from compiler.types import TensorType


def loss_of(evaluator: Evaluator, keys: Keys) -> TensorValue:
    """The value of `loss`. Raises Failure and Poisoned."""
    expression = keys.expression("loss")
    if expression is None:
        raise Poisoned
    if isinstance(expression, tree.NoneLiteral):
        advice = hint(
            "give a value to make small, such as `loss = mse(y, target)`; several losses stand in `update` blocks"
        )
        raise failure("E0604", "a training has a loss, so it cannot be `none`", expression.span, advice)
    loss = scalar_of(evaluator, "E0604", "`loss`", expression)
    if evaluator.directions.get(loss.value.index):
        advice = hint(
            "write a value that training should minimise, such as a cross-entropy, or the negative of this one"
        )
        raise failure(
            "E0604", "training makes `loss` small, and a large value of this is good", expression.span, advice
        )
    return loss


def scalar_of(evaluator: Evaluator, code: str, what: str, expression: tree.Expression) -> TensorValue:
    """The value of an expression, a scalar of floats. Raises Failure with `code`."""
    evaluator.span = expression.span
    value = evaluator.evaluate(expression)
    if not isinstance(value, TensorValue):
        raise failure(code, f"{what} must be a scalar tensor, not {describe(value)}", expression.span)
    if value.rank:
        message = f"{what} must be a scalar, but has the type {shown(evaluator, value)}"
        raise failure(code, message, expression.span, hint("`mean(…)` or `sum(…)` reduces it to one number"))
    evaluator.span = expression.span
    number = real(evaluator, value)
    if number is not value and value.value.index in evaluator.directions:
        evaluator.directions[number.value.index] = evaluator.directions[value.value.index]
    return number


def with_penalties(
    evaluator: Evaluator,
    loss: TensorValue,
    keys: Keys,
    trained: Sequence[ParameterSpec],
    selectable: Mapping[str, TensorType],
) -> TensorValue:
    """A training loss plus each penalty of each `trained` parameter that its `on` selects among the `selectable`."""
    value = keys.expression("penalty")
    if value is None:
        return loss
    items = value.items if isinstance(value, tree.ListLiteral) else (value,)
    for number, item in enumerate(items):
        prefix = keys.prefix + ("penalty" if len(items) == 1 else f"penalty.{number}")
        on, form = _selective(evaluator, Namespace.PENALTY, item, prefix)
        selected = select_parameters(on, selectable, "on", item.span)
        for path in (spec.path for spec in trained if spec.path in selected):
            loss = _plus_penalty(evaluator, loss, form, path, item.span)
    return loss


def _plus_penalty(evaluator: Evaluator, loss: TensorValue, form: FormValue, path: str, span: Span) -> TensorValue:
    spec = evaluator.session.parameters[path]
    parameter = TensorValue(evaluator.input(path, Role.PARAMETER, spec.type), tuple(Axis() for _ in spec.type.shape))
    evaluator.span = span
    value = evaluator.apply(form, (ready(parameter, span),), ())
    evaluator.span = span
    if is_number(value):
        value = scalar(evaluator, value, loss.dtype)
    if not isinstance(value, TensorValue) or value.rank:
        raise failure("E0604", f"a penalty must be a scalar, not {describe(value)}", span)
    total = arithmetic(evaluator, "+", loss, value)
    assert isinstance(total, TensorValue)
    return total


def _selective(
    evaluator: Evaluator, namespace: Namespace, expression: tree.Expression, prefix: str
) -> tuple[tuple[str, ...], FormValue]:
    """A form without its universal setting `on`, and the parameters that `on` selects."""
    expression, given = without_keywords(expression, ("on",))
    patterns: tuple[str, ...] = ("*",)
    if "on" in given:
        patterns = selector_of(given["on"], "on", evaluator.evaluate)
    evaluator.span = expression.span
    return patterns, evaluator.evaluate_key(namespace, expression, prefix)
