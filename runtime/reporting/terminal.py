"""Messages on standard error, in colour where that is wanted, and the two streams of a command, free of what steers.

Names, texts and messages of others are made harmless where they are put together. The streams are the net below:
whatever is printed passes through them, and of the sequences that steer a terminal only the colours of our own messages
pass. No heavy library is needed.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Generator, Iterable
from typing import Any, TextIO, cast

from compiler.errors.diagnostics import wrapped
from compiler.support.harmless import STEERING, harmless

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


def say_notes(notes: Iterable[str], label: str = "note") -> None:
    """Remarks for the user, each with its label."""
    for note in notes:
        say_labelled(label, note)


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


_COLOURS = "|".join(re.escape(code) for code in ("0", *sorted({*STYLES.values(), "34"})))
_STEERING_OR_COLOUR = re.compile(f"(\x1b\\[(?:{_COLOURS})m)|{STEERING.pattern}")


class OutputStream:
    """A stream as commands see it; `unfiltered` is the stream itself, for what may steer and for exact data."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self.unfiltered = stream
        self._name = name
        self._has_colours = wants_colour(stream)

    def write(self, text: str) -> int:
        with self._named():
            self.unfiltered.write(text if text.isprintable() or text == "\n" else self._filtered(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._named():
            self.unfiltered.flush()

    def _filtered(self, text: str) -> str:
        if self._has_colours:
            return _STEERING_OR_COLOUR.sub(lambda found: found[1] or "\ufffd", text)
        return STEERING.sub("\ufffd", text)

    @contextlib.contextmanager
    def _named(self) -> Generator[None]:
        """A failure says which file failed, as that of any other file. The rest goes nowhere, and fails no more."""
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            error.filename = error.filename or self._name
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.unfiltered.fileno())
                os.close(nowhere)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unfiltered, name)


def unfiltered(stream: TextIO) -> TextIO:
    """For who makes every piece harmless on its own, and moves the cursor."""
    return getattr(stream, "unfiltered", stream)


def exact(stream: TextIO) -> TextIO:
    """For data whose every character counts: unchanged, unless a terminal shows it."""
    return stream if stream.isatty() else unfiltered(stream)


@contextlib.contextmanager
def harmless_outlets() -> Generator[None]:
    """Within, all that is printed passes through outlets."""
    _open_what_is_closed()
    before = sys.stdout, sys.stderr
    sys.stdout = cast(TextIO, OutputStream(unfiltered(sys.stdout), "standard output"))
    sys.stderr = cast(TextIO, OutputStream(unfiltered(sys.stderr), "standard error"))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _open_what_is_closed() -> None:
    """A process may start without any of the three streams (`>&-`). The next file that it opens would take that place.

    What is written to a closed standard output fails, as it should; messages that nobody wants go nowhere.
    """
    for name, flags, mode in (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w")):
        if getattr(sys, name) is None:
            place = os.open(os.devnull, flags)  # the lowest number that is free, and so that of the stream
            setattr(sys, name, os.fdopen(place, mode, encoding="utf-8", closefd=False))
