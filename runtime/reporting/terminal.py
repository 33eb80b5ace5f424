"""Messages on standard error, in colour where that is wanted, without any heavy library."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from compiler.errors.diagnostics import wrapped
from compiler.support.harmless import harmless

STYLES = {"error": "1;31", "warning": "1;33", "hint": "1;32", "note": "1;36", "bold": "1", "dim": "2", "green": "32"}
_LEAST_WIDTH, _USUAL_WIDTH = 40, 80
_HANGING = "  "


def wants_colour(stream: TextIO) -> bool:
    """Whether `stream` gets colour: `NO_COLOR` forbids it, `FORCE_COLOR` demands it, otherwise a terminal has it."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width_of(stream: TextIO) -> int | None:
    """Columns of the terminal that `stream` is, which `COLUMNS` may set; None for a pipe or a file, which has no width.

    Nothing is laid out for fewer than 40 columns.
    """
    if not stream.isatty():
        return None
    said = _said_width()
    try:
        return max(_LEAST_WIDTH, said or os.get_terminal_size(stream.fileno()).columns or _USUAL_WIDTH)
    except (OSError, ValueError):
        return _USUAL_WIDTH


def width_of_page(stream: TextIO) -> int:
    """The same for text that always has a width: that of a pipe is `COLUMNS`, or 80."""
    return width_of(stream) or max(_LEAST_WIDTH, _said_width() or _USUAL_WIDTH)


def _said_width() -> int | None:
    said = os.environ.get("COLUMNS", "")
    return int(said) if said.isdecimal() and int(said) else None


def styled(text: str, style: str, stream: TextIO) -> str:
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if wants_colour(stream) else text


def say(message: str) -> None:
    """Lines for the reader, as wide as the terminal at most; data goes to standard output instead."""
    width = width_of(sys.stderr)
    say_laid_out("\n".join(part for line in message.split("\n") for part in wrapped(line, width, _HANGING)))


def print_wrapped(text: str) -> None:
    """Lines on standard output, as wide as the terminal at most; long ones go on further to the right."""
    width = width_of(sys.stdout)
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip(" ")))
        print("\n".join(wrapped(line, width, indent + 2 * _HANGING)))


def say_laid_out(text: str) -> None:
    """The same of lines that fit already, which may hold colours."""
    print(text, file=sys.stderr, flush=True)


def say_labelled(label: str, message: str) -> None:
    """`error: …`, `hint: …` and the like; further lines of the message are indented below the first.

    Names of columns, tensors and files stand in messages: characters that could steer a terminal are replaced.
    """
    width = width_of(sys.stderr)
    first, *rest = map(harmless, message.split("\n"))
    begin, *others = wrapped(f"{label}: {first}", width, _HANGING)
    for line in rest:
        indent = _HANGING + " " * (len(line) - len(line.lstrip(" ")))
        others += wrapped(f"{_HANGING}{line}", width, indent + _HANGING) if line else [""]
    styled_label = styled(f"{label}:", label, sys.stderr)
    say_laid_out("\n".join([styled_label + begin.removeprefix(f"{label}:"), *others]))
