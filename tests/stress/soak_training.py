"""Trains the digits example again and again, and reports how memory and speed change: both should stay flat.

    python tests/stress/soak_training.py [--minutes 60] [--epochs N]

Each training is a run with checkpoints, as `dlc train` makes it, in one process. Memory is the resident set after the
first training, when everything is loaded and compiled, and at the end; speed is samples per second in the first and in
the last tenth of the time.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT))

from runtime.cli.main import main as dlc  # noqa: E402


def resident() -> int:
    """Bytes of memory that this process has now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def trained(folder: Path, epochs: int) -> float:
    """One training; its samples per second."""
    run = folder / "run"
    output = io.StringIO()
    command = ["train", str(_ROOT / "examples/digits/model.dl"), "--out", str(run), "--json", "--epochs", str(epochs)]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
        code = dlc(command)
    if code:
        raise SystemExit(f"the training failed with exit code {code}")
    shutil.rmtree(run)
    events = [json.loads(line) for line in output.getvalue().splitlines()]
    return median(event["samples_per_second"] for event in events if event["event"] == "epoch")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    speeds: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        trained(Path(name), arguments.epochs)
        gc.collect()
        first, begin = resident(), time.monotonic()
        while (now := time.monotonic() - begin) < 60 * arguments.minutes:
            speeds.append((now, trained(Path(name), arguments.epochs)))
    gc.collect()
    last, seconds = resident(), speeds[-1][0]
    early = median(speed for at, speed in speeds if at <= seconds / 10)
    late = median(speed for at, speed in speeds if at >= seconds * 0.9)
    print(f"{len(speeds)} trainings of {arguments.epochs} epochs in {seconds / 60:.1f} minutes")
    print(f"memory: {first / 2**20:.1f} MiB after the first, {last / 2**20:.1f} MiB at the end")
    print(f"speed: {early:,.0f} samples/s in the first tenth, {late:,.0f} in the last ({late / early - 1:+.1%})")


if __name__ == "__main__":
    main()
