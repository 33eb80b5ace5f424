"""The inputs of an augmentation beside the data: the number of each row in its source, and that of the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from compiler import driver
from compiler.driver import Array, Program
from runtime.data.part import Part


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
