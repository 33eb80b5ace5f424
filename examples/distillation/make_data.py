"""Writes digits.csv.gz: the digits of examples/digits, with a column `known` that is 1 for 100 of them.

python examples/distillation/make_data.py
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
KNOWN = 100


def main() -> None:
    with gzip.open(HERE.parent / "digits" / "digits.csv.gz", "rt") as file:
        head, *rows = file.read().splitlines()
    chosen = set(np.random.default_rng(0).choice(len(rows), KNOWN, replace=False).tolist())
    lines = [f"{head},known", *(f"{row},{int(number in chosen)}" for number, row in enumerate(rows))]
    # without a time, so that the file is the same whenever it is made
    content = gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0)
    (HERE / "digits.csv.gz").write_bytes(content)


if __name__ == "__main__":
    main()
