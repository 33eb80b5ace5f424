"""Memory that this process has freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> None:
    """Give back what the C library keeps of freed memory, where it can: glibc's `malloc_trim`."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
