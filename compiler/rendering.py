"""Diagnostics to text for a terminal, and to plain data."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` most likely stands for, or None if no known name is near."""
    names = sorted(set(known))
    lowered = {candidate.lower(): candidate for candidate in reversed(names)}
    matches = get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[matches[0]] if matches else None
