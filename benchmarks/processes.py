"""The efficiency of shards: two processes with one thread each beside one process with two threads, on the same shards.

    python benchmarks/processes.py [resnet20 gpt_mini] [--shards 2] [--processes 2] [--rounds 5] [--seconds 3]

Each round trains both ways in turn, each for so many seconds behind a warm start, on made-up rows in memory. A figure
is the median over the rounds of the time of a step; the efficiency is that of one process divided by that of several.
It needs the extra `mpi`, and a machine with as many free cores as there are processes. For comparison, a step without
shards on all threads is timed as well.

    python benchmarks/processes.py --hidden [--shards 4] [--processes 2] [--gigabits 1]

says instead which share of its gradients the first process has sent before its backward pass ends, and how long it
waits for those of others behind it, where they are sent meanwhile and where all are sent behind the pass. Processes of
one machine read each other's memory; here they send messages, as between machines. These are faster than a network:
with `--gigabits 1`, each process holds its messages back as a network of that rate would.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from catalogue import SOURCES, TIMING_RATE
from compiler import driver
from compiler.driver import ALONE, TRAINING, Array, Options, Peers, Steps
from compiler.interface import Transfer
from compiler.programs.sharded_executable import ShardedExecutable
from runtime.analysis.made_up_steps import synthetic
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.processes.joining import joined_peers, started_together

LAUNCHER = Path(sys.executable).with_name("mpiexec")
Figures: TypeAlias = tuple[float, float, float]
Arrays: TypeAlias = Sequence[Sequence[Array]]
BATCHES = 4  # of made-up rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["resnet20", "gpt_mini"])
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--step", metavar="THREADS", type=int, help="time one model here; print JSON")
    parser.add_argument("--hidden", action="store_true", help="how much of the exchange the backward pass hides")
    parser.add_argument("--gigabits", type=float, help="the rate of a network that is imitated, a second")
    parser.add_argument("--messages", action="store_true", help="with --step: share no memory")
    parser.add_argument("--behind", action="store_true", help="with --step: send all behind the backward pass")
    arguments = parser.parse_args()
    if arguments.step is not None:
        peers = joined_peers() if started_together() > 1 else ALONE
        if arguments.messages or arguments.gigabits is not None:
            peers = SlowPeers(peers, math.inf if arguments.gigabits is None else arguments.gigabits * 1e9 / 8)
        peers.overlaps = peers.overlaps and not arguments.behind
        times = seconds_of_step(arguments.models[0], arguments.shards, arguments.step, arguments.seconds, peers)
        if peers.rank == 0:
            print(json.dumps(times))
        return 0
    for model in arguments.models:
        told = partial(tell_hidden, gigabits=arguments.gigabits) if arguments.hidden else tell
        told(model, arguments.shards, arguments.processes, arguments.rounds, arguments.seconds)
    return 0


def seconds_of_step(model: str, shards: int, threads: int, seconds: float, peers: Peers) -> Figures:
    """The median time of a step, from call to call, and of its wait for gradients, and the share of these that were
    sent before the backward pass was over, as the first process sees them."""
    program = driver.load(
        SOURCES / f"{model}.dl", None, (("shards", str(shards)), ("steps", "1000"), ("optimizer.lr", str(TIMING_RATE)))
    )
    plan = training_of(program)
    batch = plan.usual_rows
    options = replace(Options(threads=threads), batch=batch)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    step = driver.compile_program(program, TRAINING, options)
    data = synthetic(program.inputs, BATCHES * batch, 0)
    settings = runtime_settings(program, length_of(plan, BATCHES * batch))
    run = Steps(tensors, data, np.arange(BATCHES * batch), batch, 0, 0, settings, peers)
    step.run(run)
    exchange = step.exchange if isinstance(step, ShardedExecutable) else None
    taken: list[float] = []
    waited: list[float] = []
    end = time.perf_counter() + seconds
    while peers.gathered(time.perf_counter() < end)[0]:
        begin, before = time.perf_counter(), 0.0 if exchange is None else exchange.waited
        step.run(run)
        taken.append((time.perf_counter() - begin) / BATCHES)
        waited.append(0.0 if exchange is None else (exchange.waited - before) / BATCHES)
    hidden = exchange.hidden_bytes / max(1, exchange.sent_bytes) if exchange is not None else 0.0
    return statistics.median(taken), statistics.median(waited), hidden


def tell(model: str, shards: int, processes: int, rounds: int, seconds: float) -> None:
    """Print the figures of a model."""
    ways = {
        "one process": ([], shards, processes),
        "several": ([str(LAUNCHER), "-n", str(processes)], shards, 1),
        "without shards": ([], 1, processes),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (launcher, cut, threads) in ways.items():
            words = [model, "--shards", str(cut), "--seconds", str(seconds), "--step", str(threads)]
            found[way].append(measured(launcher, words)[0])
    medians = {way: 1e3 * statistics.median(times) for way, times in found.items()}
    several = f"{processes} processes, 1 thread each: {medians['several']:.2f} ms"
    alone = f"1 process, {processes} threads: {medians['one process']:.2f} ms"
    print(f"{model}, {shards} shards: {alone}; {several}; without shards {medians['without shards']:.2f} ms")
    print(f"efficiency {medians['one process'] / medians['several']:.2f}")


class SlowPeers:
    """Peers without common memory, whose messages leave as late as a network with a rate, in bytes a second, would let
    them arrive."""

    def __init__(self, peers: Peers, rate: float) -> None:
        self.rank, self.size, self.overlaps = peers.rank, peers.size, peers.overlaps
        self._peers, self._rate, self._free = peers, rate, 0.0
        self._held: deque[Late] = deque()  # in the order in which they leave

    def begin(self, sent: Arrays, received: Arrays) -> Transfer:
        size = sum(array.nbytes for arrays in sent for array in arrays)
        if not size:
            return self._peers.begin(sent, received)
        self._free = max(self._free, time.perf_counter()) + size / self._rate
        self._held.append(Late(self, partial(self._peers.begin, sent, received), self._free))
        return self._held[-1]

    def let_go(self) -> None:
        """Begin what is due."""
        while self._held and time.perf_counter() >= self._held[0].due:
            late = self._held.popleft()
            late.begun = late.begin()

    def swap(self, sent: Arrays, received: Arrays) -> None:
        time.sleep(sum(array.nbytes for arrays in sent for array in arrays) / self._rate)
        self._peers.swap(sent, received)

    def gathered(self, value: Any) -> list[Any]:
        return self._peers.gathered(value)

    def shared(self, size: int) -> Mapping[int, Array]:
        return {}


class Late:
    """A transfer that begins when it is due."""

    def __init__(self, peers: SlowPeers, begin: Callable[[], Transfer], due: float) -> None:
        self._peers, self.begin, self.due = peers, begin, due
        self.begun: Transfer | None = None

    def is_done(self) -> bool:
        self._peers.let_go()
        return self.begun is not None and self.begun.is_done()


def tell_hidden(
    model: str, shards: int, processes: int, rounds: int, seconds: float, gigabits: float | None = None
) -> None:
    """Print how much of the exchange of gradients is hidden behind the backward pass."""
    launcher = [str(LAUNCHER), "-n", str(processes)]
    words = [model, "--shards", str(shards), "--seconds", str(seconds), "--step", "1", "--messages"]
    words += [] if gigabits is None else ["--gigabits", str(gigabits)]
    found = {"meanwhile": list[Figures](), "behind": list[Figures]()}
    for _ in range(rounds):
        for way, more in (("meanwhile", []), ("behind", ["--behind"])):
            found[way].append(measured(launcher, [*words, *more]))
    step = {way: 1e3 * statistics.median(whole for whole, *_ in times) for way, times in found.items()}
    wait = {way: 1e3 * statistics.median(waited for _, waited, _ in times) for way, times in found.items()}
    share = {way: statistics.median(hidden for *_, hidden in times) for way, times in found.items()}
    network = "" if gigabits is None else f", {gigabits:g} Gbit/s imitated"
    print(f"{model}, {shards} shards, {processes} processes, 1 thread each{network}")
    for way in found:
        print(f"  {way}: {share[way]:.0%} sent before the backward pass ends; it waits {wait[way]:.2f} ms", end="")
        print(f" of a step of {step[way]:.2f} ms")


def measured(launcher: list[str], words: list[str]) -> Figures:
    done = subprocess.run([*launcher, sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True)
    whole, waited, hidden = json.loads(done.stdout)
    return whole, waited, hidden


if __name__ == "__main__":
    sys.exit(main())
