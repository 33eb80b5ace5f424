"""The measured peaks of a machine: multiply-adds a second, and bytes a second by the size of the working set.

Both are loops of their own, generated for the machine's vectors. The best of all measurements so far counts, since
others on the machine can only slow one down; it is kept in the cache folder, with the date it was made.
"""

from __future__ import annotations

import ctypes
import datetime
import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from compiler.machine import Machine
from compiler.support.cache import ObjectCache
from compiler.support.processors import usable_cores
from compiler.targets.cpu.runner import ABI_VERSION, GROUP, PROGRAM_SLOTS, REMAINING, SETTINGS, SYMBOLS, runner_text
from compiler.targets.cpu.team import Team
from compiler.targets.llvm.jit import Library, compile_module
from compiler.targets.memory import address_of, reserve
from compiler.targets.target import Peaks
from compiler.types import DType

_LEAST, _MOST = 8 << 10, 128 << 20  # bytes that all threads together go through
_SECONDS = 0.003  # of a sample
_SAMPLES = 3
_UNROLLED = 8  # vectors a round of the loops over memory
_CHAIN_ROUNDS = 20_000  # of the first, short sample
_FULL = 0.9  # of what as many single threads would reach together
_PATIENCE = 0.5  # seconds in which threads that reach less are tried again


def measured_peaks(machine: Machine, threads: int, dtype: DType, cache: ObjectCache, alone: float = 0.0) -> Peaks:
    """The peaks of so many threads, for elements of f32 or f64: measured now, or better ones that were before.

    `alone`: what one thread reaches, in GFLOP/s. A virtual host may give two processors one core for a while, so
    threads that reach much less than that each are measured for longer.
    """
    name = f"peaks\0{machine}\0{threads}\0{dtype.value}"
    found = _measure(machine, threads, dtype, _FULL * threads * alone)
    before = _kept(cache.get(name))
    if before is not None and [size for size, _ in before.bandwidths] == [size for size, _ in found.bandwidths]:
        best = [max(one, other) for one, other in zip(found.bandwidths, before.bandwidths, strict=True)]
        newer = found.gflops >= before.gflops
        found = replace(found if newer else before, bandwidths=tuple(best))
    cache.put(name, json.dumps([found.threads, found.gflops, found.bandwidths, found.measured]).encode())
    return found


def _kept(content: bytes | None) -> Peaks | None:
    if content is None:
        return None
    try:
        threads, gflops, bandwidths, measured = json.loads(content)
        found = Peaks(
            threads, float(gflops), tuple((int(size), float(rate)) for size, rate in bandwidths), str(measured)
        )
    except (ValueError, TypeError, OverflowError):
        return None
    rates = (found.gflops, *(rate for _, rate in found.bandwidths))
    return found if all(0 < rate < math.inf for rate in rates) else None  # a best that none could beat would stay


def _measure(machine: Machine, threads: int, dtype: DType, expected: float = 0.0) -> Peaks:
    library = Library([compile_module(peaks_text(machine, dtype), machine)], ("chains", "reads", "updates"), machine)
    chains = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(library.address("chains"))
    over = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2)
    outlets = [reserve(64) for _ in range(threads)]

    def multiply(thread: int, rounds: int) -> None:
        chains(rounds, address_of(outlets[thread]))

    flops = 2 * machine.lanes(dtype) * _chains(machine) * threads
    gflops = _best_rate(multiply, threads, flops, _CHAIN_ROUNDS)
    end = time.perf_counter() + _PATIENCE
    while gflops < expected and time.perf_counter() < end:
        gflops = max(gflops, _best_rate(multiply, threads, flops, _CHAIN_ROUNDS))
    most = max(_LEAST, _MOST // threads)
    blocks = [reserve(most) for _ in range(threads)]
    rates: list[tuple[int, float]] = []
    step = _UNROLLED * machine.vector_bytes
    size = _LEAST
    while size <= most:
        half = size // 2 // step * step
        best = 0.0
        for function, parts in ((over(library.address("reads")), 2), (over(library.address("updates")), 3)):

            def walk(thread: int, rounds: int, function: Callable[..., None] = function, half: int = half) -> None:
                start = address_of(blocks[thread])
                function(start, start + half, half, rounds)

            best = max(best, _best_rate(walk, threads, parts * half * threads, 1))
        rates.append((size, best))
        size *= 2
    return Peaks(threads, gflops, _falling(rates), datetime.date.today().isoformat())


def _falling(rates: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """With each rate at least that of every larger set: short loops over little memory cost more than they move."""
    found: list[tuple[int, float]] = []
    best = 0.0
    for size, rate in reversed(rates):
        best = max(best, rate)
        found.append((size, best))
    return tuple(reversed(found))


def _best_rate(work: Callable[[int, int], None], threads: int, amount: float, rounds: int) -> float:
    """The most of `amount`, done in each round by all threads together, in 1e9 a second."""
    seconds = _together(work, threads, rounds)
    while seconds < _SECONDS / 4:
        rounds *= 4
        seconds = _together(work, threads, rounds)
    rounds = max(1, int(rounds * _SECONDS / seconds))
    return amount * rounds / min(_together(work, threads, rounds) for _ in range(_SAMPLES)) / 1e9


def _together(work: Callable[[int, int], None], threads: int, rounds: int) -> float:
    """The mean seconds of threads that begin at once."""
    gate = threading.Barrier(threads)
    taken = [0.0] * threads

    def member(thread: int) -> None:
        gate.wait()
        start = time.perf_counter()
        work(thread, rounds)
        taken[thread] = time.perf_counter() - start

    others = [threading.Thread(target=member, args=(number,)) for number in range(1, threads)]
    for other in others:
        other.start()
    member(0)
    for other in others:
        other.join()
    return sum(taken) / threads


def _chains(machine: Machine) -> int:
    """As many sums as hide the latency of a multiply-add, with registers left for its factors."""
    return 24 if machine.registers >= 32 else 12


def peaks_text(machine: Machine, dtype: DType) -> str:
    """A module with `chains(rounds, out)`, and `reads` and `updates(first, second, bytes, rounds)`."""
    lanes = machine.lanes(dtype)
    element = "double" if dtype is DType.F64 else "float"
    vector, suffix = f"<{lanes} x {element}>", f"v{lanes}f{dtype.size * 8}"
    products, updates = _chains_text(vector, suffix, element, machine), _updates_text(vector, suffix, machine)
    texts = (products, _reads_text(machine), updates)
    return "\n".join(row for text in texts for row in text)


def _chains_text(vector: str, suffix: str, element: str, machine: Machine) -> list[str]:
    numbers = range(_chains(machine))
    fma = f"call {vector} @llvm.fma.{suffix}"
    last = len(numbers) - 1
    return [
        f"declare {vector} @llvm.fma.{suffix}({vector}, {vector}, {vector})",
        'define void @chains(i64 %count, ptr %out) "prefer-vector-width"="512" {',
        "entry:",
        f"  %number = sitofp i64 %count to {element}",
        f"  %one = insertelement {vector} poison, {element} %number, i64 0",
        f"  %all = shufflevector {vector} %one, {vector} poison, <{vector.split()[0][1:]} x i32> zeroinitializer",
        f"  %scale = fdiv {vector} splat ({element} 1.0), %all",
        *(f"  %start{i} = fadd {vector} %scale, splat ({element} {i + 1}.0)" for i in numbers),
        "  br label %loop",
        "loop:",
        "  %n = phi i64 [ %count, %entry ], [ %left, %loop ]",
        *(f"  %x{i} = phi {vector} [ %start{i}, %entry ], [ %y{i}, %loop ]" for i in numbers),
        *(f"  %y{i} = {fma}({vector} %x{i}, {vector} %scale, {vector} %scale)" for i in numbers),
        "  %left = sub i64 %n, 1",
        "  %done = icmp eq i64 %left, 0",
        "  br i1 %done, label %end, label %loop",
        "end:",
        f"  %sum0 = fadd {vector} %y0, %y1",
        *(f"  %sum{i} = fadd {vector} %sum{i - 1}, %y{i + 1}" for i in range(1, last)),
        f"  store {vector} %sum{last - 1}, ptr %out, align 4",
        "  ret void",
        "}",
    ]


def _reads_text(machine: Machine) -> list[str]:
    """Reads both blocks; what it found is stored behind a branch that nothing tells to be never taken."""
    vector = f"<{machine.vector_bytes // 4} x i32>"
    numbers = range(_UNROLLED)
    carried = [f"  %s{i} = phi {vector} [ %u{i}, %turn ], [ %b{i}, %loop ]" for i in numbers]
    return [
        *_loop_head(
            "reads", [f"  %u{i} = phi {vector} [ zeroinitializer, %entry ], [ %b{i}, %next ]" for i in numbers]
        ),
        *carried,
        *_places("first", "p", numbers, machine),
        *_places("second", "q", numbers, machine),
        *(f"  %x{i} = load {vector}, ptr %p{i}, align {machine.vector_bytes}" for i in numbers),
        *(f"  %y{i} = load {vector}, ptr %q{i}, align {machine.vector_bytes}" for i in numbers),
        *(f"  %a{i} = or {vector} %s{i}, %x{i}" for i in numbers),
        *(f"  %b{i} = or {vector} %a{i}, %y{i}" for i in numbers),
        *_loop_tail(machine),
        f"  %all0 = or {vector} %b0, %b1",
        *(f"  %all{i} = or {vector} %all{i - 1}, %b{i + 1}" for i in range(1, _UNROLLED - 1)),
        f"  %some = extractelement {vector} %all{_UNROLLED - 2}, i64 0",
        "  %odd = icmp eq i32 %some, 1234567",
        "  br i1 %odd, label %keep, label %done",
        "keep:",
        "  store i32 %some, ptr %first, align 4",
        "  br label %done",
        "done:",
        "  ret void",
        "}",
    ]


def _updates_text(vector: str, suffix: str, machine: Machine) -> list[str]:
    """`first += second * 1`: two reads and a write, as most kernels that are bound by memory do."""
    numbers = range(_UNROLLED)
    align, one = machine.vector_bytes, "splat (double 1.0)" if "double" in vector else "splat (float 1.0)"
    fma = f"call {vector} @llvm.fma.{suffix}"
    return [
        *_loop_head("updates", []),
        *_places("first", "p", numbers, machine),
        *_places("second", "q", numbers, machine),
        *(f"  %x{i} = load {vector}, ptr %p{i}, align {align}" for i in numbers),
        *(f"  %y{i} = load {vector}, ptr %q{i}, align {align}" for i in numbers),
        *(f"  %z{i} = {fma}({vector} %y{i}, {vector} {one}, {vector} %x{i})" for i in numbers),
        *(f"  store {vector} %z{i}, ptr %p{i}, align {align}" for i in numbers),
        *_loop_tail(machine),
        "  ret void",
        "}",
    ]


def _loop_head(name: str, carried: Sequence[str]) -> list[str]:
    return [
        f'define void @{name}(ptr %first, ptr %second, i64 %bytes, i64 %count) "prefer-vector-width"="512" {{',
        "entry:",
        "  br label %turn",
        "turn:",
        "  %n = phi i64 [ %count, %entry ], [ %left, %next ]",
        *carried,
        "  br label %loop",
        "loop:",
        "  %at = phi i64 [ 0, %turn ], [ %after, %loop ]",
    ]


def _places(block: str, name: str, numbers: Sequence[int], machine: Machine) -> list[str]:
    found = [f"  %{name} = getelementptr i8, ptr %{block}, i64 %at"]
    return found + [f"  %{name}{i} = getelementptr i8, ptr %{name}, i64 {i * machine.vector_bytes}" for i in numbers]


def _loop_tail(machine: Machine) -> list[str]:
    return [
        f"  %after = add i64 %at, {_UNROLLED * machine.vector_bytes}",
        "  %more = icmp slt i64 %after, %bytes",
        "  br i1 %more, label %loop, label %next",
        "next:",
        "  %left = sub i64 %n, 1",
        "  %again = icmp ne i64 %left, 0",
        "  br i1 %again, label %turn, label %out",
        "out:",
    ]


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
