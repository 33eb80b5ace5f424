"""The rows at which derivatives are checked: the first ones of the training data, or made-up ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compiler.driver import Array, Program
from compiler.errors.diagnostics import DlcError
from runtime.data.synthetic import synthetic
from runtime.train.jobs import load_data


def rows_for_check(program: Program, path: Path | None, batch: int, seed: int) -> tuple[dict[str, Array], bool]:
    """`batch` rows of each input and target, and whether they are real.

    Data that is named by `path` must be there; that of the text may be missing.
    """
    source = None if program.plan is None else program.plan.data
    if path is not None or source is not None:
        try:
            part = load_data(program, path).train
        except DlcError:
            if path is not None:
                raise
        else:
            rows = np.resize(part.rows, batch)  # from the beginning again, where there are too few
            return {name: array[rows] for name, array in part.arrays.items()}, True
    return synthetic(program.inputs, batch, seed), False
