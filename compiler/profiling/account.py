"""Recordings of a step to its report and its time line.

A step lies between two barriers, and others divide it into phases. In a phase a thread works, or waits at the barrier
behind it. A thread that has nothing to do in a phase is idle in it; one that has waits for others.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.graph.ir import Role
from compiler.profiling.attribution import Attribution, lines_of
from compiler.profiling.kernel_entries import kernel_entries
from compiler.profiling.report import Measured, ProfileReport, TimelineSpan
from compiler.profiling.step import ProfiledPart, ProfiledStep
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.targets.recording import HEAD, TAIL, Recording, Step, is_wait


@record(eq=False)
class StepTimes:
    """Means over steps, in nanoseconds. `work` is [lines of the table, threads]; the others are [threads].

    For each thread `work`, `barrier`, `idle` and `rest` add up to the `span`, exactly: `rest` is what neither works nor
    waits, the walk of the table and the stamps themselves. `alone` is the time that a single thread works.
    """

    work: Array
    barrier: Array
    idle: Array
    rest: Array
    alone: float
    span: float

    @property
    def threads(self) -> int:
        """Those that ran the program: a small one has no work for several."""
        return len(self.barrier)

    def share(self, times: Array) -> float:
        """Of a step, where each thread is the same part of it."""
        return float(times.sum()) / self.threads


def central(recordings: Sequence[Recording]) -> list[Step]:
    """The steps that took neither long nor short: those in the middle half, by what else ran on the machine."""
    steps = sorted((s for r in recordings for s in r.steps), key=lambda step: step.nanoseconds)
    quarter = len(steps) // 4
    return steps[quarter : len(steps) - quarter]


def times_of(steps: Sequence[Step], lines: int) -> StepTimes:
    """The mean times of steps of a program whose table has so many lines. There must be a step."""
    threads = len(steps[0].events)
    work, phases = np.zeros((lines, threads)), np.zeros((2, threads))
    alone = span = 0.0
    rest = np.zeros(threads)
    for step in steps:
        found, waits, by_one = _of_step(step, lines)
        work += found
        phases += waits
        alone += by_one
        spans = step.spans[:, 1] - step.spans[:, 0]
        rest += spans - found.sum(0) - waits.sum(0)
        span += float(spans.mean())
    count = len(steps)
    barrier, idle = phases / count
    return StepTimes(work / count, barrier, idle, rest / count, alone / count, span / count)


def _of_step(step: Step, lines: int) -> tuple[Array, Array, float]:
    """Work by line and thread, waits at barriers and idle ones by thread, and the time in which one thread works."""
    threads = len(step.events)
    work = np.zeros((lines, threads))
    waited: list[Array] = []
    worked: list[Array] = []
    for thread, events in enumerate(step.events):
        lasted = (events["end"] - events["begin"]).astype(np.float64)
        waits = is_wait(events)
        ran = ~waits
        work[:, thread] = np.bincount(events["entry"][ran], weights=lasted[ran], minlength=lines)
        phase = np.cumsum(waits) - waits  # the number of barriers before an event
        waited.append(lasted[waits])
        worked.append(np.bincount(phase[ran], weights=lasted[ran], minlength=len(waited[-1])))
    wait, busy = np.array(waited), np.array(worked)
    workers = (busy > 0).sum(0)
    has_nothing = (busy == 0) & (workers > 0)
    idle = np.where(has_nothing, wait, 0.0).sum(1)
    alone = float(busy[:, workers == 1].sum()) if threads > 1 else 0.0
    return work, np.array([wait.sum(1) - idle, idle]), alone


_MS = 1e-6  # of a nanosecond
_US = 1e-3
_BEYOND = 1.05  # of the peak: a rate that cannot be


def report_of(step: ProfiledStep, taken: Sequence[Sequence[Recording]], measured: Measured, mode: str) -> ProfileReport:
    """The report of a step, from the recordings of each of its parts and the times that were measured beside them."""
    threads = max(step.peaks)
    layers = {p.path.rpartition(".")[0]: None for p in step.program.parameters if p.role is Role.PARAMETER}
    attribution = Attribution(step.peaks, threads, layers)
    totals = {name: 0.0 for name in ("span", "barrier", "idle", "alone", "rest")}
    by_thread = [{name: 0.0 for name in ("work_ms", "barrier_ms", "idle_ms", "runner_ms")} for _ in range(threads)]
    steps = 0
    running = 1
    for part, recordings in zip(step.parts, taken, strict=True):
        chosen = central(recordings)
        steps += len(chosen)
        found = times_of(chosen, len(part.program.lowered.manifest.entries))
        running = max(running, found.threads)
        _add_totals(totals, by_thread, found, part.times * _MS)
        in_place = mode != "train" or step.has_parts
        for line in kernel_entries(part.program.lowered, part.batch, in_place):
            attribution.add(line, [float(ns) * part.times * _MS for ns in found.work[line.number]], part.times)
    outside = measured.outside * 1e3
    kernels = attribution.kernels()
    peaks = step.peaks[threads]
    return ProfileReport(
        model=step.program.model,
        mode=mode,
        batch=step.options.batch,
        threads=threads,
        step_ms=totals["span"] + outside,
        plain_ms=measured.plain * 1e3,
        stamps_cost=measured.cost,
        barrier_ms=totals["barrier"],
        idle_ms=totals["idle"],
        alone_ms=totals["alone"],
        runner_ms=totals["rest"],
        call_ms=outside,
        steps=steps,
        lines=attribution.lines(),
        kernels=kernels,
        layers=attribution.layers(),
        ops=attribution.ops(),
        peak_gflops=peaks.gflops,
        bandwidth_gbs=peaks.memory,
        bandwidths=peaks.bandwidths,
        peaks_measured=peaks.measured,
        machine=step.device or step.machine.name,
        device=step.device,
        dtype=step.options.arithmetic,
        clock=step.parts[0].program.clock,
        threads_ms=tuple(by_thread),
        notes=_notes(step, taken, running, max((kernel.of_peak for kernel in kernels), default=0.0)),
        settings={s.name: s.value for s in step.program.settings},
        tuning={} if step.device else step.machine.tuning.changes,  # which is a device's own
    )


def _add_totals(totals: dict[str, float], by_thread: list[dict[str, float]], found: StepTimes, scale: float) -> None:
    totals["span"] += found.span * scale
    totals["alone"] += found.alone * scale
    for name, times in (("barrier", found.barrier), ("idle", found.idle), ("rest", found.rest)):
        totals[name] += found.share(times) * scale
    for thread in range(found.threads):
        row = by_thread[thread]
        row["work_ms"] += float(found.work[:, thread].sum()) * scale
        row["barrier_ms"] += float(found.barrier[thread]) * scale
        row["idle_ms"] += float(found.idle[thread]) * scale
        row["runner_ms"] += float(found.rest[thread]) * scale


def _notes(step: ProfiledStep, taken: Sequence[Sequence[Recording]], running: int, of_peak: float) -> tuple[str, ...]:
    found: list[str] = []
    if step.options.products != "f32":
        found.append(f"the peak is that of f32, which products in {step.options.products} go beyond")
    elif of_peak > _BEYOND:
        found.append("kernels went beyond the peak: others used the machine while it was measured; run it once more")
    if running < max(step.peaks):
        found.append(f"no kernel has work for several threads, so one of {max(step.peaks)} runs the step")
    lost = sum(recording.lost for recordings in taken for recording in recordings)
    if lost:
        found.append(f"{lost} events found no room and were not kept; the steps they belong to are left out")
    return tuple(found)


def timeline_of(step: ProfiledStep, taken: Sequence[Sequence[Recording]]) -> tuple[TimelineSpan, ...]:
    """A step of median time, in order; of a step with several programs, each of them once."""
    spans: list[TimelineSpan] = []
    start = 0.0
    for part, recordings in zip(step.parts, taken, strict=True):
        steps = sorted((s for r in recordings for s in r.steps), key=lambda found: found.nanoseconds)
        chosen = steps[len(steps) // 2]
        spans += _spans(part, chosen, start)
        start += float(np.max(chosen.spans[:, 1]) - np.min(chosen.spans[:, 0])) * _US
    return tuple(spans)


def _spans(part: ProfiledPart, chosen: Step, start: float) -> list[TimelineSpan]:
    lines = {line.number: line for line in kernel_entries(part.program.lowered, part.batch)}
    places = {number: lines_of(line.instance.origins) for number, line in lines.items()}
    origin = int(np.min(chosen.spans[:, 0]))
    found: list[TimelineSpan] = []
    for thread, events in enumerate(chosen.events):
        for event, waits in zip(events.tolist(), is_wait(events).tolist(), strict=True):
            number, begin, end, first, last, _ = event
            begun, lasted = start + (begin - origin) * _US, (end - begin) * _US
            if waits:
                said = "end of the step" if number in (HEAD, TAIL) else "barrier"
                found.append(TimelineSpan(thread, said, "wait", begun, lasted, 0))
            else:
                line = lines[number]
                found.append(TimelineSpan(thread, line.name, "work", begun, lasted, last - first, places[number]))
    return found
