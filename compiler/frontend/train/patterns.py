"""Patterns over parameter paths, in which `*` stands for any text, and the selections of `freeze` and `unfreeze`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from compiler.errors.diagnostics import Span, hint
from compiler.errors.suggestions import did_you_mean
from compiler.frontend.failures import failure
from compiler.frontend.values import Value, describe
from compiler.support.record import record
from compiler.syntax import tree
from compiler.types import TensorType

MATRICES = "matrices"
"""The name that selects the parameters of two axes and more."""
_EVERY_MATRIX = ("\0",)  # no path is matched by it


def matches(pattern: str, path: str) -> bool:
    parts = (re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(".*".join(parts), path, re.DOTALL) is not None


def patterns_of(value: Value, key: str, span: Span) -> tuple[str, ...]:
    """One pattern, or a list of them."""
    items = value if isinstance(value, tuple) else (value,)
    found: list[str] = []
    for item in items:
        if not isinstance(item, str):
            raise failure("E0603", f'`{key}` is a pattern such as "*.W", or a list of them, not {describe(item)}', span)
        found.append(item)
    return tuple(found)


def selector_of(expression: tree.Expression, key: str, evaluate: Callable[[tree.Expression], Value]) -> tuple[str, ...]:
    """Patterns, or `matrices`, for `select_parameters`."""
    if isinstance(expression, tree.Name) and expression.id == MATRICES:
        return _EVERY_MATRIX
    return patterns_of(evaluate(expression), key, expression.span)


def select_parameters(selector: Iterable[str], types: Mapping[str, TensorType], key: str, span: Span) -> frozenset[str]:
    """As `select`, of parameters with their types; `matrices` may select none."""
    if selector == _EVERY_MATRIX:
        return frozenset(path for path, type_ in types.items() if type_.rank >= 2)
    return select(selector, types, key, span)


def without_keywords(
    expression: tree.Expression, names: tuple[str, ...]
) -> tuple[tree.Expression, dict[str, tree.Expression]]:
    """A call without the settings that every form of its kind accepts, and those."""
    if not isinstance(expression, tree.Call):
        return expression, {}
    given = {k.name: k.value for k in expression.keywords if k.name in names}
    rest = tuple(k for k in expression.keywords if k.name not in names)
    return tree.Call(expression.function, expression.positional, rest, expression.span), given


def select(patterns: Iterable[str], paths: Iterable[str], key: str, span: Span) -> frozenset[str]:
    """The paths that one of the patterns matches. A pattern that matches nothing is a mistake."""
    known = tuple(paths)
    selected: set[str] = set()
    for pattern in patterns:
        found = {path for path in known if matches(pattern, path)}
        if not found and pattern != "*":
            advice = did_you_mean(pattern, known) or f"the parameters are {_listed(known)}"
            raise failure("E0605", f'the pattern "{pattern}" of `{key}` matches no parameter', span, hint(advice))
        selected |= found
    return frozenset(selected)


def _listed(paths: tuple[str, ...]) -> str:
    shown = ", ".join(paths[:8])
    return f"{shown}, …" if len(paths) > 8 else shown or "none"


_FORM = 'such as `after(3, "backbone.4.*")`, or a list of them'


@record
class Thaw:
    """After so many epochs, the parameters that the patterns select are trained too."""

    epochs: int
    patterns: tuple[str, ...]
    span: Span


@record
class Freezing:
    """`patterns` select the parameters that are frozen at first. `span` is that of `freeze`; None where nothing is."""

    patterns: tuple[str, ...] = ()
    thaws: tuple[Thaw, ...] = ()
    span: Span | None = None

    @property
    def borders(self) -> tuple[int, ...]:
        """The epochs, counted from 0, from which on less is frozen."""
        return tuple(sorted({thaw.epochs for thaw in self.thaws}))

    def since(self, path: str) -> int | None:
        """The first epoch that trains a parameter, counted from 0; None where none does."""
        if not any(matches(pattern, path) for pattern in self.patterns):
            return 0
        thawed = [t.epochs for t in self.thaws if any(matches(pattern, path) for pattern in t.patterns)]
        return min(thawed, default=None)

    def is_frozen(self, path: str, epoch: int) -> bool:
        since = self.since(path)
        return since is None or since > epoch

    def check(self, paths: Iterable[str]) -> None:
        """Raise `Failure` for a pattern that selects nothing, or nothing that is frozen."""
        if self.span is None:
            return
        frozen = select(self.patterns, paths, "freeze", self.span)
        for thaw in self.thaws:
            select(thaw.patterns, sorted(frozen), "unfreeze", thaw.span)


def freezing_of(
    freeze: tree.Expression | None, unfreeze: tree.Expression | None, evaluate: Callable[[tree.Expression], Value]
) -> Freezing:
    """The values of the two keys. Raises `Failure`."""
    if freeze is None:
        if unfreeze is not None:
            message = "`unfreeze` ends a `freeze`, and there is no `freeze`"
            raise failure("E0603", message, unfreeze.span, hint('add `freeze = ["backbone.*"]`'))
        return Freezing()
    patterns = patterns_of(evaluate(freeze), "freeze", freeze.span)
    if unfreeze is None:
        return Freezing(patterns, (), freeze.span)
    items = unfreeze.items if isinstance(unfreeze, tree.ListLiteral) else (unfreeze,)
    return Freezing(patterns, tuple(_thaw(item, evaluate) for item in items), freeze.span)


def _thaw(item: tree.Expression, evaluate: Callable[[tree.Expression], Value]) -> Thaw:
    """`after(epochs, patterns)`."""
    match item:
        case tree.Call(tree.Name("after"), (amount, selected), ()):
            pass
        case _:
            message = "`unfreeze` says after how many epochs which parameters are trained"
            raise failure("E0603", message, item.span, hint(_FORM))
    epochs = evaluate(amount)
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        message = f"`after` takes a whole number of epochs of at least 1, not {describe(epochs)}"
        raise failure("E0603", message, amount.span)
    return Thaw(epochs, patterns_of(evaluate(selected), "unfreeze", selected.span), item.span)
