"""Patterns over parameter paths, in which `*` stands for any text, dots included, and the keywords that give them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from compiler.errors.diagnostics import Span, hint
from compiler.errors.suggestions import did_you_mean
from compiler.frontend.failures import failure
from compiler.frontend.values import Value, describe
from compiler.syntax import tree

MATRICES = "matrices"


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
