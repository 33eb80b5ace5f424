"""Untrusted text (names, files, messages about them) without characters that steer a terminal or spoil a page."""

from __future__ import annotations

import re
import unicodedata

# Control characters but the newline and the tab, marks that turn the direction of writing, separators of lines, and
# halves of characters. Joiners of letters stay, which many scripts need.
STEERING = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def harmless(text: str) -> str:
    """A name, or a line of a text: also without characters that nobody sees."""
    return text if text.isprintable() else "".join(map(_harmless, text))


def harmless_lines(text: str) -> str:
    """A text of several lines."""
    return text if text.isprintable() else STEERING.sub("\ufffd", text)


def _harmless(letter: str) -> str:
    return "\ufffd" if letter != "\t" and unicodedata.category(letter) in _HIDDEN else letter
