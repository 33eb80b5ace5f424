"""The size of the difference of two arrays."""

from __future__ import annotations

import numpy as np

from compiler.driver import Array
from runtime.support.files import JsonValue, finite


def difference_to_json(before: Array, after: Array) -> dict[str, JsonValue]:
    """The largest change of an element, and the norm of the change beside that of what was there.

    Of classes and tokens, whose size means nothing, it is the share of elements that differ. Null stands for what is
    not finite.
    """
    with np.errstate(all="ignore"):
        change = np.abs(after.astype(np.float64) - before)
        are_names = bool(np.issubdtype(before.dtype, np.signedinteger))  # bytes are those of pictures
        differing = int((change != 0).sum())
        part, size = (differing, change.size) if are_names else (norm(change), norm(before))
        return {
            "largest": finite(float(change.max(initial=0))),
            "changed": differing,
            "are_names": are_names,
            "count": change.size,
            "relative": finite(part / size if size else part and float("inf")),
        }


def norm(array: Array) -> float:
    """The root of the sum of squares."""
    with np.errstate(all="ignore"):
        return float(np.sqrt(np.square(array.astype(np.float64)).sum()))
