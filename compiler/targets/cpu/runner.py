"""The native loop that runs a table of kernels for many steps, its barrier, and the threads' waiting room.

`runner.ll` and `team.ll` are its text, one module without globals; it allocates nothing and knows no Python. Layouts
are arrays of i64, so that a table can be written by NumPy as well as by an exported program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from compiler.machine import Machine
from compiler.targets.recording import HEAD, TAIL, WAITS

ABI_VERSION = 4

# i64 slots of the control block, the start of arena 0
SEED, STEP, LOCAL, BATCH, ROWS, REMAINING, STOP, FRESH = range(8)
SETTINGS = 16  # first slot of the run-time settings

# i64 slots of the program block (`abi`)
SCRATCH_BYTES = 6  # slot of the program block
# version, entries and their count, relocations and theirs, arguments' offset, scratch, flush, entries that run once,
# advances, how many stand in a line of them, the most arguments that move
PROGRAM_SLOTS = 12
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
WHOLE_BITS = 20  # shares are parts of 1 << WHOLE_BITS
SYMBOLS = ("dlc_call", "dlc_worker", "dlc_announce", "dlc_fetch", "dlc_collect", "dlc_copy")


# what the runner of a profile has besides: the slot of the program block with its buffers, and their layout
BUFFERS_SLOT = PROGRAM_SLOTS
EVENTS = 64  # bytes before the first event of a buffer
EVENT_SLOTS = 6  # entry, begin, end, first item, last item, shard of a chain
TICKS = "dlc_ticks"


def sync_bytes(threads: int) -> int:
    """The size of the synchronisation block of so many threads."""
    return PACES + 64 * (threads + -(-threads // GROUP))


class Clock(Enum):
    """What stamps are read from."""

    TIME_STAMP_COUNTER = "time stamp counter"
    GENERIC_TIMER = "generic timer"
    MONOTONIC = "monotonic clock of the system"


# what shares are moved by: so much of the first thread's work, some 40 milliseconds by a clock that is quick to read
PERIODS = {Clock.TIME_STAMP_COUNTER: 1 << 27, Clock.GENERIC_TIMER: 1 << 20}


def clock_of(machine: Machine) -> Clock:
    """The fastest clock that is the same for all cores and runs at one rate."""
    if machine.architecture in ("aarch64", "arm64"):
        return Clock.GENERIC_TIMER
    if machine.architecture == "x86_64":
        try:
            flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\nflags")[2].partition("\n")[0].split()
        except OSError:
            flags = []
        if {"constant_tsc", "nonstop_tsc"} <= {*flags}:
            return Clock.TIME_STAMP_COUNTER
    return Clock.MONOTONIC


def runner_text(machine: Machine, clock: Clock | None = None, in_turns: bool = False, alone: bool = False) -> str:
    """The module that defines SYMBOLS for a machine; with a clock, that of a profile, which defines TICKS too.

    `in_turns`: the first thread takes the shares of all threads, one after the other. `alone`: there is no other
    thread, nor a system to wait in, and all functions are internal.
    """
    x86 = machine.architecture == "x86_64"
    yields = "call void @llvm.aarch64.hint(i32 1)" if machine.is_arm else ""
    pause = "call void @llvm.x86.sse2.pause()" if x86 else yields
    futex = (
        {"x86_64": 202, "aarch64": 98, "riscv64": 98}.get(machine.architecture) if "linux" in machine.triple else None
    )
    text = _template("runner") + (_ALONE if alone else _template("team"))
    quick = clock or clock_of(machine)
    has_pace = not (in_turns or alone) and quick in PERIODS
    kept = {"$STAMP ": clock is not None, "$TURN ": in_turns, "$TEAM ": not in_turns}
    kept |= {"$PACE ": has_pace, "$EVEN ": not has_pace}
    text = _chosen(text + ("" if clock is None else stamps_text(in_turns)), kept)
    text = text.replace("$CLOCK", f"{_CLOCK[quick]}\n}}\n" if has_pace or clock is not None else "")
    text = text.replace("$PERIOD", f"{PERIODS[quick]}.0" if has_pace else "")
    whole = 1 << WHOLE_BITS
    text = text.replace("$ALMOST_HALF", str(whole // 2 - 1)).replace("$WHOLE_BITS", str(WHOLE_BITS))
    text = text.replace("$WHOLE", str(whole)).replace("$QUEUE_BITS", str(QUEUE_BITS))
    text = text.replace("$ENTRIES", "turns" if in_turns else "entries")
    text = text.replace("$STATE", ", ptr %state" if in_turns else "")
    for name, number in (("HEAD", HEAD), ("TAIL", TAIL), ("WAITS", WAITS)):
        text = text.replace(f"${name}", str(number))
    text = text.replace("$PAUSE", pause)
    text = text.replace("$WAIT", _futex_wait(futex)).replace("$WAKE", _futex_wake(futex))
    text = text.replace("$FLUSH_ON", _FLUSH_ON_X86 if x86 else _FLUSH_ON_ARM if machine.is_arm else "ret i32 0")
    text = text.replace("$FLUSH_OFF", _FLUSH_OFF_X86 if x86 else _FLUSH_OFF_ARM if machine.is_arm else "ret void")
    words = ("ARRIVED", "GENERATION", "SLEEPERS", "BUDGET", "QUIT", "PACES")
    words += ("JOB_SLEEPERS", "JOB_BUDGET", "JOB_FIELDS", "JOB_THREADS", "JOB")  # the shortest name last
    for name in words:
        text = text.replace(f"${name}", str(globals()[name]))
    return re.sub(r"^define (?!internal)", "define internal ", text, flags=re.MULTILINE) if alone else text


def _template(name: str) -> str:
    return Path(__file__).with_name(f"{name}.ll").read_text(encoding="utf-8")


def _chosen(text: str, kept: Mapping[str, bool]) -> str:
    """The text without the rows that begin with a word that is not kept, and without these words."""
    rows: list[str] = []
    for row in text.splitlines(keepends=True):
        word = next((word for word in kept if row.lstrip().startswith(word)), "")
        if kept.get(word, True):
            rows.append(row.replace(word, "", 1))
    return "".join(rows)


def stamps_text(in_turns: bool = False) -> str:
    """The functions that only the runner of a profile has, beside the clock."""
    text = _template("stamps")
    for name in ("BUFFERS_SLOT", "EVENTS", "EVENT_SLOTS"):
        text = text.replace(f"${name}", str(globals()[name]))
    return text + _template("turns") if in_turns else text


_CLOCK = {
    Clock.TIME_STAMP_COUNTER: """declare i64 @llvm.readcyclecounter()

define internal i64 @clock() nounwind {
  %now = call i64 @llvm.readcyclecounter()
  ret i64 %now""",
    Clock.GENERIC_TIMER: """declare i64 @llvm.read_volatile_register.i64(metadata)
declare void @llvm.aarch64.isb(i32)

define internal i64 @clock() nounwind {
  call void @llvm.aarch64.isb(i32 15)
  %now = call i64 @llvm.read_volatile_register.i64(metadata !{!"cntvct_el0"})
  ret i64 %now""",
    Clock.MONOTONIC: """declare i32 @clock_gettime(i32, ptr)

define internal i64 @clock() nounwind {
  %time = alloca [2 x i64], align 8
  %ignored = call i32 @clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time, align 8
  %rest.at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest.at, align 8
  %whole = mul i64 %seconds, 1000000000
  %now = add i64 %whole, %rest
  ret i64 %now""",
}
_ALONE = """
define internal void @barrier(ptr %sync, i32 %thread, i32 %threads) nounwind {
  ret void
}
"""
_SYSCALL = "call i64 (i64, ...) @syscall"


def _futex_wait(number: int | None) -> str:
    if number is None:
        return "%ignored = call i32 @sched_yield()"
    return f"%ignored = {_SYSCALL}(i64 {number}, ptr %word, i64 128, i32 %seen, ptr null, ptr null, i64 0)"


def _futex_wake(number: int | None) -> str:
    if number is None:
        return ""
    return f"%ignored = {_SYSCALL}(i64 {number}, ptr %word, i64 129, i32 2147483647, ptr null, ptr null, i64 0)"


_FLUSH_ON_X86 = """%cell = alloca i32, align 4
  call void @llvm.x86.sse.stmxcsr(ptr %cell)
  %old = load i32, ptr %cell, align 4
  %new = or i32 %old, 32832
  store i32 %new, ptr %cell, align 4
  call void @llvm.x86.sse.ldmxcsr(ptr %cell)
  ret i32 %old"""

_FLUSH_OFF_X86 = """%cell = alloca i32, align 4
  store i32 %old, ptr %cell, align 4
  call void @llvm.x86.sse.ldmxcsr(ptr %cell)
  ret void"""

_FLUSH_ON_ARM = """%before = call i64 @llvm.aarch64.get.fpcr()
  %new = or i64 %before, 16777216
  call void @llvm.aarch64.set.fpcr(i64 %new)
  %old = trunc i64 %before to i32
  ret i32 %old"""

_FLUSH_OFF_ARM = """%before = zext i32 %old to i64
  call void @llvm.aarch64.set.fpcr(i64 %before)
  ret void"""
