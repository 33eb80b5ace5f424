"""The memory and age of this process, and whether a model and its steps fit into the machine before any is taken."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from compiler import driver
from compiler.driver import GraphKind, Options, Program
from compiler.targets.available_memory import expect_memory

_COPIES = "a copy of all these to go back to"


def expect_room(program: Program, kinds: Sequence[GraphKind], options: Options, copies: int = 0) -> None:
    """Raise ResourceError where the tensors of a program, so many copies of them, and steps of `kinds` do not fit."""
    needed = driver.memory_needed(program, kinds, options)
    tensors = sum(count for what, count in needed.items() if what != driver.VALUES)
    needed[_COPIES] = copies * tensors
    fix = "use a smaller model, or an optimizer with fewer states"
    if 2 * needed[driver.VALUES] > sum(needed.values()):
        fix = "use a smaller batch, with `accumulate` if each update should see as many rows"
    expect_memory(program.name, needed, fix)


def expect_room_for_weights(program: Program, options: Options) -> None:
    """Raise ResourceError where parameters and states do not fit; those of an optimizer stay untouched."""
    needed = driver.memory_needed(program, (), options)
    del needed[driver.OPTIMIZER_STATES]
    expect_memory(program.name, needed, "use a smaller model")


def expect_room_for_rows(program: Program, options: Options, rows: int, fix: str) -> None:
    """Raise ResourceError where a prediction of so many rows, which is compiled, does not fit beside the weights."""
    needed = driver.memory_needed(program, (driver.PREDICTION,), options, rows)
    expect_memory(f"a batch of {rows:,} rows", {driver.VALUES: needed[driver.VALUES]}, fix)


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


def peak_memory() -> int | None:
    """Bytes of the largest resident set so far. Without /proc, that of the parent at the start may be counted in.

    None where the system does not tell.
    """
    try:
        (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        try:
            import resource  # not on Windows
        except ImportError:
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
