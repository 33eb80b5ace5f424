"""The native loop that runs a table of kernels for many steps, its barrier, and the threads' waiting room.

`runner.ll` and `team.ll` are its text, one module without globals; it allocates nothing and knows no Python. Layouts
are arrays of i64, so that a table can be written by NumPy as well as by an exported program.
"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

from compiler.machine import Machine
from compiler.targets.recording import HEAD, TAIL, WAITS

ABI_VERSION = 5

# i64 slots of the control block, the start of arena 0
SEED, STEP, LOCAL, BATCH, ROWS, REMAINING, STOP, FRESH, LINE_REACHED = range(9)  # the last has its own line of a cache
SETTINGS = 16  # first slot of the run-time settings

# i64 slots of the program block (`abi`)
SCRATCH_BYTES = 6  # slot of the program block
# version, entries and their count, relocations and theirs, arguments' offset, scratch, entries that run once,
# advances, how many stand in a line of them, the most arguments that move
PROGRAM_SLOTS = 11
# function, first argument, items: base, slope, chunk, factor; flags, arguments that move. A mark of a loop has no
# function; it has the line of the other mark, and the steps
ENTRY_SLOTS = 8
RELOCATION_SLOTS = 3  # kind, base, slope
LITERAL, INPUT, OUTPUT = -1, -2, -3  # kinds of relocation; from 0 on, the number of an arena
BARRIER, PARALLEL, LAST, OF_CHAIN = 1, 2, 4, 8  # flags of an entry; a mark has the last two
QUEUE_BITS = 8  # behind which the number of its queue stands: queues are dealt out to threads in turn

# byte offsets in the synchronisation block; each word has a cache line of its own
ARRIVED, GENERATION, SLEEPERS, BUDGET, JOB, JOB_SLEEPERS, JOB_BUDGET, QUIT, JOB_FIELDS = (64 * k for k in range(9))
JOB_THREADS = JOB_FIELDS + 8 * 6
PACES = 64 * 10  # a line a thread: how far the end of its share is moved, how long it took for that, and what follows
GROUP = 8  # threads meet at a barrier in groups, whose counters stand behind all lines
COUNTERS = 4  # the first slot of a state that counts steps of loops: see `turns.ll`
WHOLE_BITS = 20  # shares are parts of 1 << WHOLE_BITS
SYMBOLS = ("dlc_call", "dlc_worker", "dlc_announce", "dlc_fetch", "dlc_collect", "dlc_copy")


# what the runner of a profile has besides: the slot of the program block with its buffers, and their layout
BUFFERS_SLOT = PROGRAM_SLOTS
EVENTS = 64  # bytes before the first event of a buffer
EVENT_SLOTS = 6  # entry, begin, end, first item, last item, shard of a chain
TICKS = "dlc_ticks"

_FOLDER = Path(__file__).parent


class Clock(Enum):
    """The clock that stamps are read from."""

    TIME_STAMP_COUNTER = "time stamp counter"
    GENERIC_TIMER = "generic timer"
    MONOTONIC = "monotonic clock of the system"


# what shares are moved by: so much of the first thread's work, some 40 milliseconds by a clock that is quick to read
PERIODS = {Clock.TIME_STAMP_COUNTER: 1 << 27, Clock.GENERIC_TIMER: 1 << 20}


def clock_of(machine: Machine) -> Clock:
    """The fastest clock that is the same for all cores and runs at one rate."""
    if machine.architecture in ("aarch64", "arm64"):
        return Clock.GENERIC_TIMER
    if machine.architecture == "x86_64" and (machine.is_windows or machine.is_apple):
        return Clock.TIME_STAMP_COUNTER  # on which these systems rely themselves
    if machine.architecture == "x86_64":
        try:
            flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\nflags")[2].partition("\n")[0].split()
        except OSError:
            flags = []
        if {"constant_tsc", "nonstop_tsc"} <= {*flags}:
            return Clock.TIME_STAMP_COUNTER
    return Clock.MONOTONIC


class Wait(Enum):
    """How a thread sleeps until a word of memory changes, by the words that mark its rows in `team.ll`."""

    FUTEX = "a call of Linux"
    ULOCK = "functions of macOS's system library, which its C++ library waits by"
    ADDRESS = "functions of Windows, since version 8"
    OFFER = "it does not, and offers its processor to others"


_FUTEX_CALLS = {"x86_64": 202, "aarch64": 98, "riscv64": 98}  # of Linux


def wait_of(machine: Machine) -> Wait:
    """The way to wait that the system of a machine has."""
    if "linux" in machine.triple and machine.architecture in _FUTEX_CALLS:
        return Wait.FUTEX
    if machine.is_apple:
        return Wait.ULOCK
    return Wait.ADDRESS if machine.is_windows else Wait.OFFER


def runner_text(machine: Machine, clock: Clock | None = None, in_turns: bool = False, alone: bool = False) -> str:
    """The module that defines SYMBOLS for a machine; with a clock, that of a profile, which defines TICKS too.

    `in_turns`: the first thread takes the shares of all threads, one after the other. A row of the templates that
    begins with a dollar sign and a word stands where that word holds: for a processor, a way to wait, a clock, a run.
    `alone`: there is no thread but the caller's, nor a system to wait in, and all functions are internal.
    """
    wait = wait_of(machine)
    quick, x86 = clock or clock_of(machine), machine.architecture == "x86_64"
    has_pace = not (in_turns or alone) and quick in PERIODS
    read = quick if has_pace or clock is not None else None
    has_turns = in_turns or alone
    kept = {
        **{
            "STAMP": clock is not None,
            "TURN": has_turns,
            "TEAM": not has_turns,
            "PACE": has_pace,
            "EVEN": not has_pace,
        },
        **{"X86": x86, "ARM": machine.is_arm, "OTHER": not x86 and not machine.is_arm},
        **{way.name: way is wait for way in Wait},
        **{"COUNTER": read is Clock.TIME_STAMP_COUNTER, "TIMER": read is Clock.GENERIC_TIMER},
        **{"SYSTEM": read is Clock.MONOTONIC, "ALONE": alone, "STOPPED": not alone},
    }
    words = {
        **{name: value for name, value in globals().items() if name.isupper()},  # constants of this file
        **{"HEAD": HEAD, "TAIL": TAIL, "WAITS": WAITS},
        "FUTEX_CALL": _FUTEX_CALLS.get(machine.architecture),
        "YIELD": "SwitchToThread" if machine.is_windows else "sched_yield",
        **{"PERIOD": f"{PERIODS.get(quick)}.0", "WHOLE": 1 << WHOLE_BITS},
        **{"ALMOST_HALF": (1 << WHOLE_BITS) // 2 - 1, "STATE": ", ptr %state" if has_turns else ""},
        "ENTRIES": "turns" if has_turns else "entries",
    }
    files = (
        "runner",
        "alone" if alone else "team",
        *(("stamps",) if clock is not None else ()),
        *(("turns",) if in_turns else ()),
    )
    text = "".join((_FOLDER / f"{name}.ll").read_text(encoding="utf-8") for name in files)
    text = re.sub(r"^( *)\$(\w+) (.*\n)", lambda row: row[1] + row[3] if kept[row[2]] else "", text, flags=re.MULTILINE)
    text = re.sub(r"\$([A-Z_]+)", lambda word: str(words[word[1]]), text)
    return re.sub(r"^define (?!internal)", "define internal ", text, flags=re.MULTILINE) if alone else text
