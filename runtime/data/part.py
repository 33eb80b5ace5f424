"""Rows of data for one purpose."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.record import record
from runtime.data.specs import Array


@record
class Part:
    """`arrays` hold every row of a source by input or target; `rows` (i64) says which belong to this part.

    Rows that are windows of a series begin up to `slack` steps later, drawn anew for each epoch. Where `lengths` of
    all rows are given, a batch of training takes rows of similar length. `buckets` are the sizes at which batches are
    computed, by the names of dimensions; the last is that of the program.
    """

    arrays: Mapping[str, Array]
    rows: Array
    slack: int = 0
    lengths: Array | None = None
    buckets: tuple[Mapping[str, int], ...] = ()
