"""Data as a program takes it: in its element type, and beside it the numbers that an augmentation asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from compiler import driver
from compiler.driver import Array, Program
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


def numbered(program: Program, part: Part) -> Part:
    """The part with the numbers of its rows, where the program changes samples by them."""
    if program.augmentation is None:
        return part
    rows = len(next(iter(part.arrays.values())))
    return replace(part, arrays={**part.arrays, driver.SAMPLE_NUMBERS: np.arange(rows, dtype=np.int64)})


def at_epoch(arrays: Mapping[str, Array], epoch: int) -> Mapping[str, Array]:
    """The inputs of training in an epoch, which counts from 0."""
    if driver.SAMPLE_NUMBERS not in arrays:
        return arrays
    return {**arrays, driver.EPOCH_NUMBER: np.array(epoch, np.int64)}
