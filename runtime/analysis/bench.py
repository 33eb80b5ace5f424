"""The time of a training step or an inference on made-up data in memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from compiler import driver
from compiler.driver import Options, Program, Steps
from compiler.errors.diagnostics import UsageError
from compiler.support.record import record
from runtime.data.part import Part
from runtime.data.synthetic import synthetic
from runtime.inference.model import parameter_count, runtime_settings
from runtime.inference.precision import in_precision
from runtime.runs.position import Length
from runtime.support.memory import expect_room, peak_memory, seconds_since_start
from runtime.train.samples import at_epoch, numbered

_SAMPLE_SECONDS = 0.005  # shorter samples measure the clock
_LEAST_SAMPLES = 10
_SUPPOSED_STEPS = 10_000  # what `total_steps` is to a schedule


@record
class BenchReport:
    """Times are per step. `compile_s`: from text to code ready to run; `first_s`: process start to the end of the first
    step. `flops` counts one step; `gflops` is the rate at the median time. `machine` is what the code was made for,
    `processor` what it ran on: equal, unless another machine was chosen; `cpu` is LLVM's name of it, and `tuning` has
    the numbers that are not the usual ones. NumPy has none of these.
    """

    model: str
    mode: str
    batch: int
    threads: int
    machine: str | None
    processor: str | None
    cpu: str | None
    tuning: dict[str, float] | None
    parameters: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    steps: int
    compile_s: float
    first_s: float
    peak_rss_mb: float
    flops: int
    gflops: float


def bench(load: Callable[[], Program], mode: str, batch: int | None, options: Options, seconds: float) -> BenchReport:
    """Measure for about `seconds`. One batch is used again and again, so that data is as near as it can be.

    Mode `train` measures throughput: the steps of a sample are one call. Mode `infer` measures latency: each step is a
    call of its own.
    """
    begin = time.perf_counter()
    program = load()
    batch = batch or _usual_batch(program, mode)
    options = driver.options_of(program, replace(options, batch=batch))
    run_steps = (
        TrainingSteps(program, batch, options).run if mode == "train" else inference_steps(program, batch, options)
    )
    compile_seconds = time.perf_counter() - begin
    run_steps(1)
    first_seconds = seconds_since_start()
    samples, steps = _measure(run_steps, seconds)
    peak = peak_memory()
    low, median, high = (float(np.percentile(samples, percent)) for percent in (10, 50, 90))
    machine, processor, cpu = _machines(options)
    from compiler.inspection.plan import plan  # the whole compiler, which the start that was measured does without

    planned = plan(program, options)
    flops = planned.flops_step if mode == "train" else planned.flops_forward
    return BenchReport(
        model=program.model,
        mode=mode,
        batch=batch,
        threads=options.threads,
        machine=machine,
        processor=processor,
        cpu=cpu,
        tuning=options.tuning.changes if machine else None,
        parameters=parameter_count(program),
        median_ms=median * 1e3,
        p10_ms=low * 1e3,
        p90_ms=high * 1e3,
        steps=steps,
        compile_s=compile_seconds,
        first_s=first_seconds,
        peak_rss_mb=peak / 2**20,
        flops=flops,
        gflops=flops / median / 1e9,
    )


def _machines(options: Options) -> tuple[str | None, str | None, str | None]:
    """The names of the machine that code was made for and of that which ran it, and LLVM's name of the latter."""
    if options.target != "native":
        return None, None, None
    from compiler.targets.registry import kernel_target_of  # loads LLVM

    target = kernel_target_of(options)
    made_for, ran_on = target.machine(options), target.machine(replace(options, machine=None))
    return made_for.name, ran_on.name, ran_on.cpu


def _usual_batch(program: Program, mode: str) -> int:
    return program.plan.usual_rows if mode == "train" and program.plan is not None else 1


class TrainingSteps:
    """Training steps on one batch of made-up rows, from the start values of the plan's seed on."""

    def __init__(self, program: Program, batch: int, options: Options) -> None:
        plan = program.plan
        if plan is None:
            raise UsageError(f"{program.model} has no `train`, so there is no training step", "use --mode infer")
        driver.compile_ahead(program, ("initialisation", "training"), options)
        expect_room(program, ["training"], options)
        self._executable = driver.compile_training(program, options)
        self.tensors = driver.allocate(program, options)
        driver.initialise(program, self.tensors, plan.seed, options)
        self._rows = np.arange(batch, dtype=np.int64)
        part = in_precision(Part(synthetic(program.inputs, batch, plan.seed), self._rows), options.dtype)
        self._data = at_epoch(numbered(program, part).arrays, 0)
        self._settings = runtime_settings(program, Length(batch, batch, _SUPPOSED_STEPS))
        self._seed, self._done = plan.seed, 0

    def run(self, steps: int) -> None:
        """Make so many of them, in one call."""
        rows = np.tile(self._rows, steps)
        self._executable.run(
            Steps(self.tensors, self._data, rows, len(self._rows), self._done, self._seed, self._settings)
        )
        self._done += steps


def inference_steps(program: Program, batch: int, options: Options) -> Callable[[int], None]:
    """Makes so many predictions of one batch, each in a call of its own."""
    driver.compile_ahead(program, ("initialisation", "prediction"), options)
    expect_room(program, ["prediction"], options)
    executable = driver.compile_prediction(program, options)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    rows = np.arange(batch, dtype=np.int64)
    inputs = [spec for spec in program.inputs if not spec.is_target]
    data = in_precision(Part(synthetic(inputs, batch, 0), rows), options.dtype).arrays
    settings = runtime_settings(program)

    def run(steps: int) -> None:
        for _ in range(steps):
            executable.run(Steps(tensors, data, rows, batch, settings=settings))

    return run


def _measure(run_steps: Callable[[int], None], seconds: float) -> tuple[list[float], int]:
    per_sample = _warm_up(run_steps, seconds / 6)
    samples: list[float] = []
    gc.collect()
    begin = time.perf_counter()
    while len(samples) < _LEAST_SAMPLES or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run_steps(per_sample)
        samples.append((time.perf_counter() - start) / per_sample)
    return samples, per_sample * len(samples)


def _warm_up(run_steps: Callable[[int], None], seconds: float) -> int:
    """Run for `seconds`; how many steps make a sample long enough."""
    steps, per_step = 1, 0.0
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or per_step == 0.0:
        start = time.perf_counter()
        run_steps(steps)
        per_step = (time.perf_counter() - start) / steps
        steps = max(1, int(np.ceil(_SAMPLE_SECONDS / max(per_step, 1e-8))))
    return steps
