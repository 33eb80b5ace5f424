"""Buckets: a few lengths at which batches of texts are computed, so that little of the work is padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from runtime.data.batching import rows_of_epoch
from runtime.data.part import Part
from runtime.data.specs import Array

_EPOCHS = 2  # whose batches are looked at
_POINTS = 256  # sizes of batches that are told apart
_WORTH = 0.02  # one more size must save this part of what is computed


def longest_in_batches(arrays: Sequence[Array], rows: Array, batch: int) -> Array:
    """How many places the longest row takes in each batch of `rows`, of arrays [rows, time, …] that end in zeros."""
    longest: Array = np.zeros(-(-len(rows) // batch), np.int64)
    for array in arrays:
        is_used = array[rows] != 0
        used = is_used.reshape(*is_used.shape[:2], -1).any(axis=2)
        lengths = np.where(used.any(axis=1), used.shape[1] - np.argmax(used[:, ::-1], axis=1), 0)
        longest = np.maximum(longest, np.maximum.reduceat(lengths, np.arange(0, len(rows), batch)))
    return longest


def best_sizes(
    part: Part, arrays: Mapping[str, Sequence[Array]], seed: int, batch: int, most: int, least: float = 0.0
) -> tuple[Mapping[str, int], ...]:
    """Up to `most` sizes of the dimensions in `arrays`, the smallest first: every batch of a training fits in the last.

    With them, the batches have the fewest places in all, each in the first size that holds it. One more size must save
    `least` places in an epoch, besides a part of all.
    """
    orders = [rows_of_epoch(part, seed, epoch, batch) for epoch in range(_EPOCHS)]
    found = [[longest_in_batches(texts, order, batch) for order in orders] for texts in arrays.values()]
    points, counts = np.unique(np.stack([np.concatenate(each) for each in found], axis=1), axis=0, return_counts=True)
    order = np.argsort(points.sum(axis=1), kind="stable")
    groups = np.array_split(order, min(len(order), _POINTS))
    boxes = _partition(
        np.array([points[group].max(axis=0) for group in groups]),
        [int(counts[group].sum()) for group in groups],
        most,
        least * _EPOCHS / batch,
    )
    return tuple(dict(zip(arrays, map(int, box), strict=True)) for box in boxes)


def _partition(points: Array, counts: Sequence[int], most: int, least: float) -> list[Array]:
    """The points cut into runs, by dynamic programming, so that all have the least area; the largest of each run."""
    before = np.concatenate([[0], np.cumsum(counts)])
    size = len(points)
    costs = np.full((size, size + 1), np.inf)  # of the run from a point up to before another
    for first in range(size):
        places = np.maximum.accumulate(points[first:]).sum(axis=1)
        costs[first, first + 1 :] = places * (before[first + 1 :] - before[first])
    best = np.array([0.0] + [np.inf] * size)  # of all points before one
    begins: list[Array] = []
    for _ in range(min(most, size)):
        sums = best[:-1, None] + costs
        begin, after = sums.argmin(axis=0), sums.min(axis=0)
        if begins and best[-1] - after[-1] < max(least, _WORTH * best[-1]):
            break
        best = after
        begins.append(begin)
    boxes: list[Array] = []
    end = size
    for begin in reversed(begins):
        boxes.insert(0, points[begin[end] : end].max(axis=0))
        end = int(begin[end])
    return boxes
