"""Time training steps or inference on made-up data in memory."""

from __future__ import annotations

import dataclasses
import sys

from compiler.tuning import described
from runtime.analysis.bench import BenchReport, bench
from runtime.cli.common import chosen_program, compile_options, dimensions_if_there, model_file, print_json
from runtime.cli.parser import Namespace, Parser
from runtime.reporting.tables import Column, laid_out
from runtime.reporting.terminal import width_of
from runtime.reporting.units import amount

EXAMPLES = (
    "dlc bench model.dl --mode train --threads 2",
    "dlc bench model.dl --mode infer --batch 32 --json",
    "dlc bench model.dl --mode train --set optimizer.lr=1e-6",
    "dlc bench model.dl --machine avx2",
)


def configure(parser: Parser) -> None:
    parser.add_program()
    parser.add_measurement()
    parser.add_compilation()
    parser.add_json()


def run(arguments: Namespace) -> int:
    file = model_file(arguments.file)
    overrides = tuple(arguments.settings)
    if arguments.batch and arguments.mode == "train":
        overrides += (("batch", str(arguments.batch)),)
    report = bench(
        lambda: chosen_program(arguments, dimensions_if_there, file, overrides),
        arguments.mode,
        arguments.batch,
        compile_options(arguments, arguments.batch),
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
    chosen = "" if report.machine == report.processor else f", chosen; the processor has {report.processor}"
    return f"{report.machine} ({report.cpu}){chosen}; {described(report.tuning or {})}"


def _as_text(report: BenchReport) -> str:
    rows = (
        ("model", f"{report.model}, {report.parameters} parameters"),
        ("mode", f"{report.mode}, batch {report.batch}, {report.threads} threads"),
        ("code for", _machine(report)),
        ("time of a step", f"{report.median_ms:.4g} ms (10 % {report.p10_ms:.4g}, 90 % {report.p90_ms:.4g})"),
        ("samples", f"{amount(report.batch / report.median_ms * 1e3)}/s over {report.steps} steps"),
        ("work", f"{amount(report.flops, 'FLOP')} a step, {report.gflops:.4g} GFLOP/s"),
        ("compiled in", f"{report.compile_s:.3g} s; first step done {report.first_s:.3g} s after the start"),
        ("peak memory", f"{report.peak_rss_mb:.4g} MB"),
    )
    names = Column("", [name for name, _ in rows], is_text=True)
    values = Column("", [value for _, value in rows], is_text=True, least=20, wraps=True)
    return "\n".join(laid_out([names, values], width_of(sys.stdout))[1:])
