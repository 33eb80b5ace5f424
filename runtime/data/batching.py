"""The order of rows: a permutation that depends on nothing but a seed and the number of the epoch."""

from __future__ import annotations

import numpy as np

from runtime.data.specs import Array

_EPOCHS, _SPLITS = 0, 1


def epoch_order(rows: int, seed: int, epoch: int) -> Array:
    """The order (i64) in which epoch `epoch` visits `rows` rows; the same whatever ran before.

    Row i draws the i-th 64-bit word of Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
    2011) with key (seed, epoch) and a counter of zero; the rows are then sorted by their words, equal words by row.
    """
    return _permutation(rows, seed, epoch, _EPOCHS)


def split_order(rows: int, seed: int) -> Array:
    """The order (i64) from which the validation and test parts are cut; independent of every `epoch_order`."""
    return _permutation(rows, seed, 0, _SPLITS)


def _permutation(rows: int, seed: int, epoch: int, purpose: int) -> Array:
    mask = (1 << 64) - 1
    key = np.array([seed & mask, epoch & mask], np.uint64)
    # The purpose is the highest word of the counter, which no count of rows reaches.
    words = np.random.Philox(key=key, counter=np.array([0, 0, 0, purpose], np.uint64)).random_raw(rows)
    return np.argsort(words, kind="stable").astype(np.int64)
