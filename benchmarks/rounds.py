"""Which jobs answer a question, and their interleaved rounds (A B C, A B C): a slow minute meets every peer."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jobs
from catalogue import CATALOGUE
from jobs import Job, Outcome, Place

MODES = ("train", "infer1", "infer32", "gemm", "start", "memory")
PRODUCT_SIZES = (256, 512, 1024, 2048)
QUIET = 0.05
MODE_PEERS = {
    "train": ("dlc", "torch", "torch_compile", "torch_max", "jax"),
    "infer1": ("dlc", "torch", "torch_compile", "jax", "onnxruntime", "openvino"),
    "infer32": ("dlc", "torch", "torch_compile", "jax", "onnxruntime", "openvino"),
    "gemm": ("peak", "dlc", "torch"),
    "start": ("dlc", "torch", "torch_compile", "jax"),
    "memory": ("dlc", "torch", "torch_compile", "jax"),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, how often, for how long each time, and with how many threads."""

    models: tuple[str, ...]
    modes: tuple[str, ...]
    peers: tuple[str, ...]
    rounds: int
    seconds: float
    threads: int


@dataclass(slots=True)
class Measurement:
    """All rounds of one job. `variant` is cold or warm for process starts, otherwise empty."""

    mode: str
    job: Job
    variant: str = ""
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    def figure(self, name: str) -> float | None:
        """The median over the rounds; rounds in which others used the machine count only if there is no quiet one."""
        good = [outcome for outcome in self.outcomes if not outcome.error and name in outcome.figures]
        quiet = [outcome for outcome in good if outcome.others <= QUIET] or good
        return statistics.median(outcome.figures[name] for outcome in quiet) if quiet else None

    def is_disturbed(self) -> bool:
        """Whether no round had the machine to itself."""
        good = [outcome for outcome in self.outcomes if not outcome.error]
        return bool(good) and all(outcome.others > QUIET for outcome in good)

    def as_json(self) -> dict[str, Any]:
        names = sorted({name for outcome in self.outcomes for name in outcome.figures})
        return {
            "mode": self.mode,
            "variant": self.variant,
            "job": asdict(self.job),
            "figures": {name: self.figure(name) for name in names},
            "disturbed": self.is_disturbed(),
            "rounds": [asdict(outcome) for outcome in self.outcomes],
        }


def measure(plan: Plan, place: Place, tell: Callable[[str], None]) -> list[Measurement]:
    """Runs everything that the plan asks for; `tell` hears of each job."""
    if {"onnxruntime", "openvino"} & set(plan.peers):
        _export(plan, place, tell)
    measurements: list[Measurement] = []
    for mode in plan.modes:
        for model in map(str, PRODUCT_SIZES) if mode == "gemm" else plan.models:
            group = list(_group(plan, mode, model))
            for index in range(plan.rounds):
                for measurement in group:
                    _run(measurement, index, place, tell)
            measurements += group
    return measurements


def _group(plan: Plan, mode: str, model: str) -> Iterable[Measurement]:
    """What is compared with each other: one mode and model, each peer, each number of threads."""
    peers = [peer for peer in MODE_PEERS[mode] if peer in plan.peers or peer == "peak"]
    for threads in _thread_counts(plan, mode, model):
        for peer in peers:
            job = _job(plan, peer, mode, model, threads)
            for variant in ("cold", "warm") if mode == "start" else ("",):
                yield Measurement(mode, job, variant)


def _thread_counts(plan: Plan, mode: str, model: str) -> list[int]:
    if mode in ("start", "memory"):
        return [plan.threads]
    further = (1,) if mode == "gemm" else CATALOGUE[model].threads
    return sorted({plan.threads, *(threads for threads in further if threads < plan.threads)})


def _job(plan: Plan, peer: str, mode: str, model: str, threads: int) -> Job:
    match mode:
        case "gemm":
            return Job(peer, "gemm", model, int(model), threads, plan.seconds)
        case "infer1" | "infer32":
            return Job(peer, "infer", model, int(mode.removeprefix("infer")), threads, plan.seconds)
        case "train":
            return Job(peer, "train", model, CATALOGUE[model].batch, threads, plan.seconds)
        case _:
            # The first step and the memory need no long measurement of the steps after it.
            return Job(peer, "train", model, CATALOGUE[model].batch, threads, min(plan.seconds, 0.3))


def _run(measurement: Measurement, index: int, place: Place, tell: Callable[[str], None]) -> None:
    """A start has a cache of its own, empty when cold; otherwise compiled code is kept over the rounds."""
    job = measurement.job
    if measurement.mode == "start":
        cache = place.cache / f"{job.peer}-{job.model}-{index}"
        if measurement.variant == "cold":
            shutil.rmtree(cache, ignore_errors=True)
        place = Place(place.folder, cache, place.dlc)
    outcome = jobs.run(job, place)
    measurement.outcomes.append(outcome)
    shown = outcome.error or ", ".join(
        f"{name} {outcome.figures[name]:.4g}"
        for name in ("median_ms", "first_s", "peak_rss_mb", "gflops")
        if name in outcome.figures
    )
    name = " ".join(filter(None, (measurement.mode, measurement.variant, job.model, job.peer)))
    tell(f"round {index + 1}: {name}, {job.threads} threads: {shown} (others {outcome.others:.0%})")


def _export(plan: Plan, place: Place, tell: Callable[[str], None]) -> None:
    for model in plan.models:
        for mode in plan.modes:
            if mode.startswith("infer"):
                job = Job("torch", "export", model, int(mode.removeprefix("infer")), plan.threads, 0.0)
                outcome = jobs.run(job, place)
                tell(f"export {model}, batch {job.batch}: {outcome.error or 'done'}")


def caches(folder: Path) -> Path:
    """Where compiled code is kept for the length of a run, so that no earlier run makes a start warm."""
    return folder / "cache"
