"""The time of a step on many threads, computed from the shares of each.

One thread takes the shares of all, one after the other. Between two barriers, so many threads would take as long as the
longest share, and then the barrier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from compiler.errors.diagnostics import CompilerBug
from compiler.frontend.program import Program
from compiler.interface import Executable, Options
from compiler.machine import Machine
from compiler.profiling.attribution import lines_of
from compiler.profiling.kernel_entries import KernelEntry, kernel_entries
from compiler.profiling.step import native_only, size_of
from compiler.programs.executables import compile_program, joined, simulated_programs
from compiler.programs.kinds import GraphKind
from compiler.programs.load import complete, options_of
from compiler.support.arrays import Array, np
from compiler.support.processors import usable_cores
from compiler.support.record import record
from compiler.targets.recording import Step, is_wait
from compiler.targets.registry import kernel_target_of
from compiler.targets.target import SimulatedProgram

QUARTILE = 25


@record(eq=False)
class Shares:
    """The time of each of `threads` threads in a step, in nanoseconds.

    `work` is [stretches, threads]: calls of kernels between two barriers. `entries` has the lines of the execution plan
    that ran; for each, `total` is the time of all its calls, `critical` of those by the thread that takes longest in
    their stretch, and `sharers` the number of threads that had a share.
    """

    threads: int
    work: Array
    entries: Array
    total: Array
    critical: Array
    sharers: Array

    @property
    def barriers(self) -> int:
        """How often threads meet in a step: behind each stretch, and once more before the next step begins."""
        return len(self.work) + 1

    def nanoseconds(self, barrier: float) -> float:
        """How long a step would take, where meeting at a barrier takes so many nanoseconds."""
        return float(self.work.max(axis=1).sum()) + barrier * self.barriers

    @property
    def lost(self) -> Array:
        """By how much each entry's calls take longer than if all threads shared them evenly."""
        return self.critical - self.total / self.threads


def slowdowns(real: Sequence[Step], in_turns: Sequence[Step]) -> dict[int, float]:
    """By what factor the calls of each entry take longer where all threads run at once than where they take turns."""
    alone = _durations(in_turns)
    return {entry: together / alone[entry] for entry, together in _durations(real).items() if alone.get(entry)}


def _durations(steps: Sequence[Step]) -> dict[int, float]:
    """How long the calls of each entry take on all threads together: the lower quartile over the steps.

    Threads that run at once have other shares from step to step, and a thread may have none.
    """
    found: dict[int, list[float]] = {}
    for step in steps:
        calls = np.concatenate([events[~is_wait(events)] for events in step.events])
        entries, places = np.unique(calls["entry"], return_inverse=True)
        for entry, total in zip(entries.tolist(), np.bincount(places, calls["end"] - calls["begin"]), strict=True):
            found.setdefault(entry, []).append(float(total))
    return {entry: float(np.percentile(totals, QUARTILE)) for entry, totals in found.items()}


def shares_of(steps: Sequence[Step], factors: Mapping[int, float] | None = None) -> Shares:
    """The shares of a step: of each call the lower quartile over `steps`, which make the same calls, times a factor.

    What else runs on the machine makes calls longer, never shorter; the longest of many shares would otherwise be the
    one that was disturbed.
    """
    threads = len(steps[0].events)
    calls = [[events[~is_wait(events)] for events in step.events] for step in steps]
    stretches = [(np.cumsum(is_wait(events)))[~is_wait(events)] for events in steps[0].events]
    count = int(max(is_wait(events).sum() for events in steps[0].events)) - 1  # the last waits are TAIL and HEAD
    work = np.zeros((count, threads))
    times: list[Array] = []
    for thread in range(threads):
        own = [step[thread] for step in calls]
        if any(not np.array_equal(own[0]["entry"], other["entry"]) for other in own[1:]):
            raise CompilerBug("simulation", "two steps made different calls")
        times.append(np.percentile([events["end"] - events["begin"] for events in own], QUARTILE, axis=0))
        if factors:
            times[-1] = times[-1] * np.array([factors.get(entry, 1.0) for entry in own[0]["entry"].tolist()])
        np.add.at(work[:, thread], stretches[thread], times[-1])
    slowest = work.argmax(axis=1)
    lines = np.concatenate([step["entry"] for step in calls[0]])
    entries, places = np.unique(lines, return_inverse=True)
    total, critical, sharers = (np.zeros(len(entries)) for _ in range(3))
    begin = 0
    for thread, (own, stretch) in enumerate(zip(times, stretches, strict=True)):
        place = places[begin : begin + len(own)]
        begin += len(own)
        np.add.at(total, place, own)
        np.add.at(critical, place, np.where(slowest[stretch] == thread, own, 0.0))
        sharers[np.unique(place)] += 1
    return Shares(threads, work, entries, total, critical, sharers)


_MS = 1e-6  # of a nanosecond
NOT_MODELLED = (
    "the resources that more threads share than were measured at once: caches, clock, memory",
    "threads that the system puts on one core, or takes a core from",
)


@record
class SimulatedKernel:
    """A kernel at its lines of the text. `one_ms`: on one thread. `ms`: of a step, by the thread that others wait for.

    `lost_ms` is by how much that is more than if all threads had equal shares; `sharers` have one, at most.
    """

    name: str
    lines: tuple[str, ...]
    calls: int
    one_ms: float
    ms: float
    lost_ms: float
    efficiency: float
    sharers: int


@record
class SimulationReport:
    """Times are of one step, in milliseconds. `one_ms` is the step on one thread, and `step_ms` with `threads`.

    `even_ms`, `serial_ms` (what one thread does while others wait), `uneven_ms` (unequal shares), `barrier_ms` and
    `memory_ms` (what the bandwidth adds) make up `step_ms`. `at_once_ms` is the part of it by which kernels are slower
    beside others, as `at_once_cores` threads were measured to be. `measured_ms` is that of a real run with as many
    threads, where there are cores for them.
    """

    model: str
    mode: str
    batch: int
    threads: int
    one_ms: float
    step_ms: float
    speedup: float
    efficiency: float
    even_ms: float
    serial_ms: float
    uneven_ms: float
    barrier_ms: float
    memory_ms: float
    at_once_ms: float
    at_once_cores: int
    barriers: int
    barrier_us: float
    barrier_is: str
    bandwidth_gbs: float | None
    measured_ms: float | None
    steps: int
    kernels: tuple[SimulatedKernel, ...]
    not_modelled: tuple[str, ...]
    machine: str
    tuning: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@record(eq=False)
class SimulatedPart:
    """One of the programs of a step, which runs it `times`."""

    turns: SimulatedProgram
    batch: int
    times: int


@record(eq=False)
class SimulatedStep:
    """A step whose executables `in_turns`, by the number of threads, take the shares of all in turn.

    `at_once` runs `cores` threads, with stamps; `real` as many as are asked for, without, where there are cores for
    them.
    """

    program: Program
    options: Options
    machine: Machine
    threads: int
    parts: tuple[SimulatedPart, ...]
    in_turns: Mapping[int, Executable]
    at_once: Executable | None
    cores: int
    real: Executable | None

    def take(self, threads: int, in_turns: bool = True) -> list[list[Step]]:
        """For each part, the complete steps of that many threads that were recorded since the last time."""
        found: list[list[Step]] = []
        for part in self.parts:
            executable = part.turns.in_turns[threads] if in_turns else part.turns.real[threads]
            found.append([step for recording in executable.recordings() for step in recording.steps])
        return found


def simulated_step(program: Program, kind: GraphKind, options: Options, threads: int) -> SimulatedStep:
    """The step of a kind, training or prediction, compiled for a simulation. Raises UsageError, as a profile."""
    native_only(options)
    program, options = complete(program), options_of(program, options)
    cores = min(threads, usable_cores())
    counts, real_counts = sorted({1, cores, threads}), [cores] if cores > 1 else []
    made = simulated_programs(program, kind, options, counts, real_counts)
    parts = tuple(SimulatedPart(turns, *size_of(program, part, options)) for part, turns in made.items())
    in_turns = {n: joined(program, {part: turns.in_turns[n] for part, turns in made.items()}, options) for n in counts}
    at_once = joined(program, {part: turns.real[cores] for part, turns in made.items()}, options) if cores > 1 else None
    is_possible = threads <= usable_cores()
    real = compile_program(program, kind, replace(options, threads=threads)) if is_possible else None
    machine = kernel_target_of(options).machine(options)
    return SimulatedStep(program, options, machine, threads, parts, in_turns, at_once, cores, real)


class _Account:
    """Milliseconds of a step by their cause, from the shares of each part."""

    def __init__(self, l2_bytes: int, barrier: float, bandwidth: float | None) -> None:
        self.totals = dict.fromkeys(("one", "even", "serial", "uneven", "barrier", "memory", "at_once"), 0.0)
        self.kernels: dict[tuple[str, tuple[str, ...]], list[SimulatedKernel]] = {}
        self.barriers = 0
        self._l2_bytes, self._barrier, self._bandwidth = l2_bytes, barrier, bandwidth

    def add(self, part: SimulatedPart, single: Shares, shares: Shares, undisturbed: Shares) -> None:
        """Those of one thread, of several beside others, and of the same threads by themselves."""
        met = 0 if shares.threads == 1 else shares.barriers
        self.barriers += part.times * met
        self.totals["at_once"] += part.times * (shares.nanoseconds(0.0) - undisturbed.nanoseconds(0.0)) * _MS
        self.totals["one"] += part.times * single.nanoseconds(0.0) * _MS
        self.totals["barrier"] += part.times * met * self._barrier * _MS
        lines = {line.number: line for line in kernel_entries(part.turns.lowered, part.batch)}
        for number, kernel in _kernels(shares, lines, part.times):
            self.kernels.setdefault((kernel.name, kernel.lines), []).append(kernel)
            self.totals["even"] += kernel.ms - kernel.lost_ms
            self.totals["serial" if kernel.sharers == 1 else "uneven"] += kernel.lost_ms
            line, beyond = lines[number], shares.threads * self._l2_bytes
            if self._bandwidth and line.bytes > line.calls * beyond:
                self.totals["memory"] += max(0.0, part.times * line.bytes / self._bandwidth * _MS - kernel.ms)


def simulation_of(
    step: SimulatedStep,
    taken: Mapping[int, Sequence[Sequence[Step]]],
    at_once: Sequence[Sequence[Step]],
    mode: str,
    barrier_us: float | None = None,
    bandwidth: float | None = None,
    measured: float | None = None,
) -> SimulationReport:
    """The report, from `taken` steps of each part, by the number of threads whose shares one took in turn.

    Steps of threads that ran `at_once` tell by what factor each kernel is slower beside others, which holds for any
    number of them. `barrier_us` replaces the measured time of a barrier; `bandwidth` in GB/s is the most that
    kernels reach whose bytes exceed the second-level caches of all threads; `measured` is the seconds of a real step.
    """
    nanoseconds, is_measured = kernel_target_of(step.options).barrier_nanoseconds(step.machine, step.threads)
    said = "measured" if is_measured else "reckoned from fewer threads"
    if barrier_us is not None:
        nanoseconds, said = barrier_us * 1e3, "given"
    account = _Account(step.machine.l2_bytes, nanoseconds, bandwidth)
    for place, part in enumerate(step.parts):
        factors = slowdowns(at_once[place], taken[step.cores][place]) if at_once else None
        several = taken[step.threads][place]
        account.add(part, shares_of(taken[1][place]), shares_of(several, factors), shares_of(several))
    totals = account.totals
    step_ms = sum(totals[name] for name in ("even", "serial", "uneven", "barrier", "memory"))
    rows = sorted(map(_joined, account.kernels.values()), key=lambda row: -row.lost_ms)
    return SimulationReport(
        model=step.program.model,
        mode=mode,
        batch=step.options.batch,
        threads=step.threads,
        step_ms=step_ms,
        speedup=totals["one"] / step_ms,
        efficiency=totals["one"] / step_ms / step.threads,
        **{f"{name}_ms": ms for name, ms in totals.items()},
        at_once_cores=step.cores,
        barriers=account.barriers,
        barrier_us=nanoseconds * 1e-3,
        barrier_is=said,
        bandwidth_gbs=bandwidth,
        measured_ms=None if measured is None else measured * 1e3,
        steps=len(taken[step.threads][0]),
        kernels=tuple(rows),
        not_modelled=NOT_MODELLED,
        machine=step.machine.name,
        tuning=step.machine.tuning.changes,
    )


def _kernels(shares: Shares, lines: Mapping[int, KernelEntry], times: int) -> list[tuple[int, SimulatedKernel]]:
    """The time of each line of the execution plan, with the number of the line."""
    found: list[tuple[int, SimulatedKernel]] = []
    for place, number in enumerate(shares.entries.tolist()):
        line = lines[number]
        total, critical, lost = (float(of[place]) * times * _MS for of in (shares.total, shares.critical, shares.lost))
        kernel = SimulatedKernel(
            name=line.name,
            lines=lines_of(line.instance.origins),
            calls=line.calls * times,
            one_ms=total,
            ms=critical,
            lost_ms=lost,
            efficiency=min(1.0, total / shares.threads / critical) if critical else 1.0,
            sharers=int(shares.sharers[place]),
        )
        found.append((number, kernel))
    return found


def _joined(rows: Sequence[SimulatedKernel]) -> SimulatedKernel:
    """The uses of a kernel at the same lines as one."""
    one, ms, lost = (float(np.sum([getattr(row, name) for row in rows])) for name in ("one_ms", "ms", "lost_ms"))
    even = ms - lost
    return SimulatedKernel(
        rows[0].name,
        rows[0].lines,
        sum(row.calls for row in rows),
        one,
        ms,
        lost,
        min(1.0, even / ms) if ms else 1.0,
        max(row.sharers for row in rows),
    )
