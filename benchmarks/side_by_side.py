"""Training steps of `dlc` and of peers in one process: samples of all alternate, and medians count."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compiler import driver
from compiler.driver import Options, Program, Steps, Tensors
from compiler.programs.kinds import TRAINING
from runtime.inference.model import runtime_settings
from runtime.runs.position import Length


def parser_of(document: str | None) -> argparse.ArgumentParser:
    """The options that all these programs take."""
    parser = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5)
    return parser


def own_step(
    program: Program, rows: Mapping[str, np.ndarray[Any, Any]], batch: int, threads: int, updates: int = 10**6
) -> tuple[Callable[[], float], Tensors]:
    """A step of a program on the same rows each time, which gives its loss, and the tensors that it changes.

    The training is so long, in updates, that its rate hardly changes.
    """
    options = driver.options_of(program, Options(batch=batch, threads=threads))
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    executable = driver.compile_program(program, TRAINING, options)
    settings = runtime_settings(program, Length(batch, batch, updates))
    order, taken = np.arange(batch), 0

    def step() -> float:
        nonlocal taken
        results = executable.run(Steps(tensors, rows, order, batch, taken, 0, settings))
        taken += 1
        return float(results.scalars["loss"][0])

    return step, tensors


def expect_equal_losses(steps: Mapping[str, Callable[[], float]], tolerance: float = 1e-3) -> None:
    """Raise AssertionError where the first five losses of a peer are others than those of `dlc`."""
    losses = {name: [step() for _ in range(5)] for name, step in steps.items()}
    for name, found in losses.items():
        np.testing.assert_allclose(found, losses["dlc"], rtol=tolerance, err_msg=name)


def sampled(step: Callable[[], object], seconds: float) -> float:
    """Milliseconds of a step."""
    count, begun = 0, time.perf_counter()
    while (lasted := time.perf_counter() - begun) < seconds or count < 3:
        step()
        count += 1
    return 1e3 * lasted / count


def medians_of(steps: Mapping[str, Callable[[], object]], rounds: int, seconds: float) -> dict[str, float]:
    """The median milliseconds of a step of each peer."""
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            samples[name].append(sampled(step, seconds))
    return {name: statistics.median(values) for name, values in samples.items()}


def print_medians(medians: Mapping[str, float]) -> None:
    """A table in Markdown."""
    print("| peer | ms a step | of dlc |\n| --- | ---: | ---: |")
    for name, value in medians.items():
        print(f"| {name} | {value:.2f} | {value / medians['dlc']:.2f} |")
