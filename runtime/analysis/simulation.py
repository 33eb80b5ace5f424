"""The shares of many threads are measured on one, in turn with steps of one thread, on made-up data in memory."""

from __future__ import annotations

import gc
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.driver import Options, Program
from compiler.errors.diagnostics import UsageError
from compiler.profiling.simulation import SimulationReport, simulated_step, simulation_of
from runtime.analysis.profile import KINDS, Runs, Weights
from runtime.runs.environment import cpu_name
from runtime.support.memory import expect_room

if TYPE_CHECKING:
    from compiler.targets.recording import Step

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
    """What `threads` threads would do, measured for about `seconds`; see `simulation_of`. Raises UsageError."""
    plan = program.plan
    if mode == "train" and plan is None:
        raise UsageError(f"{program.model} has no `train`, so there is no training step", "use --mode infer")
    batch = batch or (plan.usual_rows if mode == "train" and plan is not None else 1)
    step = simulated_step(program, KINDS[mode], replace(options, batch=batch), threads)
    expect_room(step.program, [KINDS[mode]], step.options)
    run = Runs(step, mode, batch, weights)
    taken: dict[int, list[list[Step]]] = {count: [[] for _ in step.parts] for count in step.in_turns}
    at_once: list[list[Step]] = [[] for _ in step.parts]
    real: list[float] = []
    gc.collect()
    begin = time.perf_counter()
    while len(taken[1][0]) < _LEAST_ROUNDS * _STEPS or time.perf_counter() - begin < seconds:
        for count, executable in step.in_turns.items():
            run(executable, 1)
            step.take(count)
            run(executable, _STEPS)
            for part, found in zip(taken[count], step.take(count), strict=True):
                part += found
        if step.at_once is not None:
            run(step.at_once, 1)
            step.take(step.cores, in_turns=False)
            run(step.at_once, _STEPS)
            for part, found in zip(at_once, step.take(step.cores, in_turns=False), strict=True):
                part += found
        if step.real is not None:
            run(step.real, 1)
            real.append(run(step.real, _STEPS) / _STEPS)
        if time.perf_counter() - begin > 4 * seconds and taken[1][0]:
            break  # a large model: few rounds have to do
    measured = float(np.percentile(real, 25)) if real else None
    found = at_once if step.at_once is not None else []
    return simulation_of(step, taken, found, mode, barrier_us, bandwidth, measured)


def simulation_json(found: SimulationReport) -> dict[str, Any]:
    """The report as plain data, with the name of the processor."""
    return json.loads(json.dumps({**found.to_json(), "cpu": cpu_name()}))
