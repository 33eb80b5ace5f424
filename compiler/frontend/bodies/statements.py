"""Statements: the effect of each on its frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from compiler.errors.diagnostics import Span, hint
from compiler.frontend.bodies.bindings import record_binding
from compiler.frontend.bodies.declared_tensors import (
    assign_state,
    declare_input,
    declare_loss,
    declare_output,
    declare_parameter,
    declare_state,
    unpacked,
    update_state,
)
from compiler.frontend.bodies.expected_work import refuse_endless_loop
from compiler.frontend.bodies.instances import settle_all
from compiler.frontend.bodies.scan_values import emit
from compiler.frontend.builtins.functions import judge
from compiler.frontend.elaborator import MAXIMUM_ROUNDS, Elaborator
from compiler.frontend.failures import Failure, Poisoned, failure
from compiler.frontend.values import POISON, BatchValue, RunTimeNumber, TensorValue, TupleValue, Value, describe
from compiler.syntax import tree
from compiler.syntax.walk import is_requirement, statements_of


def run_body(elaborator: Elaborator, body: tree.Block) -> Value:
    """Run the body of a declaration in the current frame; its result, or `POISON` where a mistake hides it."""
    frame = elaborator.frame
    is_complete = run_block(elaborator, body)
    if frame.has_result:
        return frame.result
    if is_complete and frame.keyword not in ("model", "train", "sample", "test"):
        elaborator.fail("E0207", f"`{frame.name}` ends without a result", hint("end its body with `return`"))
    return POISON


def run_block(elaborator: Elaborator, block: tree.Block) -> bool:
    """Run statements up to a `return`. False where one of them held a mistake, which was recorded."""
    is_sound = True
    for statement in block.statements:
        elaborator.count_work(statement.span)
        try:
            is_sound = _execute(elaborator, statement) and is_sound
        except (Failure, Poisoned) as mistake:
            # A mistake in the library is the caller's to report, at the call.
            if elaborator.frame.module.is_library:
                raise
            if isinstance(mistake, Failure):
                elaborator.session.report.add(mistake.diagnostic)
            is_sound = _poison(elaborator, statement)
        if elaborator.frame.has_result:
            break
    return is_sound


def _poison(elaborator: Elaborator, statement: tree.Statement) -> bool:
    """Names that a statement with a mistake would have bound become POISON; False, as a result."""
    names = elaborator.frame.variables
    block = tree.Block((statement,), statement.span)
    for inner in statements_of(block):
        match inner:
            case tree.Assign(targets) | tree.For(targets):
                names.update((target.id, POISON) for target in targets if target.id not in elaborator.frame.states)
            case tree.OutputDeclaration(targets) | tree.View(targets):
                names.update((target.id, POISON) for target in targets)
                if elaborator.model is not None:
                    elaborator.model.is_sound = False
            case tree.LossDeclaration(name):
                names[name.id] = POISON
            case tree.ParamDeclaration() | tree.StateDeclaration() | tree.InputDeclaration():
                names[inner.name] = POISON
                if isinstance(inner, tree.InputDeclaration) and inner.mask is not None:
                    names[inner.mask] = POISON
                if elaborator.model is not None:
                    elaborator.model.is_sound = False
            case tree.Return() | tree.ExpressionStatement():
                elaborator.frame.result, elaborator.frame.has_result = POISON, True
            case _:
                pass
    return False


def _execute(elaborator: Elaborator, statement: tree.Statement) -> bool:
    frame = elaborator.frame
    frame.variable = ""
    match statement:
        case tree.Assign(targets, value):
            _assign(elaborator, targets, value)
        case tree.Return(value):
            frame.result = elaborator.evaluate(value)
            frame.has_result = True
        case tree.If():
            return _choose(elaborator, statement)
        case tree.For():
            return _repeat(elaborator, statement)
        case tree.ParamDeclaration():
            frame.variable = statement.name
            frame.variables[statement.name] = declare_parameter(elaborator, statement)
            record_binding(elaborator, statement.name, statement.span, frame.variables[statement.name])
        case tree.StateDeclaration():
            frame.variable = statement.name
            frame.variables[statement.name] = declare_state(elaborator, statement)
            record_binding(elaborator, statement.name, statement.span, frame.variables[statement.name])
        case tree.StateUpdate():
            update_state(elaborator, statement)
        case tree.ExpressionStatement():
            _take_value(elaborator, statement)
        case tree.InputDeclaration():
            declare_input(elaborator, statement)
        case tree.OutputDeclaration():
            frame.variable = statement.names[0].id
            declare_output(elaborator, statement)
        case tree.LossDeclaration():
            frame.variable = statement.name.id
            declare_loss(elaborator, statement)
        case tree.View():
            _draw_views(elaborator, statement)
        case tree.Emit(values):
            emit(elaborator, values, statement.span)
        case _:
            assert_never(statement)
    return True


def _take_value(elaborator: Elaborator, statement: tree.ExpressionStatement) -> None:
    """A value in a line of its own: a claim of a test, a requirement, or the result of an optimizer."""
    frame = elaborator.frame
    if frame.keyword == "test":
        elaborator.claim(statement)
    elif is_requirement(statement.value):
        judge(elaborator, statement.value)
    elif frame.keyword != "optimizer":
        raise failure("E0206", "this value is not used", statement.span, hint("give it a name, or return it"))
    else:
        frame.result = elaborator.evaluate(statement.value)
        frame.has_result = True


def _assign(elaborator: Elaborator, targets: Sequence[tree.Name], expression: tree.Expression) -> None:
    frame = elaborator.frame
    frame.variable = targets[0].id if targets[0].id != "_" else ""
    value = elaborator.evaluate(expression)
    settle_all(elaborator.session, value, frame)
    if len(targets) == 1:
        _bind(elaborator, targets[0], value, expression.span)
        return
    items = unpacked(value, len(targets), expression.span, isinstance(expression, tree.Scan))
    for target, item in zip(targets, items, strict=True):
        _bind(elaborator, target, item, expression.span)


def _draw_views(elaborator: Elaborator, statement: tree.View) -> None:
    """The value once for each name. Its draws follow from the name, whatever else is drawn."""
    frame = elaborator.frame
    around, draws, values = frame.application, frame.draws, list[Value]()
    try:
        for name in statement.names:
            frame.application, frame.draws = f"{around}.{name.id}", [0]
            values.append(elaborator.evaluate(statement.value))
    finally:
        frame.application, frame.draws = around, draws
    for name, value in zip(statement.names, values, strict=True):
        _bind(elaborator, name, value, statement.value.span)


def _bind(elaborator: Elaborator, target: tree.Name, value: Value, span: Span) -> None:
    if target.id in elaborator.frame.states:
        value = assign_state(elaborator, target, value, span)
    if target.id != "_":
        elaborator.frame.variables[target.id] = value
        record_binding(elaborator, target.id, target.span, value)


def _choose(elaborator: Elaborator, statement: tree.If) -> bool:
    condition = elaborator.evaluate(statement.condition)
    span = statement.condition.span
    if isinstance(condition, (TensorValue, BatchValue)):
        message = f"`if` decides while the program is elaborated, and {describe(condition)} exists only at run time"
        raise failure("E0307", message, span, hint("`where(condition, a, b)` chooses element by element"))
    if not isinstance(condition, bool):
        message = f"a condition is `true` or `false`, not {describe(condition)}"
        raise failure("E0312", message, span, hint("compare, as in `n > 0`"))
    if condition:
        return run_block(elaborator, statement.then)
    return statement.otherwise is None or run_block(elaborator, statement.otherwise)


def _repeat(elaborator: Elaborator, statement: tree.For) -> bool:
    frame = elaborator.frame
    items = _items_of(elaborator, statement)
    rounds, is_sound = frame.rounds, True
    known = set(frame.variables)
    try:
        for number, item in enumerate(items):
            frame.rounds = (*rounds, number)
            values = unpacked(item, len(statement.targets), statement.span) if len(statement.targets) > 1 else (item,)
            for target, value in zip(statement.targets, values, strict=True):
                frame.variables[target.id] = value
            is_sound = run_block(elaborator, statement.body) and is_sound
            if frame.has_result:
                break
    finally:
        frame.rounds = rounds
    for name in frame.variables.keys() - known:
        del frame.variables[name]
    return is_sound


def _items_of(elaborator: Elaborator, statement: tree.For) -> Sequence[Value]:
    value = elaborator.evaluate(statement.iterable)
    span = statement.iterable.span
    items: Sequence[Value]
    match value:
        case range():
            items = value
        case tuple():
            settle_all(elaborator.session, value, elaborator.frame)
            items = value
        case TupleValue(items):
            pass
        case TensorValue() | BatchValue():
            message = f"`for` repeats while the program is elaborated, and {describe(value)} exists only at run time"
            advice = hint("operations on tensors act on all elements at once; a recurrence is a `scan`")
            raise failure("E0307", message, span, advice)
        case int() | RunTimeNumber():
            raise failure(
                "E0312", f"`for` runs over a range or a list, not {describe(value)}", span, hint("write `0..n`")
            )
        case _:
            raise failure("E0312", f"`for` runs over a range or a list, not {describe(value)}", span)
    if len(items) > MAXIMUM_ROUNDS:
        message = f"this loop has {len(items)} rounds, each of which is elaborated; the limit is {MAXIMUM_ROUNDS}"
        raise failure("E0310", message, span, hint("over the elements of a tensor, use operations on the whole tensor"))
    refuse_endless_loop(elaborator, statement, len(items))
    return items
