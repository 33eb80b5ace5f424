"""PTX modules as lines for a reader: what is said once for all of them, and the entries."""

from __future__ import annotations

import re

from compiler.support.record import record

_LOCATION = re.compile(r"\s*\.loc\s+\d+\s+(\d+)")
_ONCE = (".version", ".target", ".address_size")
_NOT_SHOWN = (".file", ".section", "//")


@record
class PtxLine:
    """A line, and the line of the printed kernel that it belongs to."""

    text: str
    statement: int


def lines_of_entry(ptx: str) -> list[PtxLine]:
    """The entry of a module with one kernel, without directives of locations."""
    found, statement = list[PtxLine](), 0
    for row in ptx.splitlines():
        text = row.strip()
        if located := _LOCATION.match(row):
            statement = int(located[1])
        elif text and not text.startswith((*_ONCE, *_NOT_SHOWN)):
            found.append(PtxLine(row.rstrip(), statement))
    return found


def head_of(ptx: str) -> str:
    """The lines with which a module begins."""
    return "\n".join(row for row in ptx.splitlines() if row.startswith(_ONCE)) + "\n"
