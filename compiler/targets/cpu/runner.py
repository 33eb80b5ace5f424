"""The native loop that runs a table of kernels for many steps, its barrier, and the threads' waiting room.

`runner.ll` is its text, one module without globals; it allocates nothing and knows no Python. Layouts are
arrays of i64, so that a table can be written by NumPy as well as by an exported program.
"""

from __future__ import annotations

from pathlib import Path

from compiler.targets.cpu.machine import Machine

ABI_VERSION = 3

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
BARRIER, PARALLEL, LAST, OF_STRAND = 1, 2, 4, 8  # flags of an entry; a mark has the last two

# byte offsets in the synchronisation block; each word has a cache line of its own
ARRIVED, GENERATION, SLEEPERS, BUDGET, JOB, JOB_SLEEPERS, JOB_BUDGET, QUIT, JOB_FIELDS = (64 * k for k in range(9))
JOB_THREADS = JOB_FIELDS + 8 * 6
SYNC_BYTES = 64 * 10
SYMBOLS = ("dlc_call", "dlc_worker", "dlc_announce", "dlc_fetch", "dlc_collect", "dlc_copy")


def runner_text(machine: Machine) -> str:
    """The module that defines SYMBOLS for a machine."""
    x86 = machine.architecture == "x86_64"
    yields = "call void @llvm.aarch64.hint(i32 1)" if machine.is_arm else ""
    pause = "call void @llvm.x86.sse2.pause()" if x86 else yields
    futex = {"x86_64": 202, "aarch64": 98}.get(machine.architecture) if "linux" in machine.triple else None
    text = Path(__file__).with_suffix(".ll").read_text(encoding="utf-8")
    text = text.replace("$PAUSE", pause)
    text = text.replace("$WAIT", _futex_wait(futex)).replace("$WAKE", _futex_wake(futex))
    text = text.replace("$FLUSH_ON", _FLUSH_ON_X86 if x86 else _FLUSH_ON_ARM if machine.is_arm else "ret i32 0")
    text = text.replace("$FLUSH_OFF", _FLUSH_OFF_X86 if x86 else _FLUSH_OFF_ARM if machine.is_arm else "ret void")
    words = ("ARRIVED", "GENERATION", "SLEEPERS", "BUDGET", "QUIT")
    words += ("JOB_SLEEPERS", "JOB_BUDGET", "JOB_FIELDS", "JOB_THREADS", "JOB")  # the shortest name last
    for name in words:
        text = text.replace(f"${name}", str(globals()[name]))
    return text


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
