"""The element type of a program, and data in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from runtime.data.part import Part


def in_precision(part: Part, dtype: str) -> Part:
    """With `f64`, every f32 is widened, as it is in the program."""
    if dtype != "f64":
        return part
    wide = {name: a.astype(in_dtype(a.dtype, dtype), copy=False) for name, a in part.arrays.items()}
    return replace(part, arrays=wide)


def in_dtype(element: np.dtype[Any], dtype: str) -> np.dtype[Any]:
    """The element type that arrays of `element` have in such a program."""
    return np.dtype(np.float64) if dtype == "f64" and element == np.float32 else element
