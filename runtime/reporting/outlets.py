"""Standard output and standard error of a command, without control characters of untrusted text.

Names, texts and messages of others are made harmless where they are put together. This is the net below: whatever is
printed passes through it, and of the sequences that steer a terminal only the colours of our own messages pass.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Generator, Iterable
from typing import Any, TextIO, cast

from compiler.support.harmless import STEERING
from runtime.reporting.terminal import STYLES, wants_colour

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
                nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
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
