"""The hint for a mistyped word of the command line."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint ``did you mean `train`?``, or nothing where no known word is near."""
    from runtime.support.suggestions import nearest  # only a mistake needs it; every start would pay for it

    found = nearest(word, known)
    return f"did you mean `{found}`?" if found is not None else ""


def option_hint(word: str, known: Iterable[str]) -> str:
    """The same for an option: what is to be written instead, where other programs have one of that name."""
    from compiler.errors.suggestions import OF_OPTIONS, advice  # as above

    return advice(word, known, OF_OPTIONS) or ""
