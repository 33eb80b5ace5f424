"""The known name that a mistyped one stands for, as messages say it."""

from __future__ import annotations

from collections.abc import Iterable

_LIKENESS = 0.6


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` most likely stands for, or None where there is none."""
    from difflib import get_close_matches  # only a mistake needs it and the table; every start would pay for them

    from compiler.errors.other_names import NAMES

    names = set(known)
    for candidate in NAMES.get(folded(name), ()):
        if candidate in names:
            return candidate
    lowered = {candidate.casefold(): candidate for candidate in sorted(names, reverse=True)}
    matches = get_close_matches(name.casefold(), sorted(lowered), n=1, cutoff=_LIKENESS)
    return lowered[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str], before: str = "") -> str:
    """``did you mean `x`?``, with `before` in front of it, or nothing where no known name is near."""
    found = nearest(name, known)
    return "" if found is None else f"{before}did you mean `{found}`?"


def quoted(names: Iterable[str], limit: int = 12) -> str:
    """Names for a message: `a`, `b`, `c`, and how many more there are."""
    listed = [f"`{name}`" for name in names]
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, noun: str) -> str:
    """`1 row`, `3 rows`, `no rows`."""
    return f"{number} {noun}" if number == 1 else f"{number or 'no'} {noun}s"


def folded(name: str) -> str:
    """One spelling for `BatchNorm2d`, `batch_norm2d`, `--batch-norm-2d`, `xavier_uniform_`."""
    return name.casefold().replace("_", "").replace("-", "")
