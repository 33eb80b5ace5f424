"""`init_from`: the file or run whose weights a training starts from, and how its names become those of the model."""

from __future__ import annotations

from compiler.errors.diagnostics import hint
from compiler.frontend.elaborator import Session
from compiler.frontend.failures import failure, nearest
from compiler.frontend.program import StartWeights
from compiler.frontend.train.constants import evaluate_constant
from compiler.frontend.train.patterns import patterns_of
from compiler.frontend.values import describe
from compiler.syntax import tree

FORM = "weights"
OPTIONS = ("rename", "fresh", "strict")
_EXAMPLE = 'such as `weights("w.safetensors", rename = ["module.* -> *"], fresh = ["head.*"])`'


def start_weights(session: Session, train: tree.Train, expression: tree.Expression) -> StartWeights:
    """A path, or `weights(path, …)`. Raises `Failure`."""
    given: dict[str, tree.Expression] = {}
    place = expression
    if isinstance(expression, tree.Call) and is_form(expression):
        if len(expression.positional) != 1:
            raise failure("E0302", "`weights` needs one path", expression.span, hint(_EXAMPLE))
        place = expression.positional[0]
        given = {keyword.name: keyword.value for keyword in expression.keywords}
        unknown = next((keyword for keyword in expression.keywords if keyword.name not in OPTIONS), None)
        if unknown is not None:
            notes = nearest(unknown.name, OPTIONS) or (hint(f"the settings are {', '.join(OPTIONS)}"),)
            raise failure("E0301", f"`weights` has no setting `{unknown.name}`", unknown.span, *notes)
    path = evaluate_constant(session, train, place)
    if not isinstance(path, str):
        message = f"`init_from` is the path of a file or a run, not {describe(path)}"
        raise failure("E0603", message, place.span, hint(_EXAMPLE))
    return StartWeights(
        path,
        _renames(session, train, given.get("rename")),
        _fresh(session, train, given.get("fresh")),
        _strict(session, train, given.get("strict")),
        expression.span,
    )


def is_form(expression: tree.Expression) -> bool:
    """Whether this is `weights(…)`."""
    return (
        isinstance(expression, tree.Call)
        and isinstance(expression.function, tree.Name)
        and expression.function.id == FORM
    )


def _renames(session: Session, train: tree.Train, expression: tree.Expression | None) -> tuple[str, ...]:
    if expression is None:
        return ()
    rules = patterns_of(evaluate_constant(session, train, expression), "rename", expression.span)
    for rule in rules:
        found, arrow, wanted = rule.partition("->")
        if not arrow or not found.strip() or not wanted.strip() or wanted.count("*") > found.count("*"):
            raise failure(
                "E0603",
                f'"{rule}" is no rule of `rename`',
                expression.span,
                hint('a rule is "name in the file -> name in the model"; `*` stands for the same text on both sides'),
            )
    return rules


def _fresh(session: Session, train: tree.Train, expression: tree.Expression | None) -> tuple[str, ...]:
    if expression is None:
        return ()
    return patterns_of(evaluate_constant(session, train, expression), "fresh", expression.span)


def _strict(session: Session, train: tree.Train, expression: tree.Expression | None) -> bool:
    if expression is None:
        return True
    value = evaluate_constant(session, train, expression)
    if not isinstance(value, bool):
        raise failure("E0603", f"`strict` is true or false, not {describe(value)}", expression.span)
    return value
