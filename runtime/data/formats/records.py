"""Tables whose columns have names and types: Parquet, Arrow and JSON lines, one file or all that fit a path with `*`.

Each becomes the fields that a csv table has: numbers as f64, text as text, an empty cell as NaN or "". Parquet and
Arrow are read by pyarrow, whose blocks are made into columns one after the other.
"""

from __future__ import annotations

import glob
import json
import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from runtime.data.dataset import Dataset, Field, columns_at
from runtime.data.formats.content import text_of
from runtime.data.formats.csv_table import table_options, windows_of
from runtime.data.formats.format import Format, SourceRequest
from runtime.data.specs import Array
from runtime.support import regular_files
from runtime.support.files import explained, fingerprint, missing

_MOST_WHOLE = 2**53  # up to which every whole number is an f64
_FOR_A_BYTE = 6  # of a packed file, in memory on the way to arrays


@record
class _Columns:
    """The columns of one file by name, the numbers of its rows, and the names of columns that hold lists or records."""

    file: Path
    columns: Mapping[str, Array]
    rows: int
    others: tuple[str, ...]


def read_records(request: SourceRequest, name: str, read: Callable[[Path], _Columns]) -> Dataset:
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
    prints = {part.file.name: fingerprint(part.file) for part in parts}
    options = request.options
    table = table_options(options, has_header=True)
    return Dataset(
        name, request.path, fields, None, table, None, windows_of(options), first.others, fingerprints=prints
    )


def _categories(request: SourceRequest, first: _Columns) -> Iterator[str]:
    yield from columns_at(request.options.columns("categories"), tuple(first.columns), request.path)


def files_at(path: Path) -> list[Path]:
    """The file at a path, all files in a folder, or all that fit a path with `*`, in the order of their names."""
    pattern = "*".join(map(glob.escape, str(path).split("*"))) if "*" in str(path) else None
    if pattern is None and not path.is_dir():
        return [path]
    found = sorted(map(Path, glob.glob(pattern))) if pattern is not None else sorted(path.iterdir())
    files = [file for file in found if file.is_file() and not file.name.startswith((".", "_"))]
    if not files:
        raise DataError("no file fits this path", path, fix="check the path; `*` stands for a part of a name")
    return files


def _joined(parts: list[_Columns], column: str, as_text: bool) -> Field:
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
    numbers = np.concatenate([np.arange(1, part.rows + 1, dtype=np.int64) for part in parts])
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


def _parquet(path: Path) -> _Columns:
    parquet = _pyarrow("parquet", 'data = parquet("…")')
    with _explained(path, "Parquet"):
        file = parquet.ParquetFile(path)
        groups = (_row_group(file, path, group) for group in range(file.num_row_groups))
        return _of_batches(path, file.schema_arrow, groups)


def _row_group(file: Any, path: Path, group: int) -> Any:
    try:
        return file.read_row_group(group)
    except (OSError, ValueError) as error:
        first = sum(file.metadata.row_group(k).num_rows for k in range(group)) + 1
        message = f"row group {group}, from row {first} on, cannot be read: {_first_line(error)}"
        raise DataError(message, path, fix="fetch the file again") from None


def _arrow(path: Path) -> _Columns:
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
def _explained(path: Path, format_name: str) -> Generator[None]:
    """What pyarrow says of a file, as DataError."""
    with explained(DataError, path):
        regular_files.expect_room(path, path.stat().st_size, _FOR_A_BYTE)
        try:
            yield
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            message = f"this is no whole {format_name} file: {_first_line(error)}"
            raise DataError(message, path, fix="fetch the file again, or check that it is the right one") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _of_batches(path: Path, schema: Any, batches: Iterable[Any]) -> _Columns:
    """The columns of a file, block after block; of a block, no more than its columns as arrays is kept."""
    kinds = {field.name: _kind(field.type) for field in schema}
    repeated = sorted(name for name, count in Counter(field.name for field in schema).items() if count > 1)
    if repeated:
        raise DataError(f"the column name {quoted(repeated)} stands more than once", path, fix="rename the columns")
    pieces: dict[str, list[Array]] = {name: [] for name, kind in kinds.items() if kind is not None}
    rows = 0
    for batch in batches:
        batch.validate(full=True)  # of a hostile file, offsets may lead anywhere
        for name, kept in pieces.items():
            kept.append(_values(path, name, batch.column(name), kinds[name] == "text", rows))
        rows += batch.num_rows
    columns = {name: np.concatenate(kept) if kept else np.zeros(0) for name, kept in pieces.items()}
    return _Columns(path, columns, rows, tuple(name for name, kind in kinds.items() if kind is None))


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
    if types.is_boolean(column.type):
        column = column.cast(arrow.int8())
    elif types.is_integer(column.type):
        _expect_exact(path, name, column, before)
    column = column.cast(arrow.float64(), safe=False)
    chunks = [column] if isinstance(column, arrow.Array) else column.chunks
    numbers = [np.asarray(chunk.to_numpy(zero_copy_only=False), np.float64) for chunk in chunks]
    return np.concatenate(numbers) if numbers else np.zeros(0)


def _expect_exact(path: Path, name: str, column: Any, before: int) -> None:
    """That f64 has each whole number of a column."""
    bounds = _pyarrow("compute", "").min_max(column).as_py()
    if all(bound is None or abs(bound) <= _MOST_WHOLE for bound in bounds.values()):
        return
    cells = column.to_pylist()
    wrong = next(k for k, cell in enumerate(cells) if cell is not None and abs(cell) > _MOST_WHOLE)
    message = f"column `{name}` holds {cells[wrong]}, and f64 has not all whole numbers above 2^53"
    raise DataError(message, path, before + wrong + 1, "write the column as text, or leave it out of the file")


# JSON lines


def _json_lines(path: Path) -> _Columns:
    """A record in each line that is not blank. Raises DataError with the line."""
    columns: dict[str, list[object]] = {}
    rows = 0
    for number, line in enumerate(text_of(path).split(b"\n"), 1):
        if not line.strip():
            continue
        for name, cell in _record_in(path, number, line).items():
            kept = columns.setdefault(name, [None] * rows)
            kept.append(cell)
        rows += 1
        for kept in columns.values():
            kept += [None] * (rows - len(kept))
    others = tuple(name for name, cells in columns.items() if any(isinstance(c, list | dict) for c in cells))
    known = {name: _of_cells(path, name, cells) for name, cells in columns.items() if name not in others}
    return _Columns(path, known, rows, others)


def _record_in(path: Path, number: int, line: bytes) -> dict[str, object]:
    try:
        found: object = json.loads(line, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"this line is no JSON: {_first_line(error)}", path, number, "write one record a line"
        ) from None
    if not isinstance(found, dict):
        raise DataError("this line holds no record", path, number, 'write lines such as {"x": 1.5, "kind": "iris"}')
    return cast("dict[str, object]", found)


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A record; ValueError where a name stands twice, of which JSON's readers take the last without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"`{repeated}` stands in it twice")
    return found


def _of_cells(path: Path, name: str, cells: list[object]) -> Array:
    """Numbers where no cell is a text; a cell that is not there is missing."""
    if any(isinstance(cell, str) for cell in cells):
        wrong = next((k for k, cell in enumerate(cells) if cell is not None and not isinstance(cell, str)), None)
        if wrong is not None:
            message = f"column `{name}` holds texts, but here stands {json.dumps(cells[wrong])}"
            raise DataError(message, path, wrong + 1, "give a column one type")
        values: Array = np.empty(len(cells), np.object_)
        values[:] = ["" if cell is None else cell for cell in cells]
        return values
    numbers = [math.nan if cell is None else cell for cell in cells]
    wrong = next((k for k, n in enumerate(numbers) if isinstance(n, int) and abs(n) > _MOST_WHOLE), None)
    if wrong is not None:
        message = f"column `{name}` holds {numbers[wrong]}, and f64 has not all whole numbers above 2^53"
        raise DataError(message, path, wrong + 1, "write it in quotes, as a text")
    return np.array(numbers, np.float64)


def _format(name: str, endings: tuple[str, ...], read: Callable[[Path], _Columns]) -> Format:
    def holds(path: Path) -> bool:
        try:
            return all(file.name.lower().removesuffix(".gz").endswith(endings) for file in files_at(path))
        except DataError:  # there is no file
            return False

    return Format(name, endings, lambda request: read_records(request, name, read), holds, by_pattern=True)


PARQUET = _format("parquet", (".parquet", ".pq"), _parquet)
ARROW = _format("arrow", (".arrow", ".feather", ".ipc", ".arrows"), _arrow)
JSONL = _format("jsonl", (".jsonl", ".ndjson"), _json_lines)
