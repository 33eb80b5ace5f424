"""Of each tensor of a model: how large its elements are, how many are zero or not finite, and how they are spread."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from compiler.driver import Array
from compiler.support.record import record
from compiler.types import word_of
from runtime.support.files import JsonValue, finite

BINS = 40
_AT_ONCE = 1 << 22  # elements that are widened to 64 bits at a time
_MOST_FILTERS = 64


@record
class WeightFacts:
    """All but `count`, `zeros` and `nonfinite` are of the finite elements; NaN where there are none.

    `std` is that of all elements, not of a sample; `norm` is the root of the sum of squares. `bins` counts the elements
    in as many equal parts from `least` to `most`.
    """

    path: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    mean: float
    std: float
    least: float
    most: float
    norm: float
    zeros: int
    nonfinite: int
    bins: tuple[int, ...]

    def to_json(self) -> dict[str, JsonValue]:
        numbers = {"mean": self.mean, "std": self.std, "min": self.least, "max": self.most, "norm": self.norm}
        return {
            "path": self.path,
            "role": self.role,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "count": self.count,
            **{name: finite(value) for name, value in numbers.items()},
            "zeros": self.zeros,
            "nonfinite": self.nonfinite,
            "histogram": list(self.bins),
        }


@record
class Filters:
    """The first convolution over images: `images` [n, height, width, channels] are the first of its `count` filters."""

    path: str
    images: Array
    count: int
    bound: float  # the largest size of an element


def facts_of_tensor(path: str, role: str, values: Array) -> WeightFacts:
    """Two passes over the elements, a block at a time."""
    flat = values.reshape(-1)
    count, total, least, most, zeros = 0, 0.0, math.inf, -math.inf, 0
    for block in _finite_blocks(flat):
        count += len(block)
        total += float(block.sum())
        zeros += int((block == 0).sum())
        least, most = min(least, float(block.min(initial=math.inf))), max(most, float(block.max(initial=-math.inf)))
    mean = total / count if count else math.nan
    squared, distance = 0.0, 0.0
    bins: Array = np.zeros(BINS, np.int64)
    with np.errstate(over="ignore"):
        for block in _finite_blocks(flat):
            squared += float(np.square(block).sum())
            distance += float(np.square(block - mean).sum())
            if count:
                bins += _histogram(block, least, most)
    return WeightFacts(
        path,
        role,
        values.shape,
        word_of(values.dtype),
        values.size,
        mean,
        math.sqrt(distance / count) if count else math.nan,
        least if count else math.nan,
        most if count else math.nan,
        math.sqrt(squared) if count else math.nan,
        zeros,
        values.size - count,
        tuple(bins.tolist()),
    )


def first_filters(weights: Mapping[str, Array]) -> Filters | None:
    """Of the first tensor `….W` [height, width, channels, filters], up to 64 filters; None without one."""
    found = [(path, values) for path, values in weights.items() if values.ndim == 4 and path.endswith(".W")]
    if not found:
        return None
    path, values = found[0]
    finite = np.abs(values[np.isfinite(values)])
    bound = float(finite.max(initial=0.0)) or 1.0
    return Filters(path, np.moveaxis(values, 3, 0)[:_MOST_FILTERS], values.shape[3], bound)


def _finite_blocks(flat: Array) -> Iterator[Array]:
    for first in range(0, len(flat), _AT_ONCE):
        block = flat[first : first + _AT_ONCE].astype(np.float64)
        yield block[np.isfinite(block)]


def _histogram(block: Array, least: float, most: float) -> Array:
    """How many elements lie in each of the parts; those that are all the same lie in the one in the middle."""
    if not most > least:
        counts: Array = np.zeros(BINS, np.int64)
        counts[BINS // 2] = len(block)
        return counts
    # halves, since the distance of the largest floats is none
    places = (block / 2 - least / 2) / (most / 2 - least / 2) * BINS
    return np.bincount(np.minimum(places.astype(np.int64), BINS - 1), minlength=BINS)
