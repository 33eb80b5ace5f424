"""The head of a text table: whether its first line names the columns, and the names of the columns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from runtime.data.formats.format import SourceOptions, SourceRequest

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
        raise DataError(
            f"the column name {quoted(repeated)} stands more than once",
            path,
            first_line,
            "rename the columns, or give csv the options `header = true` and `names = […]`",
        )
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
        raise DataError(
            f"option `names` lists {len(given)} columns, but the file has {width}",
            request.path,
            fix=f"list {width} names",
        )
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
    raise DataError(
        f"{len(first)} columns without names, but {widths} are needed",
        request.path,
        fix=f"give the columns {quoted(needed)} in this order, or a first line with these names",
    )


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
