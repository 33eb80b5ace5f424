"""Takes airplanes, automobiles, ships and trucks out of a folder of CIFAR-10 batches.

    python vehicles.py path/to/cifar-10-batches-bin

Writes `vehicles-train.npz` and `vehicles-test.npz` beside this file, with labels 0 to 3.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np

CLASSES = (0, 1, 8, 9)
RECORD = 1 + 3 * 32 * 32


def rows_of(path: Path) -> np.ndarray:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return np.frombuffer(content, np.uint8).reshape(-1, RECORD)


def write(paths: list[Path], target: Path) -> None:
    rows = np.concatenate([rows_of(path) for path in paths])
    rows = rows[np.isin(rows[:, 0], CLASSES)]
    labels = np.searchsorted(CLASSES, rows[:, 0]).astype(np.uint8)
    np.savez_compressed(target, image=rows[:, 1:].reshape(-1, 3, 32, 32), label=labels)
    print(f"{target}: {len(rows)} pictures")


def main(folder: str) -> None:
    batches = sorted(p for p in Path(folder).iterdir() if p.name.endswith((".bin", ".bin.gz")))
    here = Path(__file__).parent
    write([p for p in batches if not p.name.startswith("test")], here / "vehicles-train.npz")
    write([p for p in batches if p.name.startswith("test")], here / "vehicles-test.npz")


if __name__ == "__main__":
    main(*sys.argv[1:])
