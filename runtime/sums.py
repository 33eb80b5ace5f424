"""Sums whose bits do not depend on how the terms arrive."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler.driver import Array


def added_in_order(sums: Mapping[str, float], scalars: Mapping[str, Array], rows: Array) -> dict[str, float]:
    """`sums` and, for each scalar, its values (one a step) times the rows of the step.

    `cumsum` adds from left to right, unlike `sum`, so it does not matter how the steps are divided into calls.
    """
    return {
        name: float(np.cumsum(np.concatenate([[sums.get(name, 0.0)], values * rows]))[-1])
        for name, values in scalars.items()
    }
