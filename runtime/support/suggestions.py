"""The nearest known name to one that a user mistyped."""

from __future__ import annotations

from collections.abc import Iterable

from compiler.errors import suggestions


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or None where nothing is near."""
    return suggestions.did_you_mean(name, known)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean `x`?`, ready to be appended to a message, or nothing."""
    found = nearest(name, known)
    return f"; did you mean `{found}`?" if found is not None else ""


def quoted(names: Iterable[str], limit: int = 12) -> str:
    """Names for a message: `a`, `b`, `c`, and how many more there are."""
    listed = [f"`{name}`" for name in names]
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {more} more" if more > 0 else "")
