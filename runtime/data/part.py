"""Rows of data for one purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from compiler.support.record import record
from runtime.data.specs import Array


@record
class RowNames:
    """The file from which rows come, and their numbers there; without any, they count from 1.

    `files` are those of the rows, where each row is a file.
    """

    file: Path
    numbers: Array | None = None
    files: tuple[Path, ...] = ()

    def of(self, row: int) -> int:
        """The name of row `row` (from 0) in a message."""
        return row + 1 if self.numbers is None else int(self.numbers[row])


@record
class Part:
    """`arrays` hold every row of a source by input or target; `rows` (i64) says which belong to this part.

    Rows that are windows of a series begin up to `slack` steps later, drawn anew for each epoch. Where `lengths` of
    all rows are given, a batch of training takes rows of similar length. `buckets` are the sizes at which batches are
    computed, by the names of dimensions; the last is that of the program. `names` are what the rows of `arrays` are
    called, where they come from rows of a file.
    """

    arrays: Mapping[str, Array]
    rows: Array
    slack: int = 0
    lengths: Array | None = None
    buckets: tuple[Mapping[str, int], ...] = ()
    names: Mapping[str, RowNames] = field(default_factory=dict[str, RowNames])
