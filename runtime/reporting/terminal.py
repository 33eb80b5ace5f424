"""Messages on standard error, in colour where that is wanted, without any heavy library."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from compiler.harmless import harmless

STYLES = {"error": "1;31", "warning": "1;33", "hint": "1;32", "note": "1;36", "bold": "1", "dim": "2", "green": "32"}


def wants_colour(stream: TextIO) -> bool:
    """Whether `stream` gets colour: `NO_COLOR` forbids it, `FORCE_COLOR` demands it, otherwise a terminal has it."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width_of_terminal() -> int:
    """Columns of the terminal, 100 where there is none."""
    try:
        return os.get_terminal_size(sys.__stderr__.fileno() if sys.__stderr__ else 2).columns or 100
    except (OSError, ValueError):
        return 100


def styled(text: str, style: str, stream: TextIO) -> str:
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if wants_colour(stream) else text


def say(message: str) -> None:
    """A line for the reader; data goes to standard output instead."""
    print(message, file=sys.stderr, flush=True)


def say_labelled(label: str, message: str) -> None:
    """`error: …`, `hint: …` and the like; further lines of the message are indented below the first.

    Names of columns, tensors and files stand in messages: what could steer a terminal is replaced.
    """
    first, *rest = map(harmless, message.split("\n"))
    say(
        "\n".join(
            [f"{styled(label + ':', label, sys.stderr)} {first}", *(f"  {line}" if line else "" for line in rest)]
        )
    )
