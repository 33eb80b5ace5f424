"""The order of rows in an epoch, and their cut into training, validation and test parts: both from a seed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from runtime.data.part import Part
from runtime.data.specs import Array

_EPOCHS, _SPLITS, _SHIFTS, _BATCHES = range(4)
_POOL = 64  # batches among whose rows those of similar length are put together


def epoch_order(rows: int, seed: int, epoch: int) -> Array:
    """The order (i64) in which epoch `epoch` visits `rows` rows; the same whatever ran before.

    Row i draws the i-th 64-bit word of Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
    2011) with key (seed, epoch) and a counter of zero; the rows are then sorted by their words, equal words by row.
    """
    return _permutation(rows, seed, epoch, _EPOCHS)


def rows_of_epoch(part: Part, seed: int, epoch: int, batch: int) -> Array:
    """The rows (i64) of a part in the order in which epoch `epoch` takes them, `batch` at a time."""
    rows = part.rows[epoch_order(len(part.rows), seed, epoch)]
    if part.slack:
        rows = rows + int(_words(1, seed, epoch, _SHIFTS)[0]) % (part.slack + 1)
    if part.lengths is not None:
        rows = _bucketed(rows, part.lengths, batch, seed, epoch)
    return rows


def _bucketed(rows: Array, lengths: Array, batch: int, seed: int, epoch: int) -> Array:
    """The rows in batches of similar length, which come in any order; a short batch is the last."""
    pools = [rows[first : first + _POOL * batch] for first in range(0, len(rows), _POOL * batch)]
    ordered = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    full = len(rows) // batch
    batches = ordered[: full * batch].reshape(full, batch)[_permutation(full, seed, epoch, _BATCHES)]
    return np.concatenate([batches.reshape(-1), ordered[full * batch :]])


def split_order(rows: int, seed: int) -> Array:
    """The order (i64) from which the validation and test parts are cut; independent of every `epoch_order`."""
    return _permutation(rows, seed, 0, _SPLITS)


def _permutation(rows: int, seed: int, epoch: int, purpose: int) -> Array:
    return np.argsort(_words(rows, seed, epoch, purpose), kind="stable").astype(np.int64)


def _words(count: int, seed: int, epoch: int, purpose: int) -> Array:
    mask = (1 << 64) - 1
    key = np.array([seed & mask, epoch & mask], np.uint64)
    # The purpose is the highest word of the counter, which no count of rows reaches.
    return np.random.Philox(key=key, counter=np.array([0, 0, 0, purpose], np.uint64)).random_raw(count)


@record
class PartRows:
    """Row indices (i64, ascending) of each part; a part that was not asked for is empty."""

    train: Array
    validation: Array
    test: Array


def split_rows(rows: int, validation: float, test: float, seed: int, file: Path) -> PartRows:
    """Cut `rows` rows by fractions of the whole, at random by `seed`, without regard to classes. Raises DataError."""
    count_validation, count_test = _counts(rows, validation, test, "row", file)
    order = split_order(rows, seed)
    taken = count_test + count_validation
    return PartRows(np.sort(order[taken:]), np.sort(order[count_test:taken]), np.sort(order[:count_test]))


def split_steps(steps: int, validation: float, test: float, file: Path) -> tuple[int, int]:
    """Where in a series of so many steps the validation part begins, and where the test part. Raises DataError.

    The training part comes first, as the past of what it shall tell.
    """
    count_validation, count_test = _counts(steps, validation, test, "step", file)
    return steps - count_test - count_validation, steps - count_test


def _counts(whole: int, validation: float, test: float, noun: str, file: Path) -> tuple[int, int]:
    """How many rows or steps two fractions are."""
    for name, fraction in (("validation", validation), ("test", test)):
        if not 0 <= fraction < 1:
            message = f"`{name} = {fraction}` is no fraction of the {noun}s"
            raise DataError(message, file, fix="give one from 0 to 1", key=name)
    counts = round(whole * validation), round(whole * test)
    for name, fraction, count in zip(("validation", "test"), (validation, test), counts, strict=True):
        if fraction > 0 and count == 0:
            message = f"`{name} = {fraction}` of {whole} {noun}s is no {noun}"
            raise DataError(message, file, fix="take a larger fraction or more data", key=name)
    if sum(counts) >= whole:
        raise DataError(
            f"of {whole} {noun}s, {counts[0]} for validation and {counts[1]} for the test leave none to train on",
            file,
            fix="take smaller fractions or more data",
            key="validation" if validation >= test else "test",
        )
    return counts
