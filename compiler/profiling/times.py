"""Recordings to times: the duration of each line of an execution plan, and the rest of the step by thread.

A step lies between two barriers, and others divide it into phases. In a phase a thread works, or waits at the barrier
behind it. A thread that has nothing to do in a phase is idle in it; one that has waits for others.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.targets.recording import Recording, Step, is_wait


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
