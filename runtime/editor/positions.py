"""Places of the compiler to positions of the protocol, and back.

The compiler ends lines at `\\n` and counts characters from 1. The protocol ends them at `\\r\\n` and `\\r` as well, and
counts code units from 0: those of UTF-16, unless client and server agree on others.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import cached_property
from itertools import accumulate

from lsprotocol.types import Position, PositionEncodingKind, Range

from compiler.errors.diagnostics import Span

_END_OF_LINE = re.compile(r"\r\n|\r|\n")
_FAR = 1 << 30


class Positions:
    """The lines of one text, in both ways of counting."""

    def __init__(self, text: str, encoding: PositionEncodingKind | str = PositionEncodingKind.Utf16) -> None:
        self.text, self._encoding = text, encoding
        self._starts = [0, *(match.end() for match in _END_OF_LINE.finditer(text))]
        self._compiler_starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))][:-1]
        self._is_plain = text.isascii() and "\r" not in text  # both sides then count the same

    @cached_property
    def _further_units(self) -> list[int]:
        """Where characters lie that take more than one code unit, once for each unit beyond the first."""
        if self.text.isascii() or self._encoding == PositionEncodingKind.Utf32:
            return []
        limits = "\x7f\u07ff\uffff" if self._encoding == PositionEncodingKind.Utf8 else "\uffff"
        return [place for place, character in enumerate(self.text) for limit in limits if character > limit]

    def _units(self, begin: int, end: int) -> int:
        """The code units of a stretch of the text."""
        return end - begin + bisect_left(self._further_units, end) - bisect_left(self._further_units, begin)

    def offset(self, line: int, column: int) -> int:
        """Where a place of the compiler lies in the text; places beyond it lie at its end."""
        if line > len(self._compiler_starts):
            return len(self.text)
        return max(0, min(self._compiler_starts[line - 1] + column - 1, len(self.text)))

    def position(self, line: int, column: int) -> Position:
        """A place of the compiler as the protocol has it."""
        return Position(*self.numbers(line, column))

    def numbers(self, line: int, column: int) -> tuple[int, int]:
        """The line and character of a place of the compiler."""
        if self._is_plain and line < len(self._starts) and column <= self._starts[line] - self._starts[line - 1]:
            return line - 1, column - 1
        return self._numbers_of(self.offset(line, column))

    def _numbers_of(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._starts, offset) - 1
        return line, self._units(self._starts[line], offset)

    def position_of(self, offset: int) -> Position:
        return Position(*self._numbers_of(offset))

    def range_of(self, span: Span) -> Range:
        return Range(self.position(span.line, span.column), self.position(span.end_line, span.end_column))

    def range_between(self, begin: int, end: int) -> Range:
        return Range(self.position_of(begin), self.position_of(end))

    @property
    def whole(self) -> Range:
        return self.range_between(0, len(self.text))

    def place(self, position: Position) -> tuple[int, int]:
        """The line and column that the compiler has for a position; one behind the end of its line lies at the end."""
        if position.line >= len(self._starts):
            return self._place_of(len(self.text))
        start = self._starts[position.line]
        end = self._starts[position.line + 1] if position.line + 1 < len(self._starts) else len(self.text)
        end = start + len(self.text[start:end].rstrip("\r\n"))
        places = range(start, end + 1)
        return self._place_of(places[min(bisect_left(places, position.character, key=self._from(start)), end - start)])

    def _from(self, start: int) -> Callable[[int], int]:
        return lambda place: self._units(start, place)

    def _place_of(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._compiler_starts, offset)
        return line, offset - self._compiler_starts[line - 1] + 1
