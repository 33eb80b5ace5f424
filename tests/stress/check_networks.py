"""Makes whole networks at random, and checks of each that it keeps its bits and its meaning however it is run.

    python tests/stress/check_networks.py [--first 0] [--count 200] [--seconds N] [--all] [--show]

Each seed is one network. Three steps of training with 1, 2 and 3 threads have the same bits, in memory full of NaN
too. Beside that, each seed checks one further way of compiling in turn (without fusions; with thresholds so low that
small tensors take the paths of large ones; the same without some fusions), and one use: a training that is interrupted
and resumed; predictions in batches of several sizes; in f64, the steps that the reference target makes of the graph
before any pass; an evaluation beside the reference. `--all` checks all of them for every seed.

It prints a line for each fault, then how often each kind of network, layer, function, op and entry was there, and each
check of each kind; it ends with exit status 1 if there were faults. `--show` prints the text of the first seed instead.
`tests/fuzz/test_random_networks.py` does the same with a few small networks.

The networks are checked one after the other in a process that a crash or a hang ends, and that is then replaced.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS / "support")]

from network_checks import USES, VARIANTS, WAYS, Network  # noqa: E402
from network_coverage import Coverage, Features, features_of  # noqa: E402
from random_networks import random_network  # noqa: E402

from compiler.targets.llvm.llvm import OPTIMISATION_LEVEL  # noqa: E402

_LONGEST = 300  # seconds of a check in which this process runs too, beyond which a network hangs
_OF_A_PROCESS = 200  # networks, so that memory that is not given back does not add up
_BETWEEN_REPORTS = 100


@dataclass(frozen=True)
class Finding:
    """What the check of a seed came to."""

    seed: int
    faults: Sequence[str]
    features: Features
    seconds: float  # of the processor


def variants_of(seed: int) -> tuple[str, ...]:
    """A way and a use in turn: twelve seeds on end have each pair once."""
    return WAYS[seed % len(WAYS)], USES[seed // len(WAYS) % len(USES)]


def level_of(seed: int) -> int:
    """In three rounds of four, LLVM generates most code at its lowest level, in half the time."""
    return 0 if seed // (len(WAYS) * len(USES)) % 4 else OPTIMISATION_LEVEL


def check(seed: int, variants: Sequence[str]) -> Finding:
    """What is wrong with a network; an error is a fault like others."""
    begin, text = time.process_time(), random_network(seed)
    faults: list[str] = []
    features: Features = {}
    try:
        network = Network(text, seed, level_of(seed))
        faults += network.faults(variants)
        features = features_of(text, network.graphs(), variants)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        faults.append(f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:300]}")
    return Finding(seed, faults, features, time.process_time() - begin)


def serve(seeds: Sequence[int], checks_all: bool, findings: Connection) -> None:
    """Check seeds in this process."""
    gc.freeze()
    for seed in seeds:
        findings.send(check(seed, VARIANTS if checks_all else variants_of(seed)))
        gc.collect()  # the code and the threads of its programs are in cycles
    findings.close()


class Checks:
    """The process that checks, and what it has found."""

    def __init__(self, seeds: range, checks_all: bool) -> None:
        self.left, self.checks_all = seeds, checks_all
        self.coverage, self.unsound, self.processor = Coverage(), 0, 0.0
        self._process: ForkProcess | None = None

    def next(self) -> None:
        """Wait for the finding of the first seed that is left."""
        if self._process is None:
            self._begin()
        waited = 0
        while not self._findings.poll(1) and waited < _LONGEST:
            waited += 1
        try:
            finding = self._findings.recv() if waited < _LONGEST else self._ended(f"not done after {_LONGEST} s")
        except EOFError:
            finding = self._ended("")
        for fault in finding.faults:
            print(f"--first {finding.seed} --count 1: {fault}", flush=True)
        self.unsound += bool(finding.faults)
        self.processor += finding.seconds
        self.coverage.add(finding.features)
        self.left = self.left[1:]
        self._of_process -= 1
        if not self._of_process:
            self.end()

    def _begin(self) -> None:
        context = multiprocessing.get_context("fork")
        self._findings, theirs = context.Pipe(duplex=False)
        seeds = self.left[:_OF_A_PROCESS]
        self._of_process = len(seeds)
        self._process = process = context.Process(target=serve, args=(seeds, self.checks_all, theirs))
        process.start()
        theirs.close()

    def _ended(self, fault: str) -> Finding:
        """The finding of a seed that took its process along, or that is stopped now."""
        assert self._process is not None
        if fault:
            self._process.kill()
        self._process.join()
        self._of_process = 1
        return Finding(self.left[0], [fault or f"ended with {self._process.exitcode}"], {}, 0.0)

    def end(self) -> None:
        if self._process is not None:
            self._process.join() if not self._of_process else self._process.kill()
            self._process = None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no check after so many")
    parser.add_argument("--all", action="store_true", help="check everything of every seed")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    if arguments.show:
        print(random_network(arguments.first))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # thousands of programs, each used once
        begin = time.monotonic()
        checks = Checks(range(arguments.first, arguments.first + arguments.count), arguments.all)
        tried = 0
        while checks.left and time.monotonic() - begin < arguments.seconds:
            checks.next()
            tried += 1
            if tried % _BETWEEN_REPORTS == 0:
                print(_line(tried, arguments.first, checks, time.monotonic() - begin), flush=True)
        checks.end()
    print("\n".join(checks.coverage.lines()))
    print(_line(tried, arguments.first, checks, time.monotonic() - begin))
    sys.exit(checks.unsound > 0)


def _line(tried: int, first: int, checks: Checks, seconds: float) -> str:
    return (
        f"{tried} networks from {first} on in {seconds:.0f} s, {checks.processor / tried:.2f} s of the processor each; "
        f"{checks.unsound} with faults"
    )


if __name__ == "__main__":
    main()
