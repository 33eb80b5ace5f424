"""Flags of `os.open` by their names, of which each system has some."""

from __future__ import annotations

import os


def flags(*names: str) -> int:
    """The flags of these names that the system has, with that of Windows by which bytes stay as they are."""
    found = [getattr(os, name, 0) for name in (*names, "O_BINARY")]
    total = 0
    for flag in found:
        total |= flag
    return total
