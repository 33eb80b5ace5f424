"""Trains the digits example again and again, and reports how memory, files and speed change: all should stay flat.

    python tests/stress/soak_training.py [--minutes 60] [--epochs N] [--threads N] [--rest SECONDS]

Each training is a run with checkpoints, as `dlc train` makes it, in one process. What the process holds is compared
between the end of the first training, when everything is loaded and compiled, and the end: memory (the resident set),
open file descriptors, threads, files in the folder for temporary files, and bytes of the cache. Speed is epochs per
second of the wall clock, and the processor's time that an epoch takes, which other processes of the machine disturb
less; both are compared between the first and the last tenth of the time. `--rest` is a pause after each training.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT))

from runtime.cli.main import main as dlc  # noqa: E402

_SECONDS_BETWEEN_REPORTS = 60.0


@dataclass(frozen=True)
class Training:
    """One of the trainings, with the seconds of clock and processor that an epoch of it took."""

    ended: float  # seconds from the begin of the soak
    clock: float
    processor: float
    memory: int  # bytes of the resident set when it was over


@dataclass(frozen=True)
class Held:
    """What this process holds now (Linux)."""

    memory: int  # bytes of the resident set
    descriptors: int
    threads: int
    temporary: int  # files and folders
    cache: int  # bytes

    def __str__(self) -> str:
        return (
            f"{self.memory / 2**20:.1f} MiB of memory, {self.descriptors} open files, {self.threads} threads, "
            f"{self.temporary} temporary files, {self.cache / 2**10:.0f} KiB in the cache"
        )


def held(folder: Path) -> Held:
    cached = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())
    temporary = sum(1 for _ in (folder / "temporary").rglob("*"))
    return Held(resident(), len(os.listdir("/proc/self/fd")), threading.active_count(), temporary, cached)


def resident() -> int:
    """Bytes of memory that this process has now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def train(folder: Path, epochs: int, options: Sequence[str]) -> None:
    """One training, whose run is removed again."""
    run = folder / "run"
    model = _ROOT / "examples/digits/model.dl"
    command = ["train", str(model), "--out", str(run), "--json", "--epochs", str(epochs), *options]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = dlc(command)
    if code:
        raise SystemExit(f"the training failed with exit code {code}")
    shutil.rmtree(run)


def soak(folder: Path, seconds: float, epochs: int, rest: float, options: Sequence[str]) -> list[Training]:
    """Trainings in a folder for so long, after a first one that loads and compiles."""
    trainings: list[Training] = []
    train(folder, epochs, options)
    gc.collect()
    print(f"after the first training: {held(folder)}", flush=True)
    begin = reported = time.monotonic()
    while (now := time.monotonic()) < begin + seconds:
        processor = time.process_time()
        train(folder, epochs, options)
        ended = time.monotonic()
        used = time.process_time() - processor
        trainings.append(Training(ended - begin, (ended - now) / epochs, used / epochs, resident()))
        if ended > reported + _SECONDS_BETWEEN_REPORTS:
            reported = ended
            print(f"{_line(trainings[-1])}, {len(trainings)} trainings", flush=True)
        time.sleep(rest)
    gc.collect()
    print(f"at the end: {held(folder)}")
    return trainings


def _line(training: Training) -> str:
    return (
        f"{training.ended / 60:5.1f} min: {training.memory / 2**20:.1f} MiB, "
        f"{1e3 * training.clock:.2f} ms an epoch, {1e3 * training.processor:.2f} ms of the processor"
    )


def _change(trainings: Sequence[Training], value: Callable[[Training], float]) -> str:
    end = trainings[-1].ended
    early = median(value(training) for training in trainings if training.ended <= max(end / 10, trainings[0].ended))
    late = median(value(training) for training in trainings if training.ended >= end * 0.9)
    return f"{1e3 * early:.2f} ms in the first tenth, {1e3 * late:.2f} ms in the last ({late / early - 1:+.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rest", type=float, default=0, help="seconds after each training")
    arguments = parser.parse_args()
    options = [] if arguments.threads is None else ["--threads", str(arguments.threads)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "temporary").mkdir()
        os.environ |= {"TMPDIR": str(folder / "temporary"), "XDG_CACHE_HOME": str(folder / "cache")}
        tempfile.tempdir = None  # so that it is asked for again
        trainings = soak(folder, 60 * arguments.minutes, arguments.epochs, arguments.rest, options)
    after_a_minute = next((one for one in trainings if one.ended >= 60), trainings[-1])
    print(f"{len(trainings)} trainings of {arguments.epochs} epochs in {trainings[-1].ended / 60:.1f} minutes")
    print(
        f"memory: {after_a_minute.memory / 2**20:.1f} MiB after a minute, {trainings[-1].memory / 2**20:.1f} at the end"
    )
    print(f"clock, an epoch: {_change(trainings, lambda one: one.clock)}")
    print(f"processor, an epoch: {_change(trainings, lambda one: one.processor)}")


if __name__ == "__main__":
    main()
