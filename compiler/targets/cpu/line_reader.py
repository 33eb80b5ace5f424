"""Reads a text line by line, each by its form; a fault names the line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from compiler.errors.diagnostics import DataError
from compiler.support.record import mutable_record
from compiler.types import BatchExtent, Extent

EXTENT = r"((?:\d+\*)?batch|\d+)"
_Choice = TypeVar("_Choice")


def lines_of(text: str) -> list[tuple[int, str]]:
    """The lines that say something, with their numbers."""
    rows = [(n, row.rstrip()) for n, row in enumerate(text.splitlines(), 1)]
    return [(n, row) for n, row in rows if row and not row.lstrip().startswith("#")]


@mutable_record
class LineReader:
    """A text that has a name, at one of its lines."""

    rows: Sequence[tuple[int, str]]  # with their numbers
    name: str
    place: int = 0

    def take(self, pattern: re.Pattern[str], margin: str = "") -> re.Match[str] | None:
        """The next line, where it has that form behind the margin."""
        row = self.rows[self.place][1] if self.place < len(self.rows) else ""
        match = pattern.fullmatch(row.removeprefix(margin)) if row.startswith(margin) else None
        self.place += match is not None
        return match

    def known(self, choices: Mapping[str, _Choice], word: str, at: int = -1) -> _Choice:
        if word not in choices:
            raise self.fault(f"{word!r} is none of {', '.join(choices)}", at)
        return choices[word]

    def extent(self, text: str) -> Extent:
        if not re.fullmatch(EXTENT, text):
            raise self.fault(f"{text!r} means nothing", -1)
        factor = text.removesuffix("batch").removesuffix("*")
        return BatchExtent(int(factor or 1)) if text.endswith("batch") else int(text)

    def fault(self, message: str, at: int = 0) -> DataError:
        """At the next line, or so many behind it."""
        number = self.rows[min(self.place + at, len(self.rows) - 1)][0] if self.rows else 1
        return DataError(message, f"{self.name}:{number}")
