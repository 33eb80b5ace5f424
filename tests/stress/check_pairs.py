"""Random graphs over pairs of rows, [batch, batch]: native code beside NumPy, and its bits.

    python tests/stress/check_pairs.py [--first 0] [--count 60] [--nodes 12] [--verify]

Each graph is a chain of elementwise operations, reductions, products and movements. It is compiled with places for few
and for many rows, with one thread and two, and without fusion: all give the same bits for batches of 1, 5, 40 and 150
rows, and in f64 what NumPy gives. `--verify` also proves kernels, memory and barriers. It ends with exit status 1 after
a difference. `tests/targets/test_pairs.py` does the same with a few graphs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS / "support")]

from random_pairs import inputs_of, narrowed, random_pairs, run  # noqa: E402

from compiler.evaluate import evaluate  # noqa: E402
from compiler.graph.ir import Graph  # noqa: E402
from compiler.interface import FUSIONS, Options  # noqa: E402
from compiler.pipeline import to_f64  # noqa: E402
from compiler.programs.executables import executable  # noqa: E402

ROWS = (1, 5, 40, 150)
WAYS = ((1, 1, ()), (64, 2, ()), (150, 1, ()), (150, 2, ()), (64, 1, tuple(FUSIONS)))  # places, threads, no fusions


def differences(graph: Graph, seed: int, verify: bool) -> Iterator[str]:
    programs = [
        executable(graph, Options(batch=places, threads=threads, without=without, verify=verify))
        for places, threads, without in WAYS
    ]
    double = executable(graph, Options(batch=150, dtype="f64", threads=1))
    for rows in ROWS:
        arrays = inputs_of(graph, rows, seed)
        meaning = evaluate(to_f64(graph), arrays, rows)
        found = [run(program, narrowed(arrays), rows) for program in programs]
        for name, value in run(double, arrays, rows).items():
            scale = max(1.0, float(np.abs(meaning[name]).max(initial=0)))
            if not np.allclose(value, meaning[name], rtol=1e-8, atol=1e-8 * scale):
                yield f"{name} of {rows} rows differs from NumPy by {np.abs(value - meaning[name]).max():.1e}"
            if len({np.asarray(one[name]).tobytes() for one in found}) > 1:
                yield f"{name} of {rows} rows has several values"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--nodes", type=int, default=12)
    parser.add_argument("--verify", action="store_true")
    arguments = parser.parse_args()
    wrong = 0
    for seed in range(arguments.first, arguments.first + arguments.count):
        for difference in differences(random_pairs(seed, arguments.nodes), seed, arguments.verify):
            print(f"seed {seed}: {difference}")
            wrong += 1
    print(f"{arguments.count} graphs, {wrong} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
