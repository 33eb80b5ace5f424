"""One set of rows cut into training, validation and test rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from runtime.data.batching import split_order
from runtime.data.specs import Array


@record
class Split:
    """Row indices (i64, ascending) of each part; a part that was not asked for is empty."""

    train: Array
    validation: Array
    test: Array


def split_rows(rows: int, validation: float, test: float, seed: int, file: Path) -> Split:
    """Cut `rows` rows by fractions of the whole, at random by `seed`, without regard to classes. Raises DataError."""
    count_validation, count_test = _counts(rows, validation, test, "row", file)
    order = split_order(rows, seed)
    taken = count_test + count_validation
    return Split(np.sort(order[taken:]), np.sort(order[count_test:taken]), np.sort(order[:count_test]))


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
