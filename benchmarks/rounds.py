"""Which jobs answer a question, and their interleaved rounds (A B C, A B C): a slow minute meets every peer."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import jobs
from catalogue import CATALOGUE
from jobs import Job, Place
from measurement import Measurement
from probe import Probes

MODES = ("train", "infer1", "infer32", "gemm", "start", "memory")
PRODUCT_SIZES = (256, 512, 1024, 2048)
TOLD_WAIT_SECONDS = 0.5  # shorter waits are not worth a word
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
    """What is measured, how often, for how long each time, and with how many threads.

    `patience`: how many seconds, at most, a job waits for the machine to be at full speed.
    """

    models: tuple[str, ...]
    modes: tuple[str, ...]
    peers: tuple[str, ...]
    rounds: int
    seconds: float
    threads: int
    patience: float


def measure(plan: Plan, place: Place, tell: Callable[[str], None]) -> list[Measurement]:
    """Runs everything that the plan asks for; `tell` hears of each job."""
    if {"onnxruntime", "openvino"} & set(plan.peers):
        _export(plan, place, tell)
    measurements: list[Measurement] = []
    probes = Probes(plan.patience)
    for mode in plan.modes:
        for model in map(str, PRODUCT_SIZES) if mode == "gemm" else plan.models:
            group = list(_group(plan, mode, model))
            for index in range(plan.rounds):
                for measurement in group:
                    _run(measurement, index, place, probes, tell)
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


def _run(measurement: Measurement, index: int, place: Place, probes: Probes, tell: Callable[[str], None]) -> None:
    """One round, between two probes.

    A start has a cache of its own, empty when cold; otherwise compiled code is kept over the rounds.
    """
    job = measurement.job
    if measurement.mode == "start":
        cache = place.cache / f"{job.peer}-{job.model}-{index}"
        if measurement.variant == "cold":
            shutil.rmtree(cache, ignore_errors=True)
        place = Place(place.folder, cache, place.dlc)
    probe = probes.of(job.threads)
    before, waited = probe.await_full_speed()
    if waited > TOLD_WAIT_SECONDS:
        tell(f"waited {waited:.1f} s for full speed: {before:.0f} of {probe.best:.0f} GFLOP/s")
    outcome = jobs.run(job, place)
    outcome = replace(outcome, speeds=(before, probe.rate()))
    measurement.outcomes.append(outcome)
    shown = outcome.error or ", ".join(
        f"{name} {outcome.figures[name]:.4g}"
        for name in ("median_ms", "first_s", "peak_rss_mb", "gflops")
        if name in outcome.figures
    )
    name = " ".join(filter(None, (measurement.mode, measurement.variant, job.model, job.peer)))
    speeds = ", ".join(f"{speed / probe.best:.0%}" for speed in outcome.speeds)
    tell(f"round {index + 1}: {name}, {job.threads} threads: {shown} (others {outcome.others:.0%}, speed {speeds})")


def _export(plan: Plan, place: Place, tell: Callable[[str], None]) -> None:
    for model in plan.models:
        for mode in plan.modes:
            if mode.startswith("infer"):
                job = Job("torch", "export", model, int(mode.removeprefix("infer")), plan.threads, 0.0)
                outcome = jobs.run(job, place)
                tell(f"export {model}, batch {job.batch}: {outcome.error or 'done'}")
