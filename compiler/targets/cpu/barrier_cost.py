"""The cost of a barrier: measured where there are cores for the threads, else extrapolated."""

from __future__ import annotations

import time

import numpy as np

from compiler.machine import Machine
from compiler.support.processors import usable_cores
from compiler.targets.cpu.runner import ABI_VERSION, GROUP, PROGRAM_SLOTS, REMAINING, SETTINGS, SYMBOLS, runner_text
from compiler.targets.cpu.team import Team
from compiler.targets.llvm.jit import Library, compile_module
from compiler.targets.memory import address_of

STEPS = 300  # of a round: short, so that some rounds find the cores to themselves
ROUNDS = 80
ARRIVAL = 150.0  # nanoseconds that a counter takes from core to core, where a single core is at hand


def barrier_nanoseconds(machine: Machine, threads: int) -> tuple[float, bool]:
    """How long a barrier of so many threads takes when all come at once, and whether that was measured.

    Where there are fewer cores, it is reckoned from a barrier of as many as there are: threads that arrive at a counter
    do so one after the other, those of a group at their own, then one of each group (`barrier` in `runner.ll`).
    """
    if threads == 1:
        return 0.0, True
    present = min(threads, usable_cores())
    if present == 1:
        return ARRIVAL * arrivals(threads), False
    measured = _measured(machine, present)
    return measured / arrivals(present) * arrivals(threads), present == threads


def arrivals(threads: int) -> int:
    """How many threads arrive at counters one after the other before all may go on."""
    return threads if threads <= GROUP else GROUP + arrivals(-(-threads // GROUP))


def _measured(machine: Machine, threads: int) -> float:
    """The fastest of some rounds of steps without kernels, each of which has a barrier before it and one behind."""
    library = Library([compile_module(runner_text(machine), machine)], SYMBOLS, machine)
    team = Team(threads, library.address, library)
    control = np.zeros(SETTINGS + 16, np.int64)
    program, arenas, none = (np.zeros(slots, np.int64) for slots in (PROGRAM_SLOTS, 8, 1))
    program[0], arenas[0] = ABI_VERSION, address_of(control)
    blocks = address_of(program), address_of(arenas), address_of(none), address_of(none)
    best = float("inf")
    for _ in range(ROUNDS):
        control[:] = 0
        control[REMAINING] = STEPS
        start = time.perf_counter_ns()
        team.run(blocks, 1, 1, True)
        best = min(best, (time.perf_counter_ns() - start) / (2 * STEPS))
    return best
