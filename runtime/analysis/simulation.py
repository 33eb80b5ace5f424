"""The shares of many threads are measured on one, in turn with steps of one thread, on made-up data in memory."""

from __future__ import annotations

import gc
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler import driver
from compiler.driver import Options, Program
from compiler.programs.kinds import STEP_OF_MODE
from runtime.analysis.made_up_steps import MadeUpSteps, Weights, usual_batch
from runtime.runs.environment import cpu_name
from runtime.support.memory import expect_room

if TYPE_CHECKING:
    from compiler.driver import SimulationReport, Step

_LEAST_ROUNDS = 5
_STEPS = 3  # of a round, for each number of threads


def simulate(
    program: Program,
    mode: str,
    batch: int | None,
    options: Options,
    threads: int,
    seconds: float,
    weights: Weights | None = None,
    barrier_us: float | None = None,
    bandwidth: float | None = None,
) -> SimulationReport:
    """What `threads` threads would do, measured for about `seconds`; see `driver.simulation_of`. Raises UsageError."""
    kind, batch = STEP_OF_MODE[mode], batch or usual_batch(program, mode)
    step = driver.simulated_step(program, kind, replace(options, batch=batch), threads)
    expect_room(step.program, [kind], step.options)
    made = MadeUpSteps(step.program, mode, batch, step.options, weights)
    taken: dict[int, list[list[Step]]] = {count: [[] for _ in step.parts] for count in step.in_turns}
    at_once: list[list[Step]] = [[] for _ in step.parts]
    real: list[float] = []
    gc.collect()
    begin = time.perf_counter()
    while len(taken[1][0]) < _LEAST_ROUNDS * _STEPS or time.perf_counter() - begin < seconds:
        for count, executable in step.in_turns.items():
            made.run(executable, 1)
            step.take(count)
            made.run(executable, _STEPS)
            for part, found in zip(taken[count], step.take(count), strict=True):
                part += found
        if step.at_once is not None:
            made.run(step.at_once, 1)
            step.take(step.cores, in_turns=False)
            made.run(step.at_once, _STEPS)
            for part, found in zip(at_once, step.take(step.cores, in_turns=False), strict=True):
                part += found
        if step.real is not None:
            made.run(step.real, 1)
            real.append(made.run(step.real, _STEPS) / _STEPS)
        if time.perf_counter() - begin > 4 * seconds and taken[1][0]:
            break  # a large model: few rounds have to do
    measured = float(np.percentile(real, 25)) if real else None
    found = at_once if step.at_once is not None else []
    return driver.simulation_of(step, taken, found, mode, barrier_us, bandwidth, measured)


def simulation_json(found: SimulationReport) -> dict[str, Any]:
    """The report as plain data, with the name of the processor."""
    return json.loads(json.dumps({**found.to_json(), "cpu": cpu_name()}))
