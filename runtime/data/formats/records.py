"""Tables whose columns have names and types: Parquet and Arrow, one file or all that fit a path with `*`.

Each becomes the fields that a csv table has: numbers as f64, text as text, an empty cell as NaN or "". Both are read by
pyarrow, whose blocks are made into columns one after the other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from runtime.data.dataset import BlockSource, Dataset, Field, RowBlock, columns_at
from runtime.data.formats.content import files_at
from runtime.data.formats.csv_table import table_options, windows_of
from runtime.data.formats.format import Format, SourceRequest
from runtime.data.specs import Array
from runtime.support import regular_files
from runtime.support.files import explained, fingerprints, missing

MOST_WHOLE = 2**53  # up to which every whole number is an f64
_FOR_A_BYTE = 6  # of a packed file, in memory on the way to arrays


@record
class Columns:
    """The columns of one file by name, the numbers of its rows, and the names of columns that hold lists or records."""

    file: Path
    columns: Mapping[str, Array]
    numbers: Array
    others: tuple[str, ...]

    @property
    def rows(self) -> int:
        return len(self.numbers)


def read_records(request: SourceRequest, name: str, read: Callable[[Path], Columns]) -> Dataset:
    """The table of all files. Raises DataError."""
    parts = [read(path) for path in files_at(request.path)]
    first = parts[0]
    for part in parts[1:]:
        if part.columns.keys() != first.columns.keys():
            differing = sorted(part.columns.keys() ^ first.columns.keys())
            message = f"its columns are not those of {first.file.name}: {quoted(differing)} stand in one of both"
            raise DataError(message, part.file, fix="give files of the same columns")
    rows = sum(part.rows for part in parts)
    if rows == 0 and not request.may_be_empty:
        raise DataError("there are no rows", request.path, fix="add the rows")
    texts = request.texts | set(_categories(request, first))
    fields = {column: _joined(parts, column, column in texts) for column in first.columns}
    prints = fingerprints(part.file for part in parts)
    options = request.options
    table = table_options(options, has_header=True)
    return Dataset(
        name, request.path, fields, None, table, None, windows_of(options), first.others, fingerprints=prints
    )


def _categories(request: SourceRequest, first: Columns) -> Iterator[str]:
    yield from columns_at(request.options.columns("categories"), tuple(first.columns), request.path)


def _joined(parts: list[Columns], column: str, as_text: bool) -> Field:
    """A column over all files, whose rows know their file and their number in it."""
    pieces = [part.columns[column] for part in parts]
    is_text = [piece.dtype.kind == "O" for piece in pieces]
    if any(is_text) and not all(is_text):
        wrong = parts[is_text.index(False)].file
        message = f"column `{column}` holds numbers here, and text in {parts[is_text.index(True)].file.name}"
        raise DataError(message, wrong, fix="give it one type in all files")
    values = np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
    if as_text and not any(is_text):
        values = _texts_of(values)
    numbers = np.concatenate([part.numbers for part in parts])
    if len(parts) == 1:
        return Field(values, parts[0].file, numbers)
    origin = np.repeat(np.arange(len(parts), dtype=np.int32), [part.rows for part in parts])
    return Field(values, parts[0].file, numbers, origin=origin, origins=tuple(part.file for part in parts))


def _texts_of(values: Array) -> Array:
    """Numbers as texts: 3.0 is `3`."""
    found: Array = np.empty(len(values), np.object_)
    found[:] = ["" if math.isnan(v) else str(int(v)) if v.is_integer() else repr(v) for v in values.tolist()]
    return found


# Parquet and Arrow


def _parquet(path: Path) -> Columns:
    parquet = _pyarrow("parquet", 'data = parquet("…")')
    with _explained(path, "Parquet"):
        file = parquet.ParquetFile(path, page_checksum_verification=True)
        groups = (_row_group(file, path, group) for group in range(file.num_row_groups))
        return _of_batches(path, file.schema_arrow, groups)


def _row_group(file: Any, path: Path, group: int) -> Any:
    try:
        return file.read_row_group(group)
    except (OSError, ValueError) as error:
        first = sum(file.metadata.row_group(k).num_rows for k in range(group)) + 1
        message = f"row group {group}, from row {first} on, cannot be read: {first_line(error)}"
        raise DataError(message, path, fix="fetch the file again") from None


def _arrow(path: Path) -> Columns:
    ipc = _pyarrow("ipc", 'data = arrow("…")')
    with _explained(path, "Arrow"):
        source = _pyarrow("", "").memory_map(str(path))
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        if not is_file:
            stream = ipc.open_stream(source)
            return _of_batches(path, stream.schema, iter(stream))
        reader = ipc.open_file(source)
        return _of_batches(path, reader.schema, map(reader.get_batch, range(reader.num_record_batches)))


def _pyarrow(module: str, purpose: str) -> Any:
    try:
        return import_module(f"pyarrow.{module}" if module else "pyarrow")
    except ImportError as error:
        raise missing("pyarrow", "arrow", purpose) from error


@contextmanager
def _explained(path: Path, format_name: str, is_read: bool = True) -> Generator[None]:
    """What pyarrow says of a file, as DataError; where it `is_read` into memory, it must fit there."""
    with explained(DataError, path):
        if is_read:
            regular_files.expect_room(path, path.stat().st_size, _FOR_A_BYTE)
        try:
            yield
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            message = f"this is no whole {format_name} file: {first_line(error)}"
            raise DataError(message, path, fix="fetch the file again, or check that it is the right one") from None


def first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _of_batches(path: Path, schema: Any, batches: Iterable[Any]) -> Columns:
    """The columns of a file, block after block; of a block, no more than its columns as arrays is kept."""
    kinds = _kinds_of(path, schema)
    pieces: dict[str, list[Array]] = {name: [] for name, kind in kinds.items() if kind is not None}
    rows = 0
    for batch in batches:
        batch.validate(full=True)  # of a hostile file, offsets may lead anywhere
        for name, kept in pieces.items():
            kept.append(_values(path, name, batch.column(name), kinds[name] == "text", rows))
        rows += batch.num_rows
    columns = {name: np.concatenate(kept) if kept else np.zeros(0) for name, kept in pieces.items()}
    numbers = np.arange(1, rows + 1, dtype=np.int64)
    return Columns(path, columns, numbers, tuple(name for name, kind in kinds.items() if kind is None))


def _kinds_of(path: Path, schema: Any) -> dict[str, str | None]:
    """The kind of each column, whose names must differ."""
    repeated = sorted(name for name, count in Counter(field.name for field in schema).items() if count > 1)
    if repeated:
        raise DataError(f"the column name {quoted(repeated)} stands more than once", path, fix="rename the columns")
    return {field.name: _kind(field.type) for field in schema}


def _kind(type_: Any) -> str | None:
    """Whether a column is of numbers or of texts; None for lists and records."""
    types = _pyarrow("types", "")
    if types.is_dictionary(type_):
        return _kind(type_.value_type)
    if types.is_temporal(type_) or types.is_string(type_) or types.is_large_string(type_):
        return "text"
    is_number = (
        types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_) or types.is_boolean(type_)
    )
    return "numbers" if is_number or types.is_null(type_) else None


def _values(path: Path, name: str, column: Any, is_text: bool, before: int) -> Array:
    """A column of a block: numbers as f64, texts, dates and times as text. Raises DataError for one that f64 lacks."""
    arrow, types = _pyarrow("", ""), _pyarrow("types", "")
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_text:
        cells = column.cast(arrow.string()).to_pylist()
        values: Array = np.empty(len(cells), np.object_)
        values[:] = ["" if cell is None else cell for cell in cells]
        return values
    if not column.null_count and (types.is_integer(column.type) or types.is_floating(column.type)):
        return _plain_values(path, name, column, before)
    if types.is_boolean(column.type):
        column = column.cast(arrow.int8())
    elif types.is_integer(column.type):
        _expect_exact(path, name, column, before)
    column = column.cast(arrow.float64(), safe=False)
    chunks = [column] if isinstance(column, arrow.Array) else column.chunks
    numbers = [np.asarray(chunk.to_numpy(zero_copy_only=False), np.float64) for chunk in chunks]
    return np.concatenate(numbers) if numbers else np.zeros(0)


def _plain_values(path: Path, name: str, column: Any, before: int) -> Array:  # without Arrow's kernels of 10 MB
    values: Array = np.asarray(column.to_numpy(zero_copy_only=False))
    wrong = (values > MOST_WHOLE) | (values < -MOST_WHOLE) if values.dtype.kind in "iu" else np.zeros(1, np.bool_)
    if (row := int(np.argmax(wrong))) or wrong.any():
        raise _inexact(path, name, int(values[row]), before + row + 1)
    return values.astype(np.float64)


def _inexact(path: Path, name: str, number: int, row: int) -> DataError:
    text = f"column `{name}` holds {number}, and f64 has not all whole numbers above 2^53"
    return DataError(text, path, row, "write the column as text, or leave it out of the file")


def _expect_exact(path: Path, name: str, column: Any, before: int) -> None:
    """That f64 has each whole number of a column."""
    for row, cell in enumerate(column.to_pylist(), before + 1):
        if cell is not None and abs(cell) > MOST_WHOLE:
            raise _inexact(path, name, cell, row)


# Blocks


_Kinds = Mapping[str, str | None]
_BLOCK_BYTES, _MOST_ROWS = 1 << 22, 1 << 16
_BUFFER = 1 << 16  # of a file, for each column
_PAGES = 3 << 20  # bytes of a column that is read by pages: writers end a page, and a dictionary, at 1 MiB


@record
class FileBlocks:
    """One file that is read in blocks: the kinds of its columns, and how the blocks of some of them are read.

    `held`: bytes that its parts take while one is read, beside a block.
    """

    kinds: _Kinds
    read: Callable[[Sequence[str]], Iterator[RowBlock]]
    held: int = 0


def stream_records(request: SourceRequest, name: str, opened: Callable[[Path], FileBlocks]) -> BlockSource:
    """The tables of all files, one after the other. Raises DataError."""
    files = files_at(request.path)
    first = opened(files[0])
    others = tuple(column for column, kind in first.kinds.items() if kind is None)
    texts = request.texts | set(columns_at(request.options.columns("categories"), tuple(first.kinds), request.path))
    kinds = {c: "text" if c in texts else kind for c, kind in first.kinds.items() if kind is not None}
    fields = {column: Field(np.zeros(0, _DTYPES[kind]), files[0]) for column, kind in kinds.items()}
    options = request.options
    table, windows = table_options(options, has_header=True), windows_of(options)
    head = Dataset(name, request.path, fields, None, table, None, windows, others)

    def blocks(wanted: Sequence[str]) -> Iterator[RowBlock]:
        for path in files:
            file = opened(path)
            _expect_kinds(path, file.kinds, files[0], first.kinds)
            for block in file.read(wanted):
                yield replace(block, arrays={c: _of_kind(block.arrays[c], kinds[c], c in texts) for c in wanted})

    return BlockSource(head, tuple(files), blocks, lambda: fingerprints(files), held=first.held)


_DTYPES = {"numbers": np.dtype(np.float64), "text": np.dtype(np.object_)}


def _of_kind(values: Array, kind: str, as_text: bool) -> Array:
    return _texts_of(values) if kind == "text" and as_text and values.dtype.kind == "f" else values


def _expect_kinds(path: Path, kinds: _Kinds, first: Path, expected: _Kinds) -> None:
    if kinds.keys() != expected.keys():
        differing = sorted(kinds.keys() ^ expected.keys())
        message = f"its columns are not those of {first.name}: {quoted(differing)} stand in one of both"
        raise DataError(message, path, fix="give files of the same columns")
    differing = [column for column, kind in kinds.items() if kind != expected[column]]
    if differing:
        told = {None: "lists or records", "text": "text", "numbers": "numbers"}
        column = differing[0]
        message = f"column `{column}` holds {told[kinds[column]]} here, and {told[expected[column]]} in {first.name}"
        raise DataError(message, path, fix="give it one type in all files")


def _parquet_blocks(path: Path) -> FileBlocks:
    parquet = _pyarrow("parquet", 'data = parquet("…")')
    with _explained(path, "Parquet", is_read=False), parquet.ParquetFile(path, page_checksum_verification=True) as file:
        kinds = _kinds_of(path, file.schema_arrow)
        groups = map(file.metadata.row_group, range(file.num_row_groups))
        held = max((min(_unpacked_bytes(group), _PAGES * group.num_columns) for group in groups), default=0)

    def read(wanted: Sequence[str]) -> Iterator[RowBlock]:
        with (
            _explained(path, "Parquet", is_read=False),
            parquet.ParquetFile(path, buffer_size=_BUFFER, page_checksum_verification=True) as file,
        ):
            done = 0
            for group in range(file.num_row_groups):
                for batch in _told_of_group(_batches_of_group(file, group, wanted), path, group, done):
                    yield _block_of_batch(path, batch, kinds, wanted, done, f"row group {group}")
                    done += batch.num_rows
                    del batch  # before the next row group is read
                _pyarrow("", "").default_memory_pool().release_unused()

    return FileBlocks(kinds, read, held)


def _batches_of_group(file: Any, group: int, wanted: Sequence[str]) -> Iterator[Any]:
    """A row group in blocks: small, it is held, unpacked column by column; else columns are read by pages together."""
    if _unpacked_bytes(file.metadata.row_group(group)) > _PAGES * len(wanted):
        yield from file.iter_batches(
            _rows_of_block(wanted), row_groups=[group], columns=list(wanted), use_threads=False
        )
        return
    columns = {name: file.read_row_group(group, columns=[name], use_threads=False).column(0) for name in wanted}
    table, each = _pyarrow("", "").table(columns), _rows_of_block(wanted)
    yield from (table.slice(first, each) for first in range(0, table.num_rows, each))


def _unpacked_bytes(group: Any) -> int:
    """What all columns of a row group take when they are unpacked."""
    return sum(int(group.column(place).total_uncompressed_size) for place in range(group.num_columns))


def _told_of_group(batches: Iterator[Any], path: Path, group: int, done: int) -> Iterator[Any]:
    """The batches of a row group; the error of one that cannot be read names it."""
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (OSError, ValueError) as error:
            message = f"row group {group}, from row {done + 1} on, cannot be read: {first_line(error)}"
            raise DataError(message, path, fix="fetch the file again") from None
        done += batch.num_rows
        yield batch


def _arrow_blocks(path: Path) -> FileBlocks:
    arrow, ipc = _pyarrow("", 'data = arrow("…")'), _pyarrow("ipc", 'data = arrow("…")')

    def opened() -> tuple[Any, Iterator[Any]]:
        source = arrow.OSFile(str(path))
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        if not is_file:
            stream = ipc.open_stream(source)
            return stream.schema, iter(stream)
        reader = ipc.open_file(source)
        return reader.schema, map(reader.get_batch, range(reader.num_record_batches))

    with _explained(path, "Arrow", is_read=False):
        kinds = _kinds_of(path, opened()[0])

    def read(wanted: Sequence[str]) -> Iterator[RowBlock]:
        with _explained(path, "Arrow", is_read=False):
            done, size = 0, _rows_of_block(wanted)
            for number, batch in enumerate(opened()[1]):
                for first in range(0, batch.num_rows, size):
                    part = batch.slice(first, size)
                    yield _block_of_batch(path, part, kinds, wanted, done, f"record batch {number}")
                    done += part.num_rows

    return FileBlocks(kinds, read)


def _rows_of_block(wanted: Sequence[str]) -> int:
    return max(1, min(_MOST_ROWS, _BLOCK_BYTES // (8 * max(1, len(wanted)))))


def _block_of_batch(path: Path, batch: Any, kinds: _Kinds, wanted: Sequence[str], before: int, place: str) -> RowBlock:
    try:
        batch.validate(full=True)  # of a hostile file, offsets may lead anywhere
    except ValueError as error:
        raise DataError(f"{place}, from row {before + 1} on, cannot be read: {first_line(error)}", path) from None
    arrays = {name: _values(path, name, batch.column(name), kinds[name] == "text", before) for name in wanted}
    return RowBlock(arrays, path, np.arange(before + 1, before + batch.num_rows + 1, dtype=np.int64), place)


def format_of_files(
    name: str, endings: tuple[str, ...], read: Callable[[Path], Columns], opened: Callable[[Path], FileBlocks]
) -> Format:
    def holds(path: Path) -> bool:
        try:
            return all(file.name.lower().removesuffix(".gz").endswith(endings) for file in files_at(path))
        except DataError:  # there is no file
            return False

    def stream(request: SourceRequest) -> BlockSource:
        return stream_records(request, name, opened)

    return Format(name, endings, lambda request: read_records(request, name, read), stream, holds, by_pattern=True)


PARQUET = format_of_files("parquet", (".parquet", ".pq"), _parquet, _parquet_blocks)
ARROW = format_of_files("arrow", (".arrow", ".feather", ".ipc", ".arrows"), _arrow, _arrow_blocks)
