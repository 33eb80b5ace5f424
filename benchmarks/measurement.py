"""All rounds of one job, and which count: those at full speed and without others on the machine, if there are any."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs import Job, Outcome
from probe import FULL

QUIET = 0.05  # the share of the machine that others may use

Speeds = dict[int, float]  # threads -> GFLOP/s of fused multiply-adds when the machine is at full speed


@dataclass(slots=True)
class Measurement:
    """All rounds of one job. `variant` is cold or warm for process starts, otherwise empty."""

    mode: str
    job: Job
    variant: str = ""
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    def counted(self, full: Speeds) -> list[Outcome]:
        """The rounds that count: slow ones only if all are slow, noisy ones only if all that are left are noisy."""
        good = [outcome for outcome in self.outcomes if not outcome.error]
        fast = [outcome for outcome in good if not _is_slow(outcome, self._full(full))] or good
        return [outcome for outcome in fast if outcome.others <= QUIET] or fast

    def figure(self, name: str, full: Speeds) -> float | None:
        """The median over the rounds that count."""
        values = [outcome.figures[name] for outcome in self.counted(full) if name in outcome.figures]
        return statistics.median(values) if values else None

    def is_slow(self, full: Speeds) -> bool:
        """Whether no round was at full speed."""
        return any(_is_slow(outcome, self._full(full)) for outcome in self.counted(full))

    def is_disturbed(self, full: Speeds) -> bool:
        """Whether no round that could count had the machine to itself."""
        return any(outcome.others > QUIET for outcome in self.counted(full))

    def as_json(self, full: Speeds) -> dict[str, Any]:
        names = sorted({name for outcome in self.outcomes for name in outcome.figures})
        return {
            "mode": self.mode,
            "variant": self.variant,
            "job": asdict(self.job),
            "figures": {name: self.figure(name, full) for name in names},
            "counted": len(self.counted(full)),
            "disturbed": self.is_disturbed(full),
            "slow": self.is_slow(full),
            "rounds": [asdict(outcome) for outcome in self.outcomes],
        }

    def _full(self, full: Speeds) -> float:
        return full.get(self.job.threads, 0.0)


def from_json(record: dict[str, Any]) -> Measurement:
    """The measurement of which `as_json` made the record; rounds from before there were probes have no speeds."""
    outcomes = [Outcome(**outcome) for outcome in record["rounds"]]
    return Measurement(record["mode"], Job(**record["job"]), record["variant"], outcomes)


def full_speeds(measurements: Iterable[Measurement]) -> Speeds:
    """The best rate that any probe found, for each number of threads."""
    full: Speeds = {}
    for measurement in measurements:
        for outcome in measurement.outcomes:
            threads = measurement.job.threads
            full[threads] = max((full.get(threads, 0.0), *outcome.speeds))
    return full


def _is_slow(outcome: Outcome, full: float) -> bool:
    return any(speed < FULL * full for speed in outcome.speeds)
