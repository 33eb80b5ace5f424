"""The values of `validation` and `test` that say which rows of the data a part has.

`0.2` and `fold(1, of = 5)` are shares; `stratified(0.2, by = "class")`, `grouped(0.2, by = "patient")` and
`latest(0.2, by = "date")` say how a share is chosen; `where("year >= 2020")` takes the rows that satisfy a condition.
"""

from __future__ import annotations

from compiler.errors.diagnostics import hint
from compiler.frontend.data_parts import CUT_WAYS, Cut, Fold
from compiler.frontend.elaborator import Session
from compiler.frontend.failures import failure, nearest
from compiler.frontend.train.forms import Wanted, checked, evaluate_constant, is_plain_number, settings_of, whole_from
from compiler.frontend.values import Value
from compiler.support.data_formats import CUTS
from compiler.syntax import tree

_FRACTION = Wanted("a fraction from 0 to below 1", lambda value: is_plain_number(value) and 0 <= value < 1)
TEXT = Wanted("a text in quotes", lambda value: isinstance(value, str) and bool(value.strip()))
_EXAMPLES = {
    "stratified": 'stratified(0.2, by = "class")',
    "grouped": 'grouped(0.2, by = "patient")',
    "latest": 'latest(0.2, by = "date")',
    "where": 'where("year >= 2020")',
    "fold": "fold(1, of = 5)",
}


def form_of(expression: tree.Expression) -> str | None:
    """The form that an expression calls; None where it calls none."""
    match expression:
        case tree.Call(tree.Name(name)) if name in CUTS:
            return name
        case _:
            return None


def cut_of(session: Session, train: tree.Train, key: str, expression: tree.Call, name: str) -> Cut:
    """The cut that the form `name` says. Raises Failure."""
    if name == "fold":
        return Cut(CUT_WAYS[0], _fold(session, train, key, expression))
    if name == "where":
        given = _given(key, expression, name)
        return Cut(name, condition=str(_value(session, train, "condition", given["condition"], TEXT)))
    given = _given(key, expression, name)
    if name == "grouped" and "by" not in given:
        message = "`grouped` keeps rows of one value of a column together, and needs the column"
        raise failure("E0603", message, expression.span, hint(f"such as `{key} = {_EXAMPLES[name]}`"))
    by = _value(session, train, "by", given["by"], TEXT) if "by" in given else ""
    share = given["share"]
    if not isinstance(share, tree.Call) or form_of(share) != "fold":
        fraction = _value(session, train, key, share, _FRACTION)
        return Cut(name, float(str(fraction)), str(by))
    if name == "latest":
        message = "folds take turns to be the validation part, and `latest` names one part alone"
        raise failure("E0603", message, share.span, hint("give a fraction, or leave out `latest`"))
    return Cut(name, _fold(session, train, key, share), str(by))


def _fold(session: Session, train: tree.Train, key: str, expression: tree.Call) -> Fold:
    given = _given(key, expression, "fold", needed=CUTS["fold"])
    count = _value(session, train, "of", given["of"], whole_from(2))
    assert isinstance(count, int)
    in_range = Wanted(
        f"a whole number from 1 to {count}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= count,
    )
    number = _value(session, train, "fold", given["number"], in_range)
    assert isinstance(number, int)
    return Fold(number, count)


def _given(key: str, expression: tree.Call, form: str, needed: tuple[str, ...] = ()) -> dict[str, tree.Expression]:
    """The arguments of a form by their names; without `needed`, the first one must be there."""
    names = CUTS[form]
    example = hint(f"such as `{key} = {_EXAMPLES[form]}`")
    if len(expression.positional) > len(names):
        raise failure("E0603", f"`{form}` has no argument number {len(names) + 1}", expression.span, example)
    given = settings_of(expression, names)
    for name, value in given:
        if name not in names or [n for n, _ in given].count(name) > 1:
            fault = f"`{form}` has no setting `{name}`" if name not in names else f"`{name}` is given twice"
            raise failure("E0603", fault, value.span, *(nearest(name, names) or (example,)))
    found = dict(given)
    for name in needed or names[:1]:
        if name not in found:
            raise failure("E0603", f"`{form}` needs {_NOUNS[name]}", expression.span, example)
    return found


_NOUNS = {
    "share": "a fraction or a fold",
    "condition": "a condition on columns",
    "number": "the number of the fold",
    "of": "`of`, the number of folds",
}


def _value(session: Session, train: tree.Train, key: str, expression: tree.Expression, wanted: Wanted) -> Value:
    return checked(evaluate_constant(session, train, expression), key, wanted, expression.span)
