"""The efficiency of shards: two processes with one thread each beside one process with two threads, on the same shards.

    python benchmarks/processes.py [resnet20 gpt_mini] [--shards 2] [--processes 2] [--rounds 5] [--seconds 3]

Each round trains both ways in turn, each for so many seconds behind a warm start, on made-up rows in memory. A figure
is the median over the rounds of the time of a step; the efficiency is that of one process divided by that of several.
It needs the extra `mpi`, and a machine with as many free cores as there are processes. For comparison, a step without
shards on all threads is timed as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from catalogue import SOURCES, TIMING_RATE
from compiler import driver
from compiler.driver import ALONE, TRAINING, Options, Peers, Steps
from runtime.analysis.made_up_steps import synthetic
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.processes.joining import joined_peers, started_together

LAUNCHER = Path(sys.executable).with_name("mpiexec")
BATCHES = 4  # of made-up rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["resnet20", "gpt_mini"])
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--step", metavar="THREADS", type=int, help="time one model here; print JSON")
    arguments = parser.parse_args()
    if arguments.step is not None:
        peers = joined_peers() if started_together() > 1 else ALONE
        seconds = seconds_of_step(arguments.models[0], arguments.shards, arguments.step, arguments.seconds, peers)
        if peers.rank == 0:
            print(json.dumps(seconds))
        return 0
    for model in arguments.models:
        tell(model, arguments.shards, arguments.processes, arguments.rounds, arguments.seconds)
    return 0


def seconds_of_step(model: str, shards: int, threads: int, seconds: float, peers: Peers) -> float:
    """The median time of a step, from call to call, as the first process sees it."""
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
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while peers.gathered(time.perf_counter() < end)[0]:
        begin = time.perf_counter()
        step.run(run)
        taken.append((time.perf_counter() - begin) / BATCHES)
    return statistics.median(taken)


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
            command = [*launcher, sys.executable, __file__, *words]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[way].append(json.loads(done.stdout))
    medians = {way: 1e3 * statistics.median(times) for way, times in found.items()}
    several = f"{processes} processes, 1 thread each: {medians['several']:.2f} ms"
    alone = f"1 process, {processes} threads: {medians['one process']:.2f} ms"
    print(f"{model}, {shards} shards: {alone}; {several}; without shards {medians['without shards']:.2f} ms")
    print(f"efficiency {medians['one process'] / medians['several']:.2f}")


if __name__ == "__main__":
    sys.exit(main())
