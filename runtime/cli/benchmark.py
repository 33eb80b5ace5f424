"""Time training steps or inference on made-up data in memory."""

from __future__ import annotations

import dataclasses
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from compiler import driver
from compiler.driver import Options, Program
from compiler.support.record import record
from compiler.targets.registry import device_of, expect_times
from compiler.tuning import described
from runtime.analysis.made_up_steps import CompiledSteps, usual_batch
from runtime.cli.common import chosen_program, compile_options, dimensions_if_there, model_file, print_json
from runtime.cli.parser import Namespace, Parser
from runtime.inference.model import parameter_count
from runtime.reporting.tables import Column, laid_out
from runtime.reporting.terminal import width_of
from runtime.reporting.units import amount
from runtime.support.memory import peak_memory, seconds_since_start

EXAMPLES = (
    "dlc bench model.dl --mode train --threads 2",
    "dlc bench model.dl --mode infer --batch 32 --json",
    "dlc bench model.dl --mode train --set optimizer.lr=1e-6",
    "dlc bench model.dl --target avx2",
)


def configure(parser: Parser) -> None:
    parser.add_program()
    parser.add_measurement()
    parser.add_compilation()
    parser.add_json()


def run(arguments: Namespace) -> int:
    file = model_file(arguments.file)
    overrides = tuple(arguments.settings)
    options = compile_options(arguments, arguments.batch)
    expect_times(options)
    if arguments.batch and arguments.mode == "train":
        overrides += (("batch", str(arguments.batch)),)
    report = bench(
        lambda: chosen_program(arguments, dimensions_if_there, file, overrides),
        arguments.mode,
        arguments.batch,
        options,
        arguments.seconds,
    )
    if arguments.json:
        numbers = dataclasses.asdict(report).items()
        print_json({name: float(f"{v:.6g}") if isinstance(v, float) else v for name, v in numbers})
    else:
        print(_as_text(report))
    return 0


def _machine(report: BenchReport) -> str:
    if report.machine is None:
        return "NumPy"
    if report.device is not None:
        return report.device
    chosen = "" if report.machine == report.processor else f", chosen; the processor has {report.processor}"
    return f"{report.machine} ({report.cpu}){chosen}; {described(report.tuning or {})}"


def _as_text(report: BenchReport) -> str:
    threads = "" if report.device is not None else f", {report.threads} threads"
    rows = (
        ("model", f"{report.model}, {report.parameters} parameters"),
        ("mode", f"{report.mode}, batch {report.batch}{threads}"),
        ("computes in", report.precision),
        ("code for", _machine(report)),
        ("time of a step", f"{report.median_ms:.4g} ms (10 % {report.p10_ms:.4g}, 90 % {report.p90_ms:.4g})"),
        ("samples", f"{amount(report.batch / report.median_ms * 1e3)}/s over {report.steps} steps"),
        ("work", f"{amount(report.flops, 'FLOP')} a step, {report.gflops:.4g} GFLOP/s"),
        ("compiled in", f"{report.compile_s:.3g} s; first step done {report.first_s:.3g} s after the start"),
        *(() if report.device is None else (("device memory", f"{report.device_mb:.4g} MB"),)),
        ("peak memory", "unknown" if report.peak_rss_mb is None else f"{report.peak_rss_mb:.4g} MB"),
    )
    names = Column("", [name for name, _ in rows], is_text=True)
    values = Column("", [value for _, value in rows], is_text=True, least=20, wraps=True)
    return "\n".join(laid_out([names, values], width_of(sys.stdout))[1:])


_SAMPLE_SECONDS = 0.005  # shorter samples measure the clock
_LEAST_SAMPLES = 10


@record
class BenchReport:
    """Times are per step. `compile_s`: from text to code ready to run; `first_s`: process start to the end of the first
    step. `flops` counts one step; `gflops` is the rate at the median time. `machine` is what the code was made for,
    `processor` what it ran on: equal, unless another machine was chosen; `cpu` is LLVM's name of it, and `tuning` has
    the numbers that are not the usual ones. NumPy has none of these. `precision` is the type of the numbers, and of
    the products where theirs is another. `device` is the name of a GPU, and `device_mb`
    what it holds of this process.
    """

    model: str
    mode: str
    batch: int
    threads: int
    precision: str
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
    peak_rss_mb: float | None
    flops: int
    gflops: float
    device: str | None = None
    device_mb: float | None = None


def bench(load: Callable[[], Program], mode: str, batch: int | None, options: Options, seconds: float) -> BenchReport:
    """Measure for about `seconds`. One batch is used again and again, so that data is as near as it can be.

    Mode `train` measures throughput: the steps of a sample are one call. Mode `infer` measures latency: each step is a
    call of its own.
    """
    begin = time.perf_counter()
    program = load()
    options = driver.options_of(program, replace(options, batch=batch or usual_batch(program, mode)))
    run_steps = CompiledSteps(program, mode, options.batch, options)
    compile_seconds = time.perf_counter() - begin
    run_steps(1)
    first_seconds = seconds_since_start()
    samples, steps = _measure(run_steps, seconds)
    peak, device = peak_memory(), device_of(options)
    low, median, high = (float(np.percentile(samples, percent)) for percent in (10, 50, 90))
    machine, processor, cpu = _machines(options)
    from compiler.inspection.plan import plan  # the whole compiler, which the start that was measured does without

    planned = plan(program, options)
    flops = planned.flops_step if mode == "train" else planned.flops_forward
    return BenchReport(
        model=program.model,
        mode=mode,
        batch=options.batch,
        threads=options.threads,
        precision=driver.with_products(program, driver.STEP_OF_MODE[mode], options).arithmetic,
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
        peak_rss_mb=None if peak is None else peak / 2**20,
        flops=flops,
        gflops=flops / median / 1e9,
        device=None if device is None else device.name,
        device_mb=None if device is None else device.held_bytes / 2**20,
    )


def _machines(options: Options) -> tuple[str | None, str | None, str | None]:
    """The names of the machine that code was made for and of that which ran it, and LLVM's name of the latter."""
    from compiler.targets.registry import KERNEL_TARGETS, kernel_target_of  # loads LLVM

    if options.target not in KERNEL_TARGETS:
        return None, None, None
    target = kernel_target_of(options)
    made_for, ran_on = target.machine(options), target.machine(replace(options, machine=None))
    return made_for.name, ran_on.name, ran_on.cpu


def _measure(run_steps: CompiledSteps, seconds: float) -> tuple[list[float], int]:
    per_sample = _warm_up(run_steps, seconds / 6)
    samples: list[float] = []
    gc.collect()
    begin = time.perf_counter()
    while len(samples) < _LEAST_SAMPLES or time.perf_counter() - begin < seconds:
        samples.append(run_steps(per_sample) / per_sample)
    return samples, per_sample * len(samples)


def _warm_up(run_steps: CompiledSteps, seconds: float) -> int:
    """Run for `seconds`; how many steps make a sample long enough."""
    steps, per_step = 1, 0.0
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or per_step == 0.0:
        per_step = run_steps(steps) / steps
        steps = max(1, int(np.ceil(_SAMPLE_SECONDS / max(per_step, 1e-8))))
    return steps
