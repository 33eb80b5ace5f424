"""Text tables: a csv file, plain or gzip, becomes one field for each column, of numbers (f64) or of text.

Columns of numbers are parsed by NumPy. Text columns, and any file that NumPy stumbles over, go through the csv module
row by row; that is slower, and finds the row and column of a mistake.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from runtime.data.dataset import SCALINGS, Dataset, Field, TableOptions, WindowPlan, columns_at
from runtime.data.formats.content import LONGEST_LINE, text_of
from runtime.data.formats.format import SourceOptions, SourceRequest
from runtime.data.specs import Array
from runtime.support.files import fingerprints

_SAMPLE = 100


@record
class Lines:
    """The lines of a table that are not blank, with their numbers in the file."""

    path: Path
    texts: list[str]
    numbers: list[int]
    separator: str

    def records(self) -> Iterable[tuple[int, Sequence[str]]]:
        """Each row with the number of the line on which it begins. Raises DataError."""
        texts = (line + "\n" for line in self.texts)
        reader = csv.reader(texts, delimiter=self.separator, strict=True, skipinitialspace=True)
        begin = 0
        try:
            for cells in reader:
                yield self.numbers[begin], cells
                begin = reader.line_num
        except csv.Error as error:
            raise DataError(
                f"this row cannot be read ({error})", self.path, self.numbers[begin], "check its quotes"
            ) from error


def read_csv(request: SourceRequest) -> Dataset:
    """Every column of the file. Which of them the program uses is decided when they are matched to its inputs."""
    path, options = request.path, request.options
    lines, head = begun(_lines_of(path, options), request)
    table = table_options(options, head.has_header)
    if not lines.texts and not request.may_be_empty:
        raise DataError("the file has a header but no rows", path, fix="add the rows")
    texts = request.texts | set(columns_at(table.categories, head.names, path))
    columns, row_numbers = columns_of(lines, head, texts, head.names)
    fields = {name: Field(values, path, row_numbers) for name, values in columns.items()}
    prints = fingerprints([path])
    return Dataset("csv", path, fields, table=table, windows=windows_of(options), fingerprints=prints, notes=head.notes)


def begun(lines: Lines, request: SourceRequest) -> tuple[Lines, Head]:
    """The rows of a table that begins with these lines, and its head."""
    records = [cells for _, cells in islice(lines.records(), _SAMPLE)]
    head = head_of(records, lines.numbers[0], request)
    first = 1 if head.has_header else 0
    return replace(lines, texts=lines.texts[first:], numbers=lines.numbers[first:]), head


def table_options(options: SourceOptions, has_header: bool) -> TableOptions:
    """The options of any table."""
    return TableOptions(
        target=options.columns("target"),
        columns=options.columns("columns"),
        categories=options.columns("categories"),
        missing=options.choice("missing", ("error", "drop", "mean")) or "error",
        normalise=_scaling(options),
        has_header=has_header,
    )


def _scaling(options: SourceOptions) -> str:
    """`normalise = true` is the standard scaling."""
    value = options.values.get("normalise")
    if isinstance(value, str):
        return options.choice("normalise", SCALINGS) or ""
    return SCALINGS[0] if options.flag("normalise") else ""


def windows_of(options: SourceOptions) -> WindowPlan | None:
    """How the rows are a series, where `window` says that they are."""
    length = options.number("window")
    if length is not None:
        return WindowPlan(length, options.number("horizon"), options.number("stride"))
    for name in ("horizon", "stride"):
        if name in options.values:
            fix = "give `window`, the number of rows that the inputs take"
            raise DataError(f"option `{name}` is about windows of a series", options.place, fix=fix)
    return None


def _lines_of(path: Path, options: SourceOptions) -> Lines:
    lines = lines_in(text_of(path), path)
    if not lines.numbers:
        raise DataError("the file is empty", path, fix="check that this is the right file")
    return replace(lines, separator=separator_of(options, lines.texts[0], path))


def lines_in(content: bytes, path: Path, first: int = 1, separator: str = ",") -> Lines:
    """The lines of a stretch of a file, of which line `first` is the first. Raises DataError."""
    try:
        text = content.decode("utf-8-sig" if first == 1 else "utf-8")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + first
        message = f"byte 0x{content[error.start]:02x} is not UTF-8 text"
        raise DataError(message, path, row, "save the file as UTF-8") from error
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + first
        raise DataError("a zero byte, so this is not a text table", path, row, "save the table as UTF-8 csv")
    every = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    numbers = [number for number, line in enumerate(every, first) if line and not line.isspace()]
    texts = [every[number - first] for number in numbers]
    lengths = list(map(len, texts))
    if (longest := max(lengths, default=0)) > LONGEST_LINE:
        message = f"a line of {longest:,} characters, and no line may have more than {LONGEST_LINE:,}"
        raise DataError(message, path, numbers[lengths.index(longest)], "check that this is a table, row by row")
    return Lines(path, texts, numbers, separator)


def separator_of(options: SourceOptions, first_line: str, path: Path) -> str:
    separator = options.text("separator")
    if separator is None:
        found = next((mark for mark in ";\t" if "," not in first_line and mark in first_line), None)
        if found is not None:
            shown = "\\t" if found == "\t" else found
            raise DataError(
                f"the first line has no comma, but `{shown}`", path, 1, f'give csv the option `separator = "{shown}"`'
            )
        return ","
    separator = "\t" if separator == "\\t" else separator
    if len(separator) != 1 or separator in ' "\r\n\0' or separator.isalnum():
        raise DataError(f"{separator!r} cannot separate columns", options.place, fix='use ",", ";" or "\\t"')
    return separator


def columns_of(
    lines: Lines, head: Head, texts: frozenset[str], wanted: Sequence[str]
) -> tuple[dict[str, Array], Array]:
    """Some of the columns, and the line on which each row begins; `texts` hold text, whatever stands there."""
    names, asked = head.names, frozenset(wanted)
    positions = [i for i, name in enumerate(names) if name in asked]
    numeric = [i for i in positions if names[i] not in texts and _is_numeric(i, head)]
    parsed = _parse_numbers(lines, numeric, len(names)) if numeric else None
    if parsed is not None and len(numeric) == len(names):
        return {names[i]: parsed[:, i] for i in numeric}, np.array(lines.numbers, np.int64)
    known = frozenset(() if parsed is None else numeric)
    rest = [i for i in positions if i not in known]
    if parsed is not None and not rest and _has_width(lines, len(names)):
        return {names[i]: parsed[:, k] for k, i in enumerate(numeric)}, np.array(lines.numbers, np.int64)
    begins, cells = _cells(lines, rest, len(names))
    if parsed is not None and len(begins) != len(parsed):
        # A quoted cell spans lines: the rows of the two parsers differ.
        parsed, rest = None, positions
        begins, cells = _cells(lines, rest, len(names))
    found = {} if parsed is None else {position: parsed[:, i] for i, position in enumerate(numeric)}
    for position, column in zip(rest, cells, strict=True):
        name = names[position]
        found[position] = _text(column) if name in texts else _column_of(column, name, begins, lines.path)
    return {names[i]: found[i] for i in positions}, np.array(begins, np.int64)


def _is_numeric(position: int, head: Head) -> bool:
    width = len(head.names)
    return all(len(row) == width and number_in(row[position]) is not None for row in head.sample)


def _parse_numbers(lines: Lines, positions: list[int], width: int) -> Array | None:
    """Some columns by NumPy's parser, or None where it meets something else than a finite number."""
    if not lines.texts:
        return np.empty((0, len(positions)))
    # The parser is told which columns to take, so it does not see whether a row has too many or too few.
    if len(positions) == width and not _has_width(lines, width):
        return None
    try:
        parsed: Array = np.loadtxt(
            lines.texts, np.float64, comments=None, delimiter=lines.separator, usecols=positions, ndmin=2, quotechar='"'
        )
    except ValueError:
        return None
    return parsed if len(parsed) == len(lines.texts) and bool(np.isfinite(parsed).all()) else None


def _has_width(lines: Lines, width: int) -> bool:
    """Whether each line has so many cells, as far as none is in quotes."""
    return all(line.count(lines.separator) == width - 1 for line in lines.texts)


def _cells(lines: Lines, positions: list[int], width: int) -> tuple[list[int], list[list[str]]]:
    """The cells of some columns as text, after checking that every row has the same number of cells."""
    begins: list[int] = []
    columns: list[list[str]] = [[] for _ in positions]
    take: list[tuple[Callable[[str], None], int]] = [
        (column.append, position) for column, position in zip(columns, positions, strict=True)
    ]
    for number, cells in lines.records():
        if len(cells) != width:
            fix = "correct the row; a text that holds the separator needs quotes"
            raise DataError(f"{len(cells)} values, but the table has {width} columns", lines.path, number, fix)
        begins.append(number)
        for append, position in take:
            append(cells[position])
    return begins, columns


def _column_of(cells: list[str], name: str, begins: list[int], path: Path) -> Array:
    """Numbers where at least half of the cells that are not missing are numbers, otherwise text."""
    plain = _plain_numbers(cells)
    if plain is not None:
        return plain
    stripped = ["" if (cell := raw.strip()) in MISSING else cell for raw in cells]
    values = [math.nan if cell == "" else number_in(cell) for cell in stripped]
    wrong = values.count(None)
    if wrong * 2 > len(stripped) - stripped.count(""):
        return _text(stripped)
    if wrong:
        row = values.index(None)
        raise no_number(stripped[row], name, path, begins[row])
    return np.array(values, np.float64)


def no_number(cell: str, name: str, path: Path, row: int) -> DataError:
    """The error of a cell in a column of numbers."""
    first = "if the first line names the columns, give csv `header = true`; " if row == 1 else ""
    message = f"column `{name}` holds numbers, but here stands `{cell[:40]}`"
    fix = f'{first}correct the cell, or, if the column holds categories, give csv `categories = ["{name}"]`'
    return DataError(message, path, row, fix)


def _plain_numbers(cells: list[str]) -> Array | None:
    """The column where every cell is a finite number, or None: quicker than to look at each cell."""
    try:
        values: Array = np.array(list(map(float, cells)), np.float64)
    except ValueError:
        return None
    # Python reads `1_000` as a number; tables do not mean it.
    return values if bool(np.isfinite(values).all()) and "_" not in ",".join(cells) else None


def _text(cells: list[str]) -> Array:
    values: Array = np.empty(len(cells), np.object_)
    values[:] = ["" if (cell := raw.strip()) in MISSING else cell for raw in cells]
    return values


MISSING = frozenset({"", "?", "NA", "N/A", "na", "NaN", "nan", "NAN", "null", "NULL"})


@record
class Head:
    """Column names, whether the first row gave them, and the sampled rows below."""

    names: tuple[str, ...]
    has_header: bool
    sample: tuple[Sequence[str], ...]
    notes: tuple[str, ...] = ()


def number_in(cell: str) -> float | None:
    """The finite number that a cell holds, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in cell else None


def head_of(records: Sequence[Sequence[str]], first_line: int, request: SourceRequest) -> Head:
    """The head of a table of which `records` are the first rows. Raises DataError."""
    path, options = request.path, request.options
    first = tuple(cell.strip() for cell in records[0])
    has_header = options.flag("header")
    if has_header is None:
        asked = request.wanted | options.names_in("target", "columns", "categories")
        has_header = not options.names("names") and _looks_like_header(first, records[1:], asked)
    names, notes = _names_of(first, has_header, request)
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        fix = "rename the columns, or give csv the options `header = true` and `names = […]`"
        raise DataError(f"the column name {quoted(repeated)} stands more than once", path, first_line, fix)
    notes += _detection_notes(first, has_header, options, path)
    return Head(names, has_header, tuple(records[1:] if has_header else records), notes)


def _names_of(
    first: tuple[str, ...], has_header: bool, request: SourceRequest
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    given = request.options.names("names")
    width = len(first)
    if request.layouts:
        return _names_by_layout(first, has_header, request)
    if given and len(given) != width:
        message = f"option `names` lists {len(given)} columns, but the file has {width}"
        raise DataError(message, request.path, fix=f"list {width} names")
    taken = given or (first if has_header else ("",) * width)
    return _without_gaps(taken), ()


def _names_by_layout(
    first: tuple[str, ...], has_header: bool, request: SourceRequest
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names for a table like another one: by its header, or by position where one of the two tables has no names."""
    table, needed = request.layouts
    is_named = table != _without_gaps(("",) * len(table))
    if has_header and (is_named or set(needed) <= set(first)):
        return _without_gaps(first), ()
    by_position = next((layout for layout in request.layouts if len(layout) == len(first)), None)
    if by_position is not None:
        said = f"{request.path.name}: columns were taken by position, as {quoted(by_position)}"
        return by_position, (said,) if has_header else ()
    if has_header:
        return _without_gaps(first), ()
    widths = " or ".join(str(count) for count in sorted({len(layout) for layout in request.layouts}))
    fix = f"give the columns {quoted(needed)} in this order, or a first line with these names"
    raise DataError(f"{len(first)} columns without names, but {widths} are needed", request.path, fix=fix)


def _without_gaps(names: Sequence[str]) -> tuple[str, ...]:
    """A column without a name is called `column_N`, counted from 1."""
    return tuple(name or f"column_{i}" for i, name in enumerate(names, 1))


def _looks_like_header(first: Sequence[str], sample: Sequence[Sequence[str]], asked: frozenset[str]) -> bool:
    """Names have one that the program asks for, or are text over a column of numbers."""
    if not asked.isdisjoint(first):
        return True
    for position, cell in enumerate(first):
        below = [row[position].strip() for row in sample if position < len(row)]
        present = [other for other in below if other not in MISSING]
        is_text = cell not in MISSING and number_in(cell) is None
        if is_text and present and all(number_in(other) is not None for other in present):
            return True
    return False


def _detection_notes(first: Sequence[str], has_header: bool, options: SourceOptions, path: Path) -> tuple[str, ...]:
    """A remark where the first line could be either: names of which some are numbers, or data of nothing but text."""
    holds_number = any(number_in(cell) is not None for cell in first)
    if options.flag("header") is not None or options.names("names") or holds_number is not has_header:
        return ()
    taken = "the column names" if has_header else "data"
    other = "false" if has_header else "true"
    return (f"{path.name}: the first line was taken as {taken}; if that is wrong, give csv `header = {other}`",)
