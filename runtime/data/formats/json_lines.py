"""JSON lines: a record in each line, whose names are the columns of a table, of one file or of several."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from compiler.errors.diagnostics import DataError
from runtime.data.dataset import RowBlock
from runtime.data.formats.content import line_blocks_of, text_of
from runtime.data.formats.records import MOST_WHOLE, Columns, FileBlocks, first_line, format_of_files
from runtime.data.specs import Array

_KINDS: Mapping[type, str | None] = {str: "text", list: None, dict: None}
"""Of cells that are no numbers; None for lists and records, which no column of a table holds."""


def _json_lines(path: Path) -> Columns:
    """A record in each line that is not blank. Raises DataError with the line."""
    lines = ((number, line) for number, line in enumerate(text_of(path).split(b"\n"), 1) if line.strip())
    return _of_records(path, ((number, _record_in(path, number, line)) for number, line in lines))


def _of_records(path: Path, records: Iterable[tuple[int, Mapping[str, object]]]) -> Columns:
    """The columns of records, each with its line, of which no more than the cells is kept."""
    columns: dict[str, list[object]] = {}
    numbers: list[int] = []
    for number, found in records:
        for name, cell in found.items():
            columns.setdefault(name, [None] * len(numbers)).append(cell)
        numbers.append(number)
        for kept in columns.values():
            kept += [None] * (len(numbers) - len(kept))
    kinds = {name: _kind_of(cells) for name, cells in columns.items()}
    others = tuple(name for name, kind in kinds.items() if kind is None)
    known = {n: _of_cells(path, n, columns[n], numbers, kind) for n, kind in kinds.items() if kind is not None}
    return Columns(path, known, np.array(numbers, np.int64), others)


def _record_in(path: Path, number: int, line: bytes) -> dict[str, object]:
    try:
        found: object = json.loads(line, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise DataError(f"this line is no JSON: {first_line(error)}", path, number, "write one record a line") from None
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


def _kind_of(cells: Iterable[object]) -> str | None:
    """What most cells of a column hold, so that those are blamed that differ."""
    counts = Counter(_KINDS.get(type(cell), "numbers") for cell in cells if cell is not None)
    return counts.most_common(1)[0][0] if counts else "numbers"


def _of_cells(path: Path, name: str, cells: Sequence[object], numbers: Sequence[int], kind: str | None) -> Array:
    """A column of texts or of numbers, as `kind` says; a cell that is not there is missing."""
    wrong = next(
        (k for k, cell in enumerate(cells) if cell is not None and _KINDS.get(type(cell), "numbers") != kind), None
    )
    if wrong is not None:
        holds = "texts" if kind == "text" else "numbers"
        message = f"column `{name}` holds {holds}, but here stands {json.dumps(cells[wrong])[:40]}"
        raise DataError(message, path, numbers[wrong], "give a column one type")
    if kind == "text":
        values: Array = np.empty(len(cells), np.object_)
        values[:] = ["" if cell is None else cell for cell in cells]
        return values
    found = [math.nan if cell is None else cell for cell in cells]
    wrong = next((k for k, n in enumerate(found) if isinstance(n, int) and abs(n) > MOST_WHOLE), None)
    if wrong is not None:
        message = f"column `{name}` holds {found[wrong]}, and f64 has not all whole numbers above 2^53"
        raise DataError(message, path, numbers[wrong], "write it in quotes, as a text")
    return np.array(found, np.float64)


def _json_blocks(path: Path) -> FileBlocks:
    """The kinds are those of the first block; a record may leave out what another has, but name nothing new."""
    beginning = next(_json_records(path), None)
    found = (
        Columns(path, {}, np.zeros(0, np.int64), ())
        if beginning is None
        else _of_records(path, zip(*beginning, strict=True))
    )
    kinds: dict[str, str | None] = {n: "text" if a.dtype.kind == "O" else "numbers" for n, a in found.columns.items()}
    kinds |= dict.fromkeys(found.others)

    def read(wanted: Sequence[str]) -> Iterator[RowBlock]:
        for numbers, records in _json_records(path):
            for number, line in zip(numbers, records, strict=True):
                if line.keys() - kinds.keys():
                    message = f"`{next(iter(line.keys() - kinds.keys()))}` first stands here"
                    fix = "write it in the first line too, as `null`"
                    raise DataError(message, path, number, fix)
            arrays = {n: _of_cells(path, n, [r.get(n) for r in records], numbers, kinds[n]) for n in wanted}
            yield RowBlock(arrays, path, np.array(numbers, np.int64))

    return FileBlocks(kinds, read)


def _json_records(path: Path) -> Iterator[tuple[list[int], list[dict[str, object]]]]:
    """The records of a block of lines, and the numbers of the lines."""
    for first, text in line_blocks_of(path):
        lines = [(number, line) for number, line in enumerate(text.split(b"\n"), first) if line.strip()]
        if lines:
            yield [number for number, _ in lines], [_record_in(path, number, line) for number, line in lines]


JSONL = format_of_files("jsonl", (".jsonl", ".ndjson"), _json_lines, _json_blocks)
