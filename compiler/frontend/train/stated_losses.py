"""Losses that layers and models state: the total of each by its name, and `loss` with all of them, weighed."""

from __future__ import annotations

import math
from collections.abc import Mapping

from compiler.errors.diagnostics import hint
from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.failures import Report, failure, nearest
from compiler.frontend.settings import COMMAND_LINE
from compiler.frontend.tensors.operators import binary, cast
from compiler.frontend.train.metrics import reserved_names
from compiler.frontend.values import RunTimeNumber, TensorValue, Value, describe, is_number
from compiler.syntax import tree

KEY = "auxiliary"


def totals_of(evaluator: Evaluator, report: Report) -> dict[str, TensorValue]:
    """The sum of what all applications and rounds state, for each name; a name that is taken is recorded as a mistake.

    Totals have their names where metrics stand, in records and tables.
    """
    assert evaluator.model is not None
    stated = evaluator.model.losses
    reserved = reserved_names(tuple(stated))
    totals: dict[str, TensorValue] = {}
    for name, loss in stated.items():
        if name in evaluator.model.outputs:
            report.mistake("E0202", f"the model has an output `{name}` already", loss.place, hint("use another name"))
        elif name in reserved:
            message = f"a loss cannot be called `{name}`: records of a training have a field of that name"
            report.mistake("E0202", message, loss.place, hint("use another name"))
        else:
            evaluator.span = loss.place
            total = loss.values[0]
            for value in loss.values[1:]:
                total = binary(evaluator, "+", total, value)
            totals[name] = total
    return totals


def expect_same_losses(training: Evaluator, other: Evaluator, report: Report) -> None:
    """Record the losses that one of two programs of a model has, and not the other."""
    assert training.model is not None
    assert other.model is not None
    losses, others = training.model.losses, other.model.losses
    for name in losses.keys() ^ others.keys():
        message = f"the loss `{name}` would exist in {'training' if name in losses else 'inference'} only"
        advice = hint("state it on every way, with 0 times a value where it does not count")
        report.mistake("E0504", message, (losses | others)[name].place, advice)


def with_stated_losses(
    evaluator: Evaluator, loss: TensorValue, totals: Mapping[str, TensorValue], auxiliary: tree.Expression | None
) -> TensorValue:
    """`loss` plus each total times its weight. Raises Failure."""
    assert evaluator.model is not None
    written = _written(auxiliary, evaluator.model.losses)
    for name, total in totals.items():
        weight = _weight(evaluator, name, written.get(name))
        if isinstance(weight, int | float) and weight == 0:
            continue
        evaluator.span = evaluator.model.losses[name].place
        term = total if isinstance(weight, int | float) and weight == 1 else binary(evaluator, "*", total, weight)
        loss = binary(evaluator, "+", loss, cast(evaluator, term, loss.dtype))
    return loss


def _written(auxiliary: tree.Expression | None, stated: Mapping[str, object]) -> dict[str, tree.Expression]:
    """The weights in the text, each of which is that of a loss."""
    if auxiliary is None:
        return {}
    if not isinstance(auxiliary, tree.ByName):
        advice = hint("write `auxiliary = {name: 0.01}`; on the command line, `--set auxiliary.name=0.01`")
        raise failure("E0603", "`auxiliary` has a weight for each name of a loss", auxiliary.span, advice)
    weights: dict[str, tree.Expression] = {}
    for item in auxiliary.items:
        if item.name in weights:
            raise failure("E0603", f"the weight of `{item.name}` is given twice", item.span)
        if item.name not in stated:
            known = f"there are {', '.join(stated)}" if stated else "`loss name = …` in a layer or model states one"
            notes = nearest(item.name, tuple(stated)) or (hint(known),)
            raise failure("E0618", f"the model states no loss `{item.name}`", item.span, *notes)
        weights[item.name] = item.value
    return weights


def _weight(evaluator: Evaluator, name: str, written: tree.Expression | None) -> Value:
    """The weight of a loss, recorded as a setting: of the command line, of the text, or 1.

    It is passed at run time, unless it is 0 or left out.
    """
    full = f"{KEY}.{name}"
    settings = evaluator.session.settings
    override = settings.take(full)
    expression, origin = (written, "train") if override is None else (override.as_expression, COMMAND_LINE)
    if expression is None:
        settings.record(full, 1.0, "default")
        return 1.0
    evaluator.span = expression.span
    value = evaluator.evaluate(expression)
    if not is_number(value) or (isinstance(value, int | float) and not math.isfinite(value)):
        message = f"the weight of the loss `{name}` is a finite number, not {describe(value)}"
        raise failure("E0603", message, expression.span)
    if isinstance(value, int | float) and value != 0:
        value = RunTimeNumber(full, float(value), frozenset({full}))
    settings.record(full, value, origin)
    return value
