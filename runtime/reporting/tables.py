"""Tables for a terminal: columns side by side, as many and as wide as there is room for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple, TextIO

from compiler.errors.diagnostics import columns_of, wrapped
from compiler.support.harmless import harmless
from runtime.reporting.terminal import styled, width_of

GAP = "  "


class Column(NamedTuple):
    """A heading and its cells.

    Where a line is too narrow for all, columns of the highest `rank` are left out. A column with a `least` width may
    be as narrow as that before: its cells go on in further lines if it `wraps`, else they end with `…`.
    """

    heading: str
    cells: Sequence[str]
    rank: int = 0
    is_text: bool = False
    least: int | None = None
    wraps: bool = False


def laid_out(columns: Sequence[Column], width: int | None) -> list[str]:
    """The lines of a table, none of them wider than `width`; None is as wide as need be."""
    return [line for row in rows_laid_out(columns, width) for line in row]


def rows_laid_out(columns: Sequence[Column], width: int | None, has_rule: bool = False) -> list[list[str]]:
    """The same by rows: that of the headings, the rule below it if wanted, and those of the cells."""
    # names and texts come from files, and a saved profile may be anyone's
    clean = [c._replace(cells=[harmless(cell).replace("\t", " ") for cell in c.cells]) for c in columns]
    kept = clean if width is None else _fitting(clean, width)
    widths = [_natural(column) for column in kept] if width is None else _widths(kept, width)
    rule = [["─" * room for room in widths]] if has_rule else []
    rows = [[c.heading for c in kept], *rule, *zip(*(c.cells for c in kept), strict=True)]
    return [[cut(line, width) for line in _row(kept, widths, cells)] for cells in rows]


def print_table(title: str, columns: Sequence[Column], stream: TextIO | None = None, has_heading: bool = True) -> None:
    """A table with a rule below its headings, as wide as the terminal at most; of pairs, without either."""
    out = sys.stdout if stream is None else stream
    headings, *rows = rows_laid_out(columns, width_of(out), has_rule=has_heading)
    bold = [*([title] if title else []), *(headings if has_heading else [])]
    lines = [line for row in rows for line in row]
    print("\n".join([*(styled(line, "bold", out) for line in bold), *lines, ""]), file=out)


def cut(line: str, width: int | None) -> str:
    """A line of at most `width` columns; where something is missing, `…` ends it, if possible after a whole word."""
    if width is None or columns_of(line) <= width:
        return line
    kept = ""
    for letter in line:
        if columns_of(kept + letter) > width - 1:
            break
        kept += letter
    words, blank, rest = kept.rpartition(" ")
    return (words if blank and line[len(kept)] != " " and len(rest) < width // 2 else kept.rstrip(" ")) + "…"


def wrapped_parts(text: str, width: int | None, hanging: str = "") -> list[str]:
    """A text cut between its parts, which two blanks separate; within a part only where it must be."""
    lines: list[str] = []
    for part in text.split(GAP):
        if lines and (width is None or columns_of(lines[-1] + GAP + part) <= width):
            lines[-1] += GAP + part
        else:
            lines += wrapped(hanging + part if lines else part, width, hanging)
    return lines


def _fitting(columns: Sequence[Column], width: int) -> list[Column]:
    kept = list(columns)
    while sum(map(_narrowest, kept)) + len(GAP) * (len(kept) - 1) > width:
        worst = max(kept, key=lambda column: column.rank)
        if worst.rank == 0:
            break
        kept.remove(worst)
    return kept


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """The widest that can be narrower give way, column by column of the screen."""
    widths = [_natural(column) for column in columns]
    least = [_narrowest(column) for column in columns]
    while sum(widths) + len(GAP) * (len(widths) - 1) > width:
        slack = [k for k in range(len(widths)) if widths[k] > least[k]]
        if not slack:
            break
        widths[max(slack, key=widths.__getitem__)] -= 1
    return widths


def _natural(column: Column) -> int:
    return max(columns_of(column.heading), *map(columns_of, column.cells), 0)


def _narrowest(column: Column) -> int:
    natural = _natural(column)
    return natural if column.least is None else max(min(natural, column.least), columns_of(column.heading))


def _row(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> list[str]:
    """The lines of one row; more than one where a cell goes on."""
    parts = [
        [cut(part, room) for part in wrapped_parts(cell, room)] if column.wraps else [cut(cell, room)]
        for column, room, cell in zip(columns, widths, cells, strict=True)
    ]
    lines: list[str] = []
    for line in zip_longest(*parts, fillvalue=""):
        padded = [
            cell + " " * (room - columns_of(cell)) if column.is_text else " " * (room - columns_of(cell)) + cell
            for column, room, cell in zip(columns, widths, line, strict=True)
        ]
        lines.append(GAP.join(padded).rstrip())
    return lines
