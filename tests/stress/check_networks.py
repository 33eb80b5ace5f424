"""Makes whole networks at random, and checks of each that it keeps its bits and its meaning however it is run.

    python tests/stress/check_networks.py [--first 0] [--count 200] [--seconds N] [--show]

Each seed is one network, checked in a process of its own: three steps of training with 1, 2 and 3 threads, without
fusions, with thresholds so low that its small tensors take the paths of large ones, in memory full of NaN, and resumed;
predictions in batches of several sizes; in f64, the steps that the reference target makes of the graph before any pass.
It prints a line for each fault, and ends with exit status 1 if there were some. `--show` prints the text of the first
seed instead. `tests/fuzz/test_random_networks.py` does the same with a few small networks.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import traceback
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS / "support")]

from network_checks import Network  # noqa: E402
from random_networks import random_network  # noqa: E402

_LONGEST = 400.0  # seconds of a check, beyond which a network hangs
_BETWEEN_REPORTS = 25


def check(seed: int) -> None:
    """Print what is wrong with a network; exit status 1 where something is."""
    found: list[str] = []
    try:
        found += Network(random_network(seed), seed).faults()
    except Exception as error:  # a fault like others: the next seeds are checked all the same
        place = traceback.extract_tb(error.__traceback__)[-1]
        found.append(f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:300]}")
    for fault in found:
        print(f"--first {seed} --count 1: {fault}", flush=True)
    sys.exit(bool(found))


def is_sound(seed: int) -> bool:
    """Check a network in a process of its own, which may crash or hang."""
    process = multiprocessing.get_context("fork").Process(target=check, args=(seed,))
    process.start()
    process.join(_LONGEST)
    if process.is_alive():
        process.kill()
        print(f"--first {seed} --count 1: not done after {_LONGEST:.0f} s", flush=True)
    elif process.exitcode not in (0, 1):
        print(f"--first {seed} --count 1: ended with {process.exitcode}", flush=True)
    return process.exitcode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no check after so many")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    if arguments.show:
        print(random_network(arguments.first))
        return
    begin, tried, unsound = time.monotonic(), 0, 0
    for seed in range(arguments.first, arguments.first + arguments.count):
        if time.monotonic() - begin > arguments.seconds:
            break
        tried += 1
        unsound += not is_sound(seed)
        if tried % _BETWEEN_REPORTS == 0:
            print(f"{tried} networks in {time.monotonic() - begin:.0f} s; {unsound} with faults", flush=True)
    print(f"{tried} networks from {arguments.first} on in {time.monotonic() - begin:.0f} s; {unsound} with faults")
    sys.exit(unsound > 0)


if __name__ == "__main__":
    main()
