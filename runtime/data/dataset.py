"""The content of one data source before it is matched to a program: named fields, rows first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import did_you_mean, quoted
from compiler.support.record import record
from runtime.data.specs import Array
from runtime.data.text.tokenizer import TokenRules

SYNONYMS = "synonyms"
"""The field of texts that gives words which may stand for each token, instead of the tokens."""


@record
class Field:
    """One named array and the file it came from. Text has dtype kind `U` or, from a
    csv file, is an array of `str` objects. A missing value is an empty text or NaN.

    `row_numbers` are the rows as the user counts them (lines of a csv file); None counts from 1. `classes` names what
    the numbers from 0 on stand for, where the data says it. `synonyms` are words with those that may stand for them.
    `files` are those of the rows, where each row is a file. Where rows come from several files, `origins`, `origin`
    says the place of each row's among these (i32).
    """

    values: Array
    file: Path
    row_numbers: Array | None = None
    classes: tuple[str, ...] | None = None
    synonyms: tuple[tuple[str, ...], ...] = ()
    files: tuple[Path, ...] = ()
    origin: Array | None = None
    origins: tuple[Path, ...] = ()

    @property
    def is_text(self) -> bool:
        return self.values.dtype.kind in "UO"

    @property
    def numbers(self) -> Array:
        """The names of all rows in a message (i64)."""
        return np.arange(1, len(self.values) + 1) if self.row_numbers is None else self.row_numbers

    def row_number(self, row: int) -> int:
        """The name of row `row` (from 0) in a message."""
        return row + 1 if self.row_numbers is None else int(self.row_numbers[row])

    def at(self, rows: Array) -> Field:
        """The field with these rows alone, which keep their names."""
        numbers = rows + 1 if self.row_numbers is None else self.row_numbers[rows]
        files = tuple(self.files[int(row)] for row in rows.tolist()) if self.files else ()
        origin = None if self.origin is None else self.origin[rows]
        return replace(self, values=self.values[rows], row_numbers=numbers, files=files, origin=origin)

    def file_of(self, row: int) -> Path:
        """The file from which row `row` (from 0) comes."""
        return self.file if self.origin is None else self.origins[int(self.origin[row])]


SCALINGS = ("standard", "min-max", "robust")
"""How columns of numbers are scaled: by mean and deviation, by their least and largest number, by quartiles."""


@record
class TableOptions:
    """How the columns of a table become inputs and targets; other formats match by name alone.

    `target` and `columns` hold column names, or positions as integers (negative from the end).
    `missing` is `error`, `drop` or `mean`; `normalise` is "" or one of `SCALINGS`.
    """

    target: tuple[str | int, ...] = ()
    columns: tuple[str | int, ...] = ()
    categories: tuple[str | int, ...] = ()
    missing: str = "error"
    normalise: str = ""
    has_header: bool = False


@record
class Reading:
    """How the texts of a field become numbers: by which vocabulary, and with which of their ends marked."""

    vocabulary: str
    start: bool = False
    end: bool = False


@record
class TextPlan:
    """`readings`: the fields of text that become tokens, all by the same `rules`.

    `longest` bounds the tokens of a text. With `buckets`, a batch takes texts of similar length, and is computed at one
    of so many lengths; None stands for as many as pay.
    """

    rules: TokenRules
    readings: Mapping[str, Reading]
    longest: int | None = None
    buckets: int | None = 0


@record
class WindowPlan:
    """A series, of which the rows of a program are windows. For text, the one row of the fields is the whole of it.

    `length`: steps of a window that feed the inputs, None where the program says it. `horizon`: how many steps behind
    them the last value of a target lies. `stride`: steps from a window of the training to the next.
    """

    length: int | None = None
    horizon: int | None = None
    stride: int | None = None


@record
class Dataset:
    """The result of a reader. `test` is the part that the format itself sets aside for testing, if it has one.

    `unread` names what the file holds besides `fields` and nobody asked for; `fingerprints` are by file.
    `chosen_by` are the columns by which rows were chosen.
    """

    format: str
    path: Path
    fields: Mapping[str, Field]
    test: Mapping[str, Field] | None = None
    table: TableOptions | None = None
    text: TextPlan | None = None
    windows: WindowPlan | None = None
    unread: tuple[str, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()
    chosen_by: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return len(next(iter(self.fields.values())).values) if self.fields else 0


@record
class RowBlock:
    """Rows that follow each other in one file, by field. `numbers` (i64) are what they are called there.

    `place` says where in the file they lie, such as `row group 3`, or "".
    """

    arrays: Mapping[str, Array]
    file: Path
    numbers: Array
    place: str = ""


@record
class BlockSource:
    """A source that is read block by block. `head` has its fields with their types and shapes, but no row.

    `files` are all that it reads. `blocks` reads the fields of those names, from the first row on, each time it is
    called. `test` is the part that the format sets aside for testing. `fingerprints` are by file.
    `held`: bytes of the first file that reading holds beside a block, such as a row group.
    """

    head: Dataset
    files: tuple[Path, ...]
    blocks: Callable[[Sequence[str]], Iterator[RowBlock]]
    fingerprints: Callable[[], Mapping[str, str]]
    test: BlockSource | None = None
    held: int = 0


def columns_at(columns: Sequence[str | int], names: Sequence[str], path: Path) -> tuple[str, ...]:
    """The names of columns given by name or position. Raises DataError for one that is not there."""
    known = frozenset(names)
    return tuple(column if column in known else _column_at(column, names, path) for column in columns)


def _column_at(column: str | int, names: Sequence[str], path: Path) -> str:
    if isinstance(column, int):
        if -len(names) <= column < len(names):
            return names[column]
        message = f"there is no column {column}: the table has {len(names)} columns"
        raise DataError(message, path, fix=f"use 0 to {len(names) - 1}, or -1 for the last")
    if column not in names:
        message = f"there is no column `{column}`{did_you_mean(column, names, '; ')}"
        raise DataError(message, path, fix=f"the columns are {quoted(names)}")
    return column
