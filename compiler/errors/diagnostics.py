"""Places in source text, and the errors that every stage raises."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from functools import lru_cache
from pathlib import Path
from unicodedata import combining, east_asian_width

from compiler.support.harmless import harmless_lines
from compiler.support.record import record


@record
class Source:
    """One `.dl` text. `name` is what messages show: a path, or `<prelude>/layers/dense.dl`."""

    name: str
    text: str = field(repr=False)
    is_library: bool = False

    def line(self, number: int) -> str:
        """The text of line `number`, counted from 1, without its newline."""
        lines = _lines_of(self.text)
        return lines[number - 1] if 0 < number <= len(lines) else ""


@lru_cache(maxsize=4)
def _lines_of(text: str) -> list[str]:
    """The lines of a text, kept for the next questions about it."""
    return text.split("\n")


@record
class Span:
    """A stretch of source text. Lines and columns count from 1; `end_column` is one past the last character."""

    source: Source = field(repr=False, compare=False)
    line: int
    column: int
    end_line: int
    end_column: int

    def __hash__(self) -> int:
        return self.line << 10 ^ self.column

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"

    def holds(self, other: Span) -> bool:
        """Whether another place of the same file lies within this one."""
        is_behind = (self.line, self.column) <= (other.line, other.column)
        return is_behind and (other.end_line, other.end_column) <= (self.end_line, self.end_column)

    @property
    def text(self) -> str:
        """The text at this place."""
        lines = [self.source.line(number) for number in range(self.line, self.end_line + 1)]
        lines[-1] = lines[-1][: self.end_column - 1]
        lines[0] = lines[0][self.column - 1 :]
        return "\n".join(lines)


@record
class Note:
    """A further remark on an error. With a span it is shown with its source line; `kind` is `note` or `hint`."""

    message: str
    span: Span | None = None
    kind: str = "note"


def hint(message: str, span: Span | None = None) -> Note:
    """A note with the user's remedy."""
    return Note(message, span, "hint")


@record
class Edit:
    """Other text in the place of `span`."""

    span: Span
    text: str


@record
class Diagnostic:
    """One finding about a program: `severity` is `error` or `warning`.

    `edits` correct it without changing what the program means; most findings have none.
    """

    code: str
    message: str
    span: Span
    notes: tuple[Note, ...] = ()
    severity: str = "error"
    edits: tuple[Edit, ...] = ()


class DlcError(Exception):
    """Anything a user can cause; `fix` says what to do. The command line prints it without a traceback."""

    fix = ""

    def __str__(self) -> str:
        return harmless_lines(super().__str__())  # names in it may come from a file of others

    def _advise(self, fix: str) -> None:
        """The remedy, which Python shows below the message."""
        self.fix = fix
        if fix:
            self.add_note(harmless_lines(f"hint: {fix}"))


class SourceError(DlcError):
    """One or more mistakes in `.dl` text, each with its place."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        super().__init__("\n".join(f"{d.span}: {d.code} {d.message}" for d in diagnostics))
        self.diagnostics = diagnostics


class DataError(DlcError):
    """A fault in the user's data, with the file and, where there is one, the row (counted from 1).

    `key` is that of `train` which asks for what the data does not have, beside `data`.
    """

    def __init__(
        self, message: str, file: Path | str | None = None, row: int | None = None, fix: str = "", key: str = ""
    ) -> None:
        place = "" if file is None else f"{file}: " if row is None else f"{file}, row {row}: "
        super().__init__(place + message)
        self.file, self.row, self.key = file, row, key
        self._advise(fix)


class CheckpointError(DlcError):
    """A run directory or weights file that cannot be used; `fix` says what to do."""

    def __init__(self, message: str, file: Path | str | None = None, fix: str = "") -> None:
        super().__init__(message if file is None else f"{file}: {message}")
        self.file = file
        self._advise(fix)


class ResourceError(DlcError):
    """More memory is needed than there is; `parts` says for what, in bytes, and `fix` what to do."""

    def __init__(self, needing: str, parts: Mapping[str, int], available: int, fix: str = "") -> None:
        listed = ", ".join(f"{what} {size(count)}" for what, count in parts.items() if count)
        needed, there = size(sum(parts.values())), size(available)
        super().__init__(f"{needing} needs {needed} of memory, and {there} are available: {listed}")
        self._advise(fix)


class DeviceError(DlcError):
    """A GPU, or the driver of it, that does not do what it was asked for; `fix` says what to do."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self._advise(fix)


class UsageError(DlcError):
    """A command or call that makes no sense as given (exit code 2); `fix` says what to do."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self._advise(fix)


class CompilerBug(Exception):
    """A broken invariant of the compiler itself, with the stage and the intermediate text that shows it."""

    def __init__(self, stage: str, message: str, dump: str = "") -> None:
        super().__init__(f"{stage}: {message}")
        self.stage, self.dump = stage, dump


def size(count: int) -> str:
    """Bytes: `512 B`, `1.5 KB`, `12.0 MB`."""
    return scaled(count, 1024, ("B", "KB", "MB", "GB", "TB"))


def scaled(value: float, base: int, units: tuple[str, ...]) -> str:
    """A number in the largest of the units, each `base` times the one before, of which it has at least one."""
    power = 0
    while abs(value) >= base and power < len(units) - 1:
        value, power = value / base, power + 1
    return f"{value:.{1 if power else 0}f} {units[power]}"


def columns_of(text: str) -> int:
    """The columns that a text takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(mark) else 2 if east_asian_width(mark) in "WF" else 1 for mark in text)


def wrapped(text: str, width: int | None, hanging: str = "") -> list[str]:
    """A line of text as lines of at most `width` columns, all but the first of them behind `hanging`.

    Lines are cut at blanks, and where there is room not within `code`: a word that is wider keeps a line of its own.
    Without a width, nothing is cut.
    """
    if width is None or columns_of(text) <= width:
        return [text]
    lines: list[str] = []
    line = ""
    for piece in _pieces(text, width - columns_of(hanging)):
        if line.strip() and columns_of(line + piece) > width:
            lines.append(line)
            line = hanging + piece.lstrip(" ")
        else:
            line += piece
    return [*lines, line]


_PIECE = re.compile(r" *(?:(?:[^ `]|`[^`]*`)+(?= |$)|[^ ]+)")
_WORD = re.compile(r" *[^ ]+")


def _pieces(text: str, room: int) -> list[str]:
    """Pieces that stay on one line, with the blanks before them; blanks at the end are left out."""
    pieces: list[str] = []
    for piece in _PIECE.findall(text):
        pieces += [piece] if columns_of(piece.strip(" ")) <= room else _WORD.findall(piece)
    return pieces
