"""Interprets the nests of random graphs and networks in watched memory, and says what is wrong with them.

    python tests/stress/check_nests.py [--first 0] [--count 20] [--seconds N] [--networks] [--mutations N]

Each seed is a program, scheduled and emitted for AVX-512, AVX2 and NEON with thresholds so low that small tensors take
the paths of large ones, and run with batches of 1, 2, the nominal size and its neighbours, and 67. `nest_faults.py`
says what is watched: accesses out of bounds, unwritten memory that reaches a result, elements that are left out or that
two items write, the order of items, checks for NaN and Inf. Kernels of too many statements are left out.

With `--mutations`, so many faults are put into each nest instead. Each must be found by the verifier, by the proof of
bounds or by a run, or make no difference with five other batches either; one that does is missed. It ends with exit
status 1 if there are faults, or mutations that were missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS / "support")]

from nest_cases import graph_cases, network_cases  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no program after so many")
    parser.add_argument("--networks", action="store_true", help="networks instead of graphs")
    parser.add_argument("--mutations", type=int, default=0, metavar="N", help="faults to put into each nest")
    arguments = parser.parse_args()
    begin, programs, kernels, unsound = time.monotonic(), 0, 0, 0
    found: Counter[tuple[str, str]] = Counter()
    for seed in range(arguments.first, arguments.first + arguments.count):
        if time.monotonic() - begin > arguments.seconds:
            break
        programs += 1
        for cases in (network_cases if arguments.networks else graph_cases)(seed):
            if arguments.mutations:
                found.update(cases.mutations(Random(seed), arguments.mutations))
                continue
            checked, faults = cases.faults()
            kernels, unsound = kernels + checked, unsound + len(faults)
            for fault in faults:
                print(f"--first {seed}: {fault}", flush=True)
    print(f"{programs} programs in {time.monotonic() - begin:.0f} s: ", end="")
    if not arguments.mutations:
        print(f"{kernels} kernels, {unsound} faults")
        sys.exit(unsound > 0)
    by = Counter(finder for _, finder in found.elements())
    print(f"{by.total()} mutations, found by verifier {by['verifier']}, proof {by['proof']}, run {by['run']};")
    print(f"{by['nobody']} changed no result; missed {by['missed']}")
    for kind in sorted({kind for kind, _ in found}):
        print(f"  {kind}: " + ", ".join(f"{who} {found[kind, who]}" for who in by if found[kind, who]))
    sys.exit(by["missed"] > 0)


if __name__ == "__main__":
    main()
