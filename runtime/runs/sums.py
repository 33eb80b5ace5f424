"""Sums whose bits do not depend on how the terms arrive."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler.driver import KEPT, Array


def added_in_order(sums: Mapping[str, float], scalars: Mapping[str, Array], rows: Array) -> dict[str, float]:
    """`sums` and, for each scalar, its values (one a step) times the rows of the step.

    Where a scalar says how many elements it is the mean of, these stand for the rows, and are added up, too. `cumsum`
    adds from left to right, unlike `sum`, so it does not matter how the steps are divided into calls.
    """
    terms = {
        name: values if name.endswith(KEPT) else values * scalars.get(name + KEPT, rows)
        for name, values in scalars.items()
    }
    return {
        name: float(np.cumsum(np.concatenate([[sums.get(name, 0.0)], values]))[-1]) for name, values in terms.items()
    }


def means_of(sums: Mapping[str, float], rows: int) -> dict[str, float]:
    """The mean of each scalar over `rows` rows, or over the elements that were kept; 0 where none was."""
    counts = {name: sums.get(name + KEPT, rows) for name in sums if not name.endswith(KEPT)}
    return {name: sums[name] / count if count else 0.0 for name, count in counts.items()}
