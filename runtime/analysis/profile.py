"""A step is measured with stamps and without, in turn, on made-up data in memory."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler import driver
from compiler.driver import Array, Options, Program, Steps
from compiler.errors.diagnostics import UsageError
from compiler.profiling.account import report_of, timeline_of
from compiler.profiling.report import Measured, ProfileReport, TimelineSpan
from compiler.profiling.simulation import SimulatedStep, SimulationReport, simulated_step, simulation_of
from compiler.profiling.step import ProfiledStep, profiled_step
from compiler.support.record import record
from runtime.data.part import Part
from runtime.data.synthetic import synthetic
from runtime.inference.model import runtime_settings
from runtime.inference.precision import in_precision
from runtime.runs.environment import cpu_name
from runtime.runs.position import Length
from runtime.support.memory import expect_room
from runtime.train.samples import at_epoch, numbered

if TYPE_CHECKING:
    from compiler.targets.recording import Recording, Step

_SAMPLE_SECONDS = 0.015
_LEAST_SAMPLES = 5
_SUPPOSED_STEPS = 10_000  # what `total_steps` is to a schedule
KINDS = {"train": "training", "infer": "prediction"}

Weights = Mapping[str, Array]


@record(eq=False)
class Profile:
    """The report of a step, and what each thread did in one of median time."""

    report: ProfileReport
    timeline: tuple[TimelineSpan, ...]


def profile(
    program: Program, mode: str, batch: int | None, options: Options, seconds: float, weights: Weights | None = None
) -> Profile:
    """Measure for about `seconds`, with the values of `weights` in place of first ones. Raises UsageError.

    As in `dlc bench`, training steps are made many in a call, and each inference is a call of its own.
    """
    plan = program.plan
    if mode == "train" and plan is None:
        raise UsageError(f"{program.model} has no `train`, so there is no training step", "use --mode infer")
    batch = batch or (plan.usual_rows if mode == "train" and plan is not None else 1)
    step = profiled_step(program, KINDS[mode], replace(options, batch=batch))
    expect_room(step.program, [KINDS[mode]], step.options)
    run = Runs(step, mode, batch, weights)
    measured, taken = _measure(step, run, seconds)
    return Profile(
        report_of(step, taken, measured, mode),
        timeline_of(step, taken),
    )


class Runs:
    """Makes steps with any executable of a step, one after the other on the same tensors and data."""

    def __init__(self, step: ProfiledStep | SimulatedStep, mode: str, batch: int, weights: Weights | None) -> None:
        program, options = step.program, step.options
        self._mode, self._batch, self._done = mode, batch, 0
        self._seed = 0 if program.plan is None else program.plan.seed
        self._tensors = driver.allocate(program, options)
        driver.initialise(program, self._tensors, self._seed, options)
        for name, values in (weights or {}).items():
            self._tensors.write(name, values)
        self._rows = np.arange(batch, dtype=np.int64)
        self._repeated: dict[int, Array] = {1: self._rows}
        if mode == "train":
            made = Part(synthetic(program.inputs, batch, self._seed), self._rows)
            self._data = at_epoch(numbered(program, in_precision(made, options.dtype)).arrays, 0)
            self._settings = runtime_settings(program, Length(batch, batch, _SUPPOSED_STEPS))
        else:
            inputs = [spec for spec in program.inputs if not spec.is_target]
            self._data = in_precision(Part(synthetic(inputs, batch, 0), self._rows), options.dtype).arrays
            self._settings = runtime_settings(program)

    def __call__(self, executable: driver.Executable, steps: int) -> float:
        """The seconds of so many steps."""
        calls, each = (1, steps) if self._mode == "train" else (steps, 1)
        rows = self._repeated.setdefault(each, np.tile(self._rows, each))
        start = time.perf_counter()
        for _ in range(calls):
            executable.run(Steps(self._tensors, self._data, rows, self._batch, self._done, self._seed, self._settings))
        self._done += steps
        return time.perf_counter() - start


def _measure(step: ProfiledStep, run: Runs, seconds: float) -> tuple[Measured, list[list[Recording]]]:
    """Samples of both executables in turn, each after a step that fills the caches and the workspace for it."""
    per_sample = _warm_up(step, run, seconds / 6)
    plain: list[float] = []
    walls: list[float] = []
    outside: list[float] = []
    taken: list[list[Recording]] = [[] for _ in step.parts]
    gc.collect()
    begin = time.perf_counter()
    while len(plain) < _LEAST_SAMPLES or time.perf_counter() - begin < seconds:
        # whichever comes first finds caches that Python has used, so each does in turn
        for executable in (step.plain, step.stamped) if len(plain) % 2 else (step.stamped, step.plain):
            run(executable, 1)
            spent = run(executable, per_sample)
            if executable is step.plain:
                plain.append(spent / per_sample)
        found = [recordings[1:] for recordings in step.take()]  # the step that fills the caches calls each part once
        walls.append(sum(r.wall_ns for part in found for r in part) * 1e-9 / per_sample)
        outside.append(_outside(found) / per_sample)
        for part, recordings in zip(taken, found, strict=True):
            part += recordings
    # a sample is compared with the one beside it: what else runs on the machine then slows both
    ratios = [stamped / without for stamped, without in zip(walls, plain, strict=True)]
    return Measured(_middle(plain), _middle(ratios) - 1, max(0.0, _middle(outside))), taken


def _outside(found: list[list[Recording]]) -> float:
    """The seconds of calls that no step covers."""
    every = [recording for part in found for recording in part]
    if any(len(recording.steps) < recording.made for recording in every):
        every = [recording for recording in every if len(recording.steps) == recording.made]
    return sum(r.wall_ns - sum(s.nanoseconds for s in r.steps) for r in every) * 1e-9


def _middle(samples: list[float]) -> float:
    """The mean of the middle half."""
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    return float(np.mean(ordered[quarter : len(ordered) - quarter]))


def _warm_up(step: ProfiledStep, run: Runs, seconds: float) -> int:
    """Run both for a while; how many steps make a sample that is long enough and for whose events there is room."""
    run(step.stamped, 1)
    events = step.most_events(step.take())
    steps = 1
    begin = time.perf_counter()
    while True:
        each = run(step.plain, steps) / steps
        wanted = max(2, int(np.ceil(_SAMPLE_SECONDS / max(each, 1e-8))))  # a single step is not gathered from the data
        steps = max(1, min(wanted, step.room // (2 * events)))
        if time.perf_counter() - begin >= seconds:
            return steps


def weights_of(tensors: driver.Tensors, program: Program) -> Weights:
    """Copies of the parameters and states of a model."""
    return {spec.path: np.array(tensors[spec.path]) for spec in program.parameters}


def is_run(path: Path) -> bool:
    """Whether a path names a run rather than a model file."""
    return (path / "run.json").is_file()


def as_json(found: Profile) -> dict[str, Any]:
    """The report as plain data, with the name of the processor. A setting that is no finite number becomes a text."""
    return json.loads(json.dumps({**found.report.to_json(), "cpu": cpu_name()}), parse_constant=str)


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
