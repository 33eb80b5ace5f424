"""The shares of many threads, from steps in which one thread took the shares of all, one after the other.

Between two barriers, so many threads would take as long as the longest share, and then the barrier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compiler.errors.diagnostics import CompilerBug
from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.targets.recording import Step, is_wait

QUARTILE = 25


@record(eq=False)
class Shares:
    """What each of `threads` threads would have to do in a step, in nanoseconds.

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
