"""One csv file, or all that fit a path with `*` and are one table: read into memory, or block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from runtime.data.dataset import BlockSource, Dataset, Field, RowBlock, columns_at
from runtime.data.formats.content import files_at, line_blocks_of
from runtime.data.formats.csv_table import (
    MISSING,
    Head,
    Lines,
    begun,
    columns_of,
    lines_in,
    no_number,
    number_in,
    read_csv,
    separator_of,
    table_options,
    windows_of,
)
from runtime.data.formats.format import Format, SourceRequest
from runtime.data.specs import Array
from runtime.support.files import fingerprints


def read_csv_files(request: SourceRequest) -> Dataset:
    """The table of all files. Raises DataError."""
    files = _files_of(request.path)
    first, *others = [read_csv(replace(request, path=file)) for file in files]
    if not others:
        return first
    for other in others:
        _expect_columns(other.path, tuple(other.fields), files[0], tuple(first.fields))
    fields = {name: _joined([first.fields[name], *(o.fields[name] for o in others)], name) for name in first.fields}
    notes = tuple(dict.fromkeys(note for part in (first, *others) for note in part.notes))
    return replace(first, path=request.path, fields=fields, fingerprints=fingerprints(files), notes=notes)


def _files_of(path: Path) -> list[Path]:
    return files_at(path) if "*" in str(path) or path.is_dir() else [path]


def _expect_columns(path: Path, names: tuple[str, ...], first: Path, expected: tuple[str, ...]) -> None:
    if names != expected:
        differing = sorted(set(names) ^ set(expected))
        told = f"{quoted(differing)} stand in one of both" if differing else "they stand in another order"
        raise DataError(
            f"its columns are not those of {first.name}: {told}", path, fix="give files of the same columns"
        )


def _joined(fields: Sequence[Field], name: str) -> Field:
    """A column over all files, whose rows know their file and their line in it."""
    texts = [field.is_text for field in fields]
    if any(texts) and not all(texts):
        numbers, other = fields[texts.index(False)].file, fields[texts.index(True)].file
        message = f"column `{name}` holds numbers here, and text in {other.name}"
        fix = f'give it one type in all files, or say that it is text: `categories = ["{name}"]`'
        raise DataError(message, numbers, fix=fix)
    values = np.concatenate([field.values for field in fields])
    origin = np.repeat(np.arange(len(fields), dtype=np.int32), [len(field.values) for field in fields])
    rows = np.concatenate([field.numbers for field in fields])
    return Field(values, fields[0].file, rows, origin=origin, origins=tuple(field.file for field in fields))


def stream_csv(request: SourceRequest) -> BlockSource:
    """As `read_csv_files`. Whether a column holds numbers or text is decided by the first block. Raises DataError."""
    files = _files_of(request.path)
    first, head = _begun(files[0], request)
    table = table_options(request.options, head.has_header)
    forced = request.texts | set(columns_at(table.categories, head.names, request.path))
    columns, _ = columns_of(first, head, forced, head.names)
    texts = frozenset(name for name, values in columns.items() if values.dtype.kind == "O")
    fields = {name: Field(values[:0], files[0]) for name, values in columns.items()}

    def blocks(wanted: Sequence[str]) -> Iterator[RowBlock]:
        counted = {name: _Counted() for name in wanted if name in texts - forced}
        for file in files:
            beginning, own = _begun(file, request)
            _expect_columns(file, own.names, files[0], head.names)
            rest = (lines_in(text, file, number, beginning.separator) for number, text in _rest_of(file))
            for lines in chain([beginning], rest):
                found, numbers = columns_of(lines, own, texts, wanted)
                _expect_numbers(lines, own, found, texts)
                for name, counts in counted.items():
                    counts.note(found[name], file, numbers)
                yield RowBlock(found, file, numbers)
        for name, counts in counted.items():
            counts.expect_text(name)

    windows = windows_of(request.options)
    dataset = Dataset("csv", request.path, fields, table=table, windows=windows, notes=head.notes)
    return BlockSource(dataset, tuple(files), blocks, lambda: fingerprints(files))


def _begun(file: Path, request: SourceRequest) -> tuple[Lines, Head]:
    """The rows of the first block of a file, and its head. Raises DataError."""
    number, text = next(line_blocks_of(file), (1, b""))
    lines = lines_in(text, file, number)
    if not lines.numbers:
        raise DataError("the file is empty", file, fix="check that this is the right file")
    lines = replace(lines, separator=separator_of(request.options, lines.texts[0], file))
    return begun(lines, replace(request, path=file))


def _rest_of(file: Path) -> Iterator[tuple[int, bytes]]:
    blocks = line_blocks_of(file)
    next(blocks, None)
    return blocks


def _expect_numbers(lines: Lines, head: Head, found: dict[str, Array], texts: frozenset[str]) -> None:
    """That a block of a column of numbers, most of which may be text, has none."""
    for name in (name for name, values in found.items() if values.dtype.kind == "O" and name not in texts):
        place = head.names.index(name)
        for number, cells in lines.records():
            cell = cells[place].strip()
            if cell not in MISSING and number_in(cell) is None:
                raise no_number(cell, name, lines.path, number)


@record
class _Wrong:
    """The first cell that is no number, and where it stands."""

    cell: str
    file: Path
    row: int


class _Counted:
    """How many cells of a column of text are numbers, which is no text if half of them are."""

    def __init__(self) -> None:
        self._present = self._numbers = 0
        self._wrong: _Wrong | None = None

    def note(self, values: Array, file: Path, rows: Array) -> None:
        for place, cell in enumerate(values.tolist()):
            if not cell:
                continue
            self._present += 1
            if number_in(cell) is not None:
                self._numbers += 1
            elif self._wrong is None:
                self._wrong = _Wrong(cell, file, int(rows[place]))

    def expect_text(self, name: str) -> None:
        """As a column in memory: at least half of the cells are numbers where it holds numbers."""
        if self._wrong is not None and 2 * (self._present - self._numbers) <= self._present:
            raise no_number(self._wrong.cell, name, self._wrong.file, self._wrong.row)


def _holds(path: Path) -> bool:
    try:
        return all(file.name.lower().removesuffix(".gz").endswith((".csv", ".tsv")) for file in files_at(path))
    except DataError:  # there is no file
        return False


CSV = Format("csv", (".csv", ".tsv", ".txt", ".data"), read_csv_files, stream_csv, _holds, by_pattern=True)
