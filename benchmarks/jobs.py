"""A job: one peer, mode and model in a process of its own; its figures, and how much others used the machine."""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from catalogue import CATALOGUE, TIMING_RATE

HERE = Path(__file__).resolve().parent
TIME_LIMIT = 900

# `dlc` has no command for a bare product: a dense layer without bias is one.
PRODUCT = """\
model Product() {{
    input rows: f32[batch, {size}]
    output products = rows |> dense({size}, bias = false)
}}
"""


@dataclass(frozen=True, slots=True)
class Job:
    """`mode` is train, infer, gemm or export; `model` is a name of the catalogue, or the size of a square product."""

    peer: str
    mode: str
    model: str
    batch: int
    threads: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job runs: a folder for its files, one for compiled code, and how `dlc` is started."""

    folder: Path
    cache: Path
    dlc: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job gave. `others` is the share of the machine that other processes used; `error` is why it failed.

    `speeds`: GFLOP/s of fused multiply-adds on as many threads, right before and right after it.
    """

    figures: dict[str, float]
    others: float
    error: str = ""
    speeds: tuple[float, ...] = ()


def run(job: Job, place: Place) -> Outcome:
    """Runs the job and waits for it."""
    command = _dlc_command(job, place) if job.peer == "dlc" else _worker_command(job, place)
    outcome = run_command([*_pinning(job.threads), *command], _environment(job, place))
    return outcome if outcome.error else replace(outcome, error=_fault(job, outcome.figures))


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> Outcome:
    """Runs a program that ends its output with a JSON object, and waits for it."""
    before, own, start = _busy_seconds(), _children_seconds(), time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE,
        env=environment,
        start_new_session=True,
    )
    _raise_weight(process.pid)
    try:
        output, messages = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Outcome({}, 0.0, f"no result within {TIME_LIMIT} s")
    capacity = (time.monotonic() - start) * (os.cpu_count() or 1)
    others = max(0.0, (_busy_seconds() - before) - (_children_seconds() - own)) / capacity
    if process.returncode:
        return Outcome({}, others, _last_line(messages) or f"ended with {process.returncode}")
    return Outcome(_figures(output), others)


def _dlc_command(job: Job, place: Place) -> list[str]:
    if job.mode == "gemm":
        source = place.folder / f"product_{job.model}.dl"
        source.write_text(PRODUCT.format(size=job.model))
    else:
        source = CATALOGUE[job.model].source
    command = [*shlex.split(place.dlc), "bench", str(source), "--json", "--cache-dir", str(place.cache)]
    command += ["--mode", "train" if job.mode == "train" else "infer", "--batch", str(job.batch)]
    command += ["--threads", str(job.threads), "--seconds", str(job.seconds)]
    return command + (["--set", f"optimizer.lr={TIMING_RATE}"] if job.mode == "train" else [])


def _worker_command(job: Job, place: Place) -> list[str]:
    return [sys.executable, str(HERE / "worker.py"), json.dumps(asdict(job) | {"folder": str(place.folder)})]


def _environment(job: Job, place: Place) -> dict[str, str]:
    return os.environ | {
        "OMP_NUM_THREADS": str(job.threads),
        "MKL_NUM_THREADS": str(job.threads),
        "TORCHINDUCTOR_CACHE_DIR": str(place.cache),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(place.cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def _pinning(threads: int) -> list[str]:
    """Keeps a job with fewer threads than processors on as many; JAX has no other switch, so all peers do it."""
    processors = sorted(os.sched_getaffinity(0))
    if threads >= len(processors):
        return []
    return ["taskset", "--cpu-list", ",".join(map(str, processors[:threads]))]


def _raise_weight(process: int) -> None:
    """Where it is allowed, gives the job's session precedence over what else runs on the machine."""
    try:
        Path(f"/proc/{process}/autogroup").write_text("-19")
    except OSError:
        return


def _busy_seconds() -> float:
    """Processor seconds that the whole machine has been busy since it started."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _waiting, *interrupts = map(int, file.readline().split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _figures(output: str) -> dict[str, float]:
    """The numbers of the JSON object that the output ends with; a peer may have said something before it."""
    start = output.find("\n{") + 1 if not output.startswith("{") else 0
    return {name: float(value) for name, value in json.loads(output[start:]).items() if isinstance(value, int | float)}


def _fault(job: Job, figures: dict[str, float]) -> str:
    """Why the figures do not count: another model was measured."""
    entry = CATALOGUE.get(job.model)
    found = int(figures.get("parameters", entry.parameters if entry else 0))
    return f"has {found} parameters, not {entry.parameters}" if entry and found != entry.parameters else ""


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
