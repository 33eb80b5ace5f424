"""One set of rows cut into training, validation and test rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.diagnostics import DataError
from runtime.data.batching import split_order
from runtime.data.specs import Array


@dataclass(frozen=True, slots=True)
class Split:
    """Row indices (i64, ascending) of each part; a part that was not asked for is empty."""

    train: Array
    validation: Array
    test: Array


def split_rows(rows: int, validation: float, test: float, seed: int, file: Path) -> Split:
    """Cut `rows` rows by fractions of the whole, at random by `seed`, without regard to classes. Raises DataError."""
    for name, fraction in (("validation", validation), ("test", test)):
        if not 0 <= fraction < 1:
            raise DataError(f"`{name} = {fraction}` is no fraction of the rows", file, fix="give one from 0 to 1")
    count_test, count_validation = round(rows * test), round(rows * validation)
    for name, fraction, count in (("validation", validation, count_validation), ("test", test, count_test)):
        if fraction > 0 and count == 0:
            raise DataError(
                f"`{name} = {fraction}` of {rows} rows is no row", file, fix="take a larger fraction or more data"
            )
    if count_test + count_validation >= rows:
        raise DataError(
            f"of {rows} rows, {count_validation} for validation and {count_test} for the test leave none to train on",
            file,
            fix="take smaller fractions or more data",
        )
    order = split_order(rows, seed)
    taken = count_test + count_validation
    return Split(np.sort(order[taken:]), np.sort(order[count_test:taken]), np.sort(order[:count_test]))
