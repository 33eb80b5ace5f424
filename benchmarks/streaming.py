"""Training on data that is read block by block beside the same training on data in memory: seconds of an epoch of each.

    python benchmarks/streaming.py [--rows 200000] [--columns 250] [--stream 16384] [--epochs 6] [--rounds 3]

Both train the same text on the same rows, in processes of their own that take turns; of each, the fastest epoch counts,
but for the first. Reading is as fast as from memory where the ratio is at most 1.05. `cold` drops the file from the
system's cache of pages before each round, as data larger than memory is; the share that `dlc train` waited is told.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

MODEL = """
model Wide(width = {width}) {{
    input x: f32[batch, {columns}]
    output p = x |> dense(width) |> relu |> dense(width) |> relu |> dense(1)
}}

train Wide {{
    data = npz("rows.npz")
    target y: f32[batch, 1]
    loss = mse(p, y)
    optimizer = adam(lr = 1e-4)
    batch = 128
    epochs = {epochs}
}}
"""


def write(folder: Path, rows: int, columns: int, width: int, epochs: int) -> None:
    drawn = np.random.default_rng(0)
    x = drawn.normal(size=(rows, columns)).astype(np.float32)
    np.savez(folder / "rows.npz", x=x, y=x[:, :1] - x[:, 1:2])
    (folder / "model.dl").write_text(MODEL.format(width=width, columns=columns, epochs=epochs))


def trained(folder: Path, out: str, threads: int, stream: int) -> list[dict[str, Any]]:
    """The events of a training."""
    words = ["train", "model.dl", "--json", "--out", out, "--threads", str(threads)]
    words += ["--set", f"stream={stream}"] if stream else []
    command = [sys.executable, "-P", "-m", "runtime.cli", *words]
    environment = {**os.environ, "DLC_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def fastest(events: list[dict[str, Any]]) -> float:
    """The seconds of the fastest epoch but the first."""
    return min(event["seconds"] for event in events if event["event"] == "epoch" and event["epoch"] > 1)


def drop(folder: Path) -> None:
    """Take the packed rows out of the cache of pages."""
    for path in (folder / "cache" / "rows").iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = (("rows", 200_000), ("columns", 250), ("width", 128), ("stream", 16384), ("epochs", 6), ("rounds", 3))
    for name, usual in (*sizes, ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder, asked.rows, asked.columns, asked.width, asked.epochs)
        trained(folder, "packed", asked.threads, asked.stream)
        seconds: dict[str, list[float]] = {"memory": [], "warm": [], "cold": []}
        waited: dict[str, float] = {}
        for number in range(asked.rounds):
            for name, found in seconds.items():
                if name == "cold":
                    drop(folder)
                events = trained(folder, f"{name}-{number}", asked.threads, 0 if name == "memory" else asked.stream)
                found.append(fastest(events))
                waited[name] = events[-1].get("waited", 0.0)
    least = min(seconds["memory"])
    for name, found in seconds.items():
        print(f"{name:8} {min(found):8.3f} s an epoch  {min(found) / least:6.3f} of memory  waited {waited[name]:6.1%}")


if __name__ == "__main__":
    main()
