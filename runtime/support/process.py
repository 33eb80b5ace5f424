"""Facts of the operating system about this process: its age and its peak of memory."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

_IMPORTED_AT = time.monotonic()


def seconds_since_start() -> float:
    """Age of the process, the interpreter's own start included; without /proc, time since this module was imported."""
    try:
        # Field 22 of stat is the start, in ticks since boot; the name before it may hold spaces and brackets.
        ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return time.monotonic() - _IMPORTED_AT
    return uptime - ticks / os.sysconf("SC_CLK_TCK")


def peak_memory() -> int:
    """Bytes of the largest resident set so far. Without /proc, that of the parent at the start may be counted in."""
    try:
        (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
