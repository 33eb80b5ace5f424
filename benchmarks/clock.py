"""How the peers are timed: samples long enough for the clock, summed up as median, 10th and 90th percentile."""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable

import numpy as np

SAMPLE_SECONDS = 0.005
WARM_UP_SECONDS = 0.5
WARM_UP_CALLS = 5


def since_process_start() -> float:
    """Seconds since this process was started, so with the interpreter and all imports."""
    with open("/proc/self/stat") as file:
        start_ticks = int(file.read().rsplit(")", 1)[1].split()[19])
    with open("/proc/uptime") as file:
        return float(file.read().split()[0]) - start_ticks / os.sysconf("SC_CLK_TCK")


def peak_memory_mb() -> float:
    """The most memory that this process ever had resident."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def time_throughput(step: Callable[[], object], wait: Callable[[], object], seconds: float) -> dict[str, float]:
    """Milliseconds a step when steps follow one another without waiting, as in a training loop."""

    def sample(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            step()
        wait()
        return (time.perf_counter() - start) / calls

    return _summary(sample, seconds)


def time_latency(call: Callable[[], object], seconds: float) -> dict[str, float]:
    """Milliseconds a call when each result is waited for; `call` returns when its result is there."""
    return time_throughput(call, lambda: None, seconds)


def _summary(sample: Callable[[int], float], seconds: float) -> dict[str, float]:
    """`sample(n)` runs n calls and gives the seconds of one."""
    estimates: list[float] = []
    start = time.perf_counter()
    while len(estimates) < WARM_UP_CALLS or time.perf_counter() - start < min(WARM_UP_SECONDS, seconds):
        estimates.append(sample(1))
    calls = max(1, math.ceil(SAMPLE_SECONDS / float(np.median(estimates[len(estimates) // 2 :]))))
    gc.collect()
    samples: list[float] = []
    start = time.perf_counter()
    while not samples or time.perf_counter() - start < seconds:
        samples.append(sample(calls) * 1e3)
    p10, median, p90 = np.percentile(samples, (10, 50, 90))
    return {"median_ms": float(median), "p10_ms": float(p10), "p90_ms": float(p90), "steps": calls * len(samples)}
