"""Several programs in one process that take turns, between probes of the machine's own speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from probe import FULL, Probe


@dataclass(frozen=True)
class Turn:
    """The shortest time of each that took a turn, and GFLOP/s of fused multiply-adds before and after it."""

    times: tuple[float, ...]
    speeds: tuple[float, float]

    def is_slow(self, full: float) -> bool:
        return min(self.speeds) < FULL * full


def take_turns(
    runs: Sequence[Callable[[], float]], samples: int, seconds: float, probe: Probe, patience: float
) -> list[Turn]:
    """Turns of so many samples each, for so many seconds, and while all were slow until patience ends, too.

    Each run returns the seconds that it took.
    """
    for run in runs:
        run()
    made: list[Turn] = []
    before, _ = probe.await_full_speed()
    end = time.perf_counter() + seconds
    while _goes_on(end, patience, made, probe):
        times = tuple(min(run() for _ in range(samples)) for run in runs)
        after = probe.rate()
        made.append(Turn(times, (before, after)))
        before = after if after >= FULL * probe.best else probe.await_full_speed()[0]
    return made


def _goes_on(end: float, patience: float, made: list[Turn], probe: Probe) -> bool:
    now = time.perf_counter()
    return now < end or (now < end + patience and all(turn.is_slow(probe.best) for turn in made)) or not made


def shortest(made: Sequence[Turn], full: float) -> tuple[list[float], int]:
    """The shortest time of each in the turns at full speed, or in all if there is none; how many turns were slow."""
    fast = [turn for turn in made if not turn.is_slow(full)]
    return [min(times) for times in zip(*(turn.times for turn in fast or made), strict=True)], len(made) - len(fast)
