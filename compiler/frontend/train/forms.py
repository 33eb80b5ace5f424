"""Keys of `train` whose values are configuration or forms of their own.

`early_stop = patience(5)` and `plateau = reduce(factor = 0.1)` react to epochs without a better loss; `init_from` is
the file or run whose weights a training starts from, and says how its names become those of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeGuard

from compiler.errors.diagnostics import Span, hint
from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.elaborator import Frame, Session
from compiler.frontend.failures import failure, nearest
from compiler.frontend.program import StartWeights
from compiler.frontend.settings import COMMAND_LINE
from compiler.frontend.train.patterns import patterns_of
from compiler.frontend.update_rules import EarlyStop, Plateau
from compiler.frontend.values import Value, describe
from compiler.graph.builder import GraphBuilder
from compiler.support.record import record
from compiler.syntax import tree


@record
class Wanted:
    """The condition on the value of a key, or on a setting of a form."""

    words: str
    is_right: Callable[[Value], bool]


def is_plain_number(value: Value) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole_from(least: int) -> Wanted:
    def is_right(value: Value) -> bool:
        return is_plain_number(value) and isinstance(value, int) and value >= least

    return Wanted(f"a whole number of at least {least}", is_right)


SHARE = Wanted("a number above 0 and below 1", lambda value: is_plain_number(value) and 0 < value < 1)
_WHOLE = whole_from(1)
_NUMBER = Wanted("a number of at least 0", lambda value: is_plain_number(value) and value >= 0)
SWITCH = Wanted("true or false", lambda value: isinstance(value, bool))

_PATIENCE = {"epochs": _WHOLE, "min_change": _NUMBER, "restore": SWITCH}
_REDUCE = {"factor": SHARE, "patience": _WHOLE, "min_change": _NUMBER, "floor": _NUMBER}


def early_stop_of(session: Session, train: tree.Train, expression: tree.Expression, origin: str) -> EarlyStop:
    """`patience(epochs, min_change, restore)`. Raises Failure."""
    message = "`early_stop` is `patience(n)`, after n epochs without a better validation loss"
    given = _form(session, train, expression, "patience", _PATIENCE, message)
    origins = _overridden(session, train, "early_stop", _PATIENCE, given, origin)
    if "epochs" not in given:
        raise failure("E0603", message, expression.span, hint("such as `early_stop = patience(5)`"))
    _record(session, "early_stop", "epochs", given, origins)
    return EarlyStop(_int(given["epochs"]), _float(given.get("min_change", 0.0)), given.get("restore") is not False)


def plateau_of(session: Session, train: tree.Train, expression: tree.Expression, origin: str) -> Plateau:
    """`reduce(factor, patience, min_change, floor)`. Raises Failure."""
    message = "`plateau` is `reduce(factor, patience)`, for epochs without a better validation loss"
    written = _form(session, train, expression, "reduce", _REDUCE, message)
    origins = _overridden(session, train, "plateau", _REDUCE, written, origin)
    given: dict[str, Value] = {"factor": 0.1, "patience": 10, "min_change": 0.0, "floor": 0.0}
    origins = dict.fromkeys(given, "default") | origins
    given |= written
    _record(session, "plateau", "factor", given, origins)
    factor, patience, min_change, floor = (given[name] for name in _REDUCE)
    return Plateau(_float(factor), _int(patience), _float(min_change), _float(floor))


def _form(
    session: Session,
    train: tree.Train,
    expression: tree.Expression,
    name: str,
    settings: Mapping[str, Wanted],
    message: str,
) -> dict[str, Value]:
    """The settings that a call of `name` gives, by position or by name."""
    match expression:
        case tree.Call(tree.Name(called), positional) if called == name and len(positional) <= len(settings):
            pass
        case _:
            raise failure("E0603", message, expression.span)
    found: dict[str, Value] = {}
    for key, value in settings_of(expression, settings):
        if key not in settings or key in found:
            fault = f"`{name}` has no setting `{key}`" if key not in settings else f"`{key}` is given twice"
            raise failure("E0603", fault, value.span, *nearest(key, tuple(settings)))
        found[key] = checked(evaluate_constant(session, train, value), key, settings[key], value.span)
    return found


def settings_of(call: tree.Call, names: Iterable[str]) -> list[tuple[str, tree.Expression]]:
    """The arguments of a call, those without a name by the place of one in `names`."""
    by_place = zip(names, call.positional, strict=False)
    return [*by_place, *((keyword.name, keyword.value) for keyword in call.keywords)]


def _overridden(
    session: Session, train: tree.Train, key: str, settings: Mapping[str, Wanted], given: dict[str, Value], origin: str
) -> dict[str, str]:
    """Put the value of `--set KEY.SETTING=…`, or `--set KEY=…` for the first, in the place of the text's.

    The result is where each setting comes from.
    """
    origins = dict.fromkeys(given, origin)
    for place, (name, wanted) in enumerate(settings.items()):
        override = session.settings.take(f"{key}.{name}")
        if override is None and place == 0:
            override = session.settings.take(key)
            if override is not None and not isinstance(override.expression, tree.Number):
                override = None
        if override is not None:
            expression = override.as_expression
            given[name] = checked(evaluate_constant(session, train, expression), name, wanted, expression.span)
            origins[name] = COMMAND_LINE
    return origins


def checked(value: Value, key: str, wanted: Wanted, span: Span) -> Value:
    """The value. Raises `Failure` where it is not what is wanted."""
    if not wanted.is_right(value):
        raise failure("E0603", f"`{key}` is {wanted.words}, not {describe(value)}", span)
    return value


def _record(session: Session, key: str, first: str, given: Mapping[str, Value], origins: Mapping[str, str]) -> None:
    """The main setting goes by the name of the key, the others behind a point."""
    for name, value in given.items():
        session.settings.record(key if name == first else f"{key}.{name}", value, origins[name])


def _int(value: Value) -> int:
    assert isinstance(value, int)
    return value


def _float(value: Value) -> float:
    assert isinstance(value, int | float)
    return float(value)


def evaluate_constant(session: Session, train: tree.Train, expression: tree.Expression) -> Value:
    """The value of an expression that sees the file in which a `train` stands. Raises `Failure`."""
    scope = session.scopes[train.head.source.name]
    frame = Frame(scope, "train", train.name or train.model.id, session.new_scope())
    evaluator = Evaluator(session, GraphBuilder("settings"), frame, training=True)
    evaluator.span = expression.span
    return evaluator.evaluate(expression)


FORM = "weights"
OPTIONS = ("rename", "fresh", "strict")
_EXAMPLE = 'such as `weights("w.safetensors", rename = ["module.* -> *"], fresh = ["head.*"])`'


def start_weights(session: Session, train: tree.Train, expression: tree.Expression) -> StartWeights:
    """A path, or `weights(path, …)`. Raises `Failure`."""
    given: dict[str, tree.Expression] = {}
    place = expression
    if is_form(expression):
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

    def place_of(key: str) -> Span:
        return given.get(key, expression).span

    def value(key: str, default: Value) -> Value:
        return evaluate_constant(session, train, given[key]) if key in given else default

    renames = patterns_of(value("rename", ()), "rename", place_of("rename"))
    _expect_rules(renames, place_of("rename"))
    fresh = patterns_of(value("fresh", ()), "fresh", place_of("fresh"))
    is_strict = value("strict", True)
    if not isinstance(is_strict, bool):
        raise failure("E0603", f"`strict` is true or false, not {describe(is_strict)}", place_of("strict"))
    return StartWeights(path, renames, fresh, is_strict, expression.span)


def is_form(expression: tree.Expression) -> TypeGuard[tree.Call]:
    """Whether this is `weights(…)`."""
    function = expression.function if isinstance(expression, tree.Call) else None
    return isinstance(function, tree.Name) and function.id == FORM


def _expect_rules(rules: tuple[str, ...], span: Span) -> None:
    for rule in rules:
        found, arrow, wanted = rule.partition("->")
        if not arrow or not found.strip() or not wanted.strip() or wanted.count("*") > found.count("*"):
            raise failure(
                "E0603",
                f'"{rule}" is no rule of `rename`',
                span,
                hint('a rule is "name in the file -> name in the model"; `*` stands for the same text on both sides'),
            )
