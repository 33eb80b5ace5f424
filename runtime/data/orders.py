"""Orders of rows, which follow from a seed alone: those of an epoch, of a cut into parts, of rows that are repeated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from runtime.data.specs import Array

_EPOCHS, _SPLITS, _SHIFTS, _BATCHES, _REPEATS, _RUNS = range(6)


def epoch_order(rows: int, seed: int, epoch: int) -> Array:
    """The order (i64) in which epoch `epoch` visits `rows` rows; the same whatever ran before.

    Row i draws the i-th 64-bit word of Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
    2011) with key (seed, epoch) and a counter of zero; the rows are then sorted by their words, equal words by row.
    """
    return _permutation(rows, seed, epoch, _EPOCHS)


def order_in_block(rows: int, seed: int, epoch: int, block: int) -> Array:
    """The order (i64) of the rows of a block, which is drawn for each; that of block 0 is `epoch_order` of so many."""
    return _permutation(rows, seed, epoch, _EPOCHS, block)


def order_of_runs(runs: int, seed: int, epoch: int) -> Array:
    """The order (i64) in which an epoch puts runs of rows together to blocks."""
    return _permutation(runs, seed, epoch, _RUNS)


_POOL = 64  # batches among whose rows those of similar length are put together


def by_length(rows: Array, lengths: Array, batch: int, seed: int, epoch: int, block: int = 0) -> Array:
    """The rows in batches of similar length, which come in an order drawn for the block; a short batch is the last.

    `lengths` are those of `rows`.
    """
    pools = [
        first + np.argsort(lengths[first : first + _POOL * batch], kind="stable")
        for first in range(0, len(rows), _POOL * batch)
    ]
    ordered = rows[np.concatenate(pools)] if pools else rows
    full = len(rows) // batch
    order = _permutation(full, seed, epoch, _BATCHES, block)
    batches = ordered[: full * batch].reshape(full, batch)[order]
    return np.concatenate([batches.reshape(-1), ordered[full * batch :]])


def shift_of_windows(seed: int, epoch: int) -> int:
    """By how much an epoch moves the windows of a series, before it is reduced to their slack."""
    return int(_words(1, seed, epoch, _SHIFTS)[0])


def split_order(rows: int, seed: int) -> Array:
    """The order (i64) from which the validation and test parts are cut; independent of every `epoch_order`."""
    return _permutation(rows, seed, 0, _SPLITS)


def oversampling_order(rows: int, seed: int) -> Array:
    """The order (i64) in which rows of a rare class are taken once more."""
    return _permutation(rows, seed, 0, _REPEATS)


def words_of_split(seed: int, rows: int, at_once: int) -> Iterator[Array]:
    """The words by which `split_order` sorts rows, so many at once."""
    drawn = _generator(seed, 0, _SPLITS)
    for first in range(0, rows, at_once):
        yield drawn.random_raw(min(at_once, rows - first))


def _permutation(rows: int, seed: int, epoch: int, purpose: int, block: int = 0) -> Array:
    return np.argsort(_words(rows, seed, epoch, purpose, block), kind="stable").astype(np.int64)


def _words(count: int, seed: int, epoch: int, purpose: int, block: int = 0) -> Array:
    return _generator(seed, epoch, purpose, block).random_raw(count)


def _generator(seed: int, epoch: int, purpose: int, block: int = 0) -> np.random.Philox:
    mask = (1 << 64) - 1
    key = np.array([seed & mask, epoch & mask], np.uint64)
    # The purpose is the highest word of the counter and the block the second, which no count of rows reaches.
    return np.random.Philox(key=key, counter=np.array([0, block, 0, purpose], np.uint64))
