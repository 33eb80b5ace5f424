"""Shares of items follow the speeds of the threads, and every item is worked on once."""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest

from compiler.machine import NEON, Machine
from compiler.targets.cpu import runner
from compiler.targets.cpu.runner import PERIODS, Clock, clock_of, runner_text
from compiler.targets.cpu.team import Team
from compiler.targets.llvm.jit import Library, compile_module
from compiler.targets.memory import address_of
from tests.support.native import host

ITEMS = 64
SCRATCH = 64  # bytes: how many rounds an item takes on a thread, and how many items it had in the last step

# arguments: a counter for each item
KERNEL = """
define void @slow(ptr %args, i64 %begin, i64 %end, ptr %scratch) {
entry:
  %counters = load ptr, ptr %args, align 8
  %rounds = load i64, ptr %scratch, align 8
  %count = sub i64 %end, %begin
  %had.at = getelementptr i64, ptr %scratch, i64 1
  store i64 %count, ptr %had.at, align 8
  br label %item
item:
  %i = phi i64 [ %begin, %entry ], [ %i.next, %done ]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %round, label %leave
round:
  %r = phi i64 [ 0, %item ], [ %r.next, %round ]
  %r.next = add i64 %r, 1
  store volatile i64 %r, ptr %had.at, align 8
  %again = icmp slt i64 %r.next, %rounds
  br i1 %again, label %round, label %done
done:
  store i64 %count, ptr %had.at, align 8
  %counter.at = getelementptr i64, ptr %counters, i64 %i
  %counter = load i64, ptr %counter.at, align 8
  %counter.next = add i64 %counter, 1
  store i64 %counter.next, ptr %counter.at, align 8
  %i.next = add i64 %i, 1
  br label %item
leave:
  ret void
}
"""


def items_by_thread(rounds: list[int], steps: int) -> list[int]:
    """How many items threads have in the last of so many steps, where an item takes them so many rounds."""
    machine = host()
    objects = [compile_module(text, machine, verify=True) for text in (KERNEL, runner_text(machine))]
    library = Library(objects, (*runner.SYMBOLS, "slow"), machine)
    team = Team(len(rounds), library)
    control, counters = np.zeros(runner.SETTINGS + 16, np.int64), np.zeros(ITEMS, np.int64)
    control[runner.REMAINING], control[runner.SETTINGS] = steps, address_of(counters)
    scratch = np.zeros((len(rounds), SCRATCH // 8), np.int64)
    scratch[:, 0] = rounds
    entry = np.array([library.address("slow"), 0, ITEMS, 0, 1, 1, runner.BARRIER | runner.PARALLEL, 0], np.int64)
    relocation = np.array([runner.LITERAL, address_of(counters), 0], np.int64)
    program, arenas, none = (np.zeros(slots, np.int64) for slots in (runner.PROGRAM_SLOTS, 8, 8))
    program[0], program[1], program[2] = runner.ABI_VERSION, address_of(entry), 1
    program[3], program[4], program[5] = address_of(relocation), 1, 8 * runner.SETTINGS
    program[runner.SCRATCH_BYTES], program[8], program[9], program[10] = SCRATCH, address_of(none), 1, 1
    arenas[0], arenas[3] = address_of(control), address_of(scratch)
    team.run((address_of(program), address_of(arenas), address_of(none), address_of(none)), 1, 1, True)
    assert (counters == steps).all()
    return scratch[:, 1].tolist()


needs_clock = pytest.mark.skipif(clock_of(host()) not in PERIODS, reason="no clock that is quick to read")


def test_shares_are_even_at_first() -> None:
    assert items_by_thread([1, 1, 1, 1], 1) == [16] * 4
    assert items_by_thread([1], 3) == [64]


@needs_clock
def test_a_slow_thread_gets_fewer_items() -> None:
    shares: list[int] = []
    for _ in range(20):  # by the clock, which other processes disturb
        first, second = items_by_thread([40_000, 120_000], 1000)
        assert first + second == ITEMS
        shares.append(first)
        if 40 <= median(shares[-3:]) <= 56:  # 48 with threads that nothing disturbs
            return
    raise AssertionError(shares)


@needs_clock
def test_no_thread_is_left_without_items() -> None:
    _, second = items_by_thread([20_000, 400_000], 1000)
    assert second >= ITEMS // 16


@pytest.mark.parametrize("machine", [host(), NEON], ids=["host", "neon"])
def test_a_machine_without_a_quick_clock_has_even_shares(machine: Machine) -> None:
    text = runner_text(machine, Clock.MONOTONIC)
    assert "void @balance" not in text
    assert "void @note" not in text
