"""A name that the user may have meant, for messages."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint `did you mean 'train'?`, or nothing where no known word is near."""
    from difflib import get_close_matches  # only a mistake needs it; every start would pay for it

    nearest = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean '{nearest[0]}'?" if nearest else ""
