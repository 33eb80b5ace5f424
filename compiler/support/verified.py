"""What `--verify` has proved in this process, and what it has left out, each with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

_PROGRAMS, _CALLS = "programs", "calls"
_counts, _left_out = Counter[str](), Counter[str]()


def note_verified(calls: int, left_out: Mapping[str, int]) -> None:
    """Count a program, of which so many calls of kernels are proved, and so many others not asked, by the reason."""
    _counts.update({_PROGRAMS: 1, _CALLS: calls})
    _left_out.update(left_out)


def said_of_verified() -> str:
    """What was counted, as a sentence."""
    if not _counts:
        return "no kernels were verified now: those in the cache were when they were compiled"
    proved = f"programs: {_counts[_PROGRAMS]}; {_counts[_CALLS]} calls of kernels stay in their memory for every batch"
    others = "; ".join(f"not proved of {count}: {reason}" for reason, count in sorted(_left_out.items()))
    return f"{proved}; {others}" if others else proved


def forget_verified() -> None:
    """Begin to count anew."""
    _counts.clear()
    _left_out.clear()
