"""The measured peaks of a machine: multiply-adds a second, bytes a second by the size of the working set; barriers.

The first two are loops of their own, generated for the machine's vectors. The best of all measurements so far counts,
since others on the machine can only slow one down; it is kept in the cache folder, with the date it was made.
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
from functools import reduce
from typing import TypeAlias

import numpy as np

from compiler.loops.printer import FRAME
from compiler.machine import Machine
from compiler.nest import ir
from compiler.nest.builder import Builder
from compiler.nest.ir import Operand, Value, vector
from compiler.support.cache import ObjectCache
from compiler.support.processors import usable_cores
from compiler.targets.cpu.runner import ABI_VERSION, GROUP, PROGRAM_SLOTS, REMAINING, SETTINGS, SYMBOLS, runner_text
from compiler.targets.cpu.team import Team
from compiler.targets.llvm.jit import Library, compile_module
from compiler.targets.llvm.to_llvm import to_llvm
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
STEPS = 300  # of a round: short, so that some rounds find the cores to themselves
ROUNDS = 80
ARRIVAL = 150.0  # nanoseconds that a counter takes from core to core, where a single core is at hand

_CODE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_Kernel: TypeAlias = Callable[[object, int, int, int], None]  # arguments, items from and to, memory of its own


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
    library = _library(machine, dtype)
    chains, *walks = (_CODE(library.address(name)) for name in ("chains", "reads", "updates"))
    scratch = [reserve(machine.vector_bytes) for _ in range(threads)]

    def multiply(thread: int, rounds: int) -> None:
        chains(None, 0, rounds, address_of(scratch[thread]))

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
        places = [(ctypes.c_int64 * 3)(start, start + half, half) for start in map(address_of, blocks)]
        best = 0.0
        for kernel, parts in zip(walks, (2, 3), strict=True):

            def walk(thread: int, rounds: int, kernel: _Kernel = kernel, places: Sequence[object] = places) -> None:
                kernel(places[thread], 0, rounds, address_of(scratch[thread]))

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


def _library(machine: Machine, dtype: DType) -> Library:
    """Kernels: many multiply-adds; reads of two blocks; and updates of one by the other.

    An item is a round of all chains, or goes through the blocks once. The arguments are the addresses of both blocks,
    and the bytes of each.
    """
    makers = {"chains": _multiply_adds, "reads": _reads, "updates": _updates}
    objects: list[bytes] = []
    for name, write in makers.items():
        nest = Builder()
        nest.locate(FRAME)
        write(nest, machine, dtype)
        whole = ir.Nest((), ir.Items(1), nest.body, nest.count, frozenset(nest.lines), machine.vector_bytes, 0)
        objects.append(compile_module(to_llvm(whole, machine).replace("KERNEL", name), machine))
    return Library(objects, tuple(makers), machine)


def _multiply_adds(nest: Builder, machine: Machine, dtype: DType) -> None:
    type_ = vector(dtype, machine.lanes(dtype))
    number = nest.splat(nest.converted(ir.END, dtype), type_.lanes)
    scale = nest.binary("div", ir.Constant(type_, 1.0), number, type_)  # which LLVM does not know
    starts = [nest.binary("add", scale, ir.Constant(type_, chain + 1.0), type_) for chain in range(_chains(machine))]
    sums = nest.loop(ir.BEGIN, ir.END, 1, starts, lambda _, sums: [nest.fma(x, scale, scale) for x in sums])
    nest.store(reduce(lambda x, y: nest.binary("add", x, y, type_), sums), ir.SCRATCH, dtype.size)


def _reads(nest: Builder, machine: Machine, _: DType) -> None:
    """Reads both blocks and stores the result, so that it is needed."""
    type_ = vector(DType.I32, machine.vector_bytes // DType.I32.size)

    def join(x: Operand, y: Operand) -> Value:
        return nest.binary("or", x, y, type_)

    def read(first: Sequence[Value], second: Sequence[Value], found: Sequence[Value]) -> list[Value]:
        both = [[nest.load(place, type_, machine.vector_bytes) for place in places] for places in (first, second)]
        return [join(join(old, x), y) for old, x, y in zip(found, *both, strict=True)]

    found = _through_blocks(nest, machine, [ir.Zeros(type_)] * _UNROLLED, read)
    nest.store(reduce(join, found), ir.SCRATCH, DType.I32.size)


def _updates(nest: Builder, machine: Machine, dtype: DType) -> None:
    """`first += second * 1`: two reads and a write, as most kernels that are bound by memory do."""
    type_, align = vector(dtype, machine.lanes(dtype)), machine.vector_bytes

    def update(first: Sequence[Value], second: Sequence[Value], _: Sequence[Value]) -> list[Value]:
        x, y = ([nest.load(place, type_, align) for place in places] for places in (first, second))
        totals = [nest.fma(more, ir.Constant(type_, 1.0), old) for old, more in zip(x, y, strict=True)]
        for total, place in zip(totals, first, strict=True):
            nest.store(total, place, align)
        return []

    _through_blocks(nest, machine, [], update)


def _through_blocks(
    nest: Builder,
    machine: Machine,
    carries: Sequence[Operand],
    body: Callable[[Sequence[Value], Sequence[Value], Sequence[Value]], Sequence[Value]],
) -> Sequence[Value]:
    """Goes through both blocks at once, some vectors at a time, again in each item."""
    blocks, size = [nest.given(slot, ir.ADDRESS) for slot in (0, 1)], nest.given(2, ir.INDEX)

    def step(at: Value, carried: Sequence[Value]) -> Sequence[Value]:
        begins = [nest.pointer(block, at, DType.U8) for block in blocks]
        offsets = [vector_number * machine.vector_bytes for vector_number in range(_UNROLLED)]
        first, second = ([nest.pointer(begin, offset, DType.U8) for offset in offsets] for begin in begins)
        return body(first, second, carried)

    def item(_: Value, carried: Sequence[Value]) -> Sequence[Value]:
        return nest.loop(0, size, _UNROLLED * machine.vector_bytes, carried, step)

    return nest.loop(ir.BEGIN, ir.END, 1, carries, item)


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
    team = Team(threads, library)
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
