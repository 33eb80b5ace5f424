"""Threads wait by what their system has: the runner's calls on each, and a team that sleeps and works on Windows."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from c_programs import WINDOWS

from compiler.machine import APPLE_M1, AVX2, AVX2_WINDOWS, NEON, RVV, Machine
from compiler.targets.cpu import runner
from compiler.targets.cpu.runner import runner_text
from compiler.targets.llvm.jit import assembly, compile_module

# A team of three adds 1 for each of 3000 items, in 40 steps with a barrier each; then it waits, and is sent home.
TEAM = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <windows.h>

void dlc_call(void *sync);
int32_t dlc_worker(void *sync, int32_t thread, int32_t known);
void dlc_announce(void *sync);

static char room[8192];
static char *sync;
static volatile LONG64 items, calls;

static void kernel(void *arguments, int64_t begin, int64_t end, void *scratch) {
    (void)arguments; (void)scratch;
    InterlockedAdd64(&items, end - begin);
    InterlockedIncrement64(&calls);
}

static DWORD WINAPI member(void *number) { return (DWORD)dlc_worker(sync, (int32_t)(intptr_t)number, 0); }

static int64_t ticks(HANDLE thread) {
    FILETIME made, ended, kernel_time, user;
    ULARGE_INTEGER a, b;
    GetThreadTimes(thread, &made, &ended, &kernel_time, &user);
    a.LowPart = kernel_time.dwLowDateTime; a.HighPart = kernel_time.dwHighDateTime;
    b.LowPart = user.dwLowDateTime; b.HighPart = user.dwHighDateTime;
    return (int64_t)(a.QuadPart + b.QuadPart);
}

int main(void) {
    static int64_t control[64], relocations[3], program[PROGRAM_SLOTS], entry[8], none[8], scratch[3 * 8];
    static void *arenas[8];
    HANDLE threads[2];
    int64_t *job, worked;
    int n;
    sync = room + (64 - (uintptr_t)room % 64);
    *(int32_t *)(sync + BUDGET) = *(int32_t *)(sync + JOB_BUDGET) = 2500;
    for (n = 0; n < 2; n++) threads[n] = CreateThread(NULL, 0, member, (void *)(intptr_t)(n + 1), 0, NULL);
    control[REMAINING] = 40;
    entry[0] = (int64_t)(intptr_t)kernel; entry[2] = 3000; entry[4] = entry[5] = 1; entry[6] = BARRIER | PARALLEL;
    relocations[0] = LITERAL;
    program[0] = ABI_VERSION; program[1] = (int64_t)(intptr_t)entry; program[2] = 1;
    program[3] = (int64_t)(intptr_t)relocations; program[4] = 1; program[5] = 8 * SETTINGS;
    program[6] = 64; program[8] = (int64_t)(intptr_t)none; program[9] = program[10] = 1;
    arenas[0] = control; arenas[3] = scratch;
    job = (int64_t *)(sync + JOB_FIELDS);
    job[0] = (int64_t)(intptr_t)program; job[1] = (int64_t)(intptr_t)arenas;
    job[2] = job[3] = (int64_t)(intptr_t)none; job[4] = job[5] = 1; job[6] = 3;
    Sleep(100);
    dlc_call(sync);
    Sleep(100);
    worked = ticks(threads[0]) + ticks(threads[1]);
    Sleep(1000);
    worked = ticks(threads[0]) + ticks(threads[1]) - worked;
    *(int32_t *)(sync + QUIT) = 1;
    dlc_announce(sync);
    printf("%d items, %d calls at least, ", (int)items, calls > 3 ? 3 : (int)calls);
    printf("%s, ", worked < 5000000 ? "asleep" : "awake");
    printf("%d left\\n", (int)WaitForMultipleObjects(2, threads, TRUE, 10000));
    return 0;
}
"""
NAMES = ("ABI_VERSION", "PROGRAM_SLOTS", "REMAINING", "SETTINGS", "LITERAL", "BARRIER", "PARALLEL")
PLACES = ("BUDGET", "JOB_BUDGET", "JOB_FIELDS", "QUIT")
OF_C = {"memcpy", "memset", "_memcpy", "_memset", "___chkstk_ms"}  # which every run time of C has
MAC = """
void dlc_call(void *sync);
static char sync[8192];
int main(int count, char **words) { (void)words; if (count > 1) dlc_call(sync); return 0; }
"""


def called(machine: Machine) -> set[str]:
    """The functions that the runner calls and does not define."""
    text = assembly(runner_text(machine), machine)
    defined = set(re.findall(r'^"?([\w.]+)"?:', text, re.MULTILINE))
    return set(re.findall(r"\t(?:callq|jmp|bl|b|call|tail)\t([A-Za-z_]\w*)", text)) - defined


@pytest.mark.parametrize(
    ("machine", "names"),
    [
        (AVX2, {"syscall", "sched_yield"}),
        (NEON, {"syscall", "sched_yield"}),
        (RVV, {"syscall", "sched_yield"}),
        (APPLE_M1, {"___ulock_wait", "___ulock_wake", "_sched_yield"}),
        (AVX2_WINDOWS, {"WaitOnAddress", "WakeByAddressAll", "SwitchToThread"}),
        (replace(AVX2, triple="x86_64-unknown-freebsd14"), {"sched_yield"}),
    ],
    ids=lambda one: one.triple if isinstance(one, Machine) else "",
)
def test_the_runner_calls_what_its_system_has(machine: Machine, names: set[str]) -> None:
    assert called(machine) - OF_C == names


def test_a_team_sleeps_and_works_on_windows(tmp_path: Path) -> None:
    if not WINDOWS.is_there:
        pytest.skip(f"there is no {WINDOWS.compiler}")
    (tmp_path / "runner.o").write_bytes(compile_module(runner_text(AVX2_WINDOWS), AVX2_WINDOWS))
    numbers = {name: getattr(runner, name) for name in (*NAMES, *PLACES)}
    defined = "".join(f"#define {name} ({value})\n" for name, value in numbers.items())
    (tmp_path / "team.c").write_text(defined + TEAM)
    program = WINDOWS.build(tmp_path, "team.c", library=("runner.o", "-lsynchronization"))
    assert WINDOWS.run(program).decode().strip() == "120000 items, 3 calls at least, asleep, 0 left"


def test_the_runner_is_linked_for_macos(tmp_path: Path) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("there is no linker for macOS: ziglang is not installed")
    (tmp_path / "runner.o").write_bytes(compile_module(runner_text(APPLE_M1), APPLE_M1))
    (tmp_path / "main.c").write_text(MAC)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-macos", "main.c", "runner.o", "-o", "main"]
    linked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert linked.returncode == 0, linked.stderr
