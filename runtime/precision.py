"""Data in the element type that a program was compiled with."""

from __future__ import annotations

import numpy as np

from runtime.data.part import Part


def in_precision(part: Part, dtype: str) -> Part:
    """With `f64`, every f32 is widened, as it is in the program."""
    if dtype != "f64":
        return part
    wide = {name: a.astype(np.float64) if a.dtype == np.float32 else a for name, a in part.arrays.items()}
    return Part(wide, part.rows)
