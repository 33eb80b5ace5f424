"""Profile a step by line, layer, kernel or operation, with time stamps in the native code.

FILE is run on made-up data, as `dlc bench` does; a RUN with its text, its settings and its weights, on such data too.
Work counts two operations for a multiply-add of a product (a triangle has only its part) and one for an element of
other arithmetic, of a sum or of a maximum. Bytes are the least that any code would move: each element that a call of a
kernel reads or writes, once. A fused kernel's time is divided among its lines by bytes where moving them would take
longer than the operations, both at the most that the machine was measured to reach; else by operations. All times are
parts of a step: those of the threads added up, divided by their number. `of peak` and `of bandw.` are of what as many
threads reach while they work on the kernel; the bandwidth is that of the nearest cache that holds a call's bytes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from compiler.driver import Options, Program
from compiler.errors.diagnostics import UsageError
from compiler.support.harmless import harmless
from runtime.analysis import profile as profiles
from runtime.cli.common import (
    chosen_program,
    chosen_sampler,
    compile_options,
    dimensions_if_there,
    model_file,
    print_json,
)
from runtime.cli.parser import MOST_THREADS, Namespace, Parser
from runtime.reporting.profile_text import difference_text, profile_text, simulation_text
from runtime.reporting.terminal import say, say_notes, width_of_page
from runtime.runs.trained import open_trained_run
from runtime.support.files import write_output

EXAMPLES = (
    "dlc profile model.dl",
    "dlc profile model.dl --by kernel --top 10 --threads 1",
    "dlc profile model.dl --json > before.json",
    "dlc profile model.dl --simulate-threads 64",
    "dlc profile model.dl --set hidden=128 --diff before.json",
    "dlc profile runs/Digits-20260101-120000 --mode infer --trace trace.json --plot roofline.svg",
)
PICTURES = (".png", ".svg", ".pdf")


def configure(parser: Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="the model file (.dl), or the folder of a run")
    parser.add_settings()
    parser.add_last()
    parser.add_measurement()
    parser.add_option("--sampler", "NAME", "profile the 'sample NAME …' instead of a step")
    parser.add_argument(
        "--by", choices=profiles.BY, help="divide the time by line, layer, kernel or op (default: line)"
    )
    parser.add_whole("--top", "rows at most (default: 20)", default=20)
    parser.add_option("--trace", "OUT", "write a step as a .json file for Perfetto or chrome://tracing")
    parser.add_option("--plot", "OUT", "draw the roofline and the threads: a .png, .svg or .pdf file")
    parser.add_option("--diff", "OTHER", "compare with another file or run, or with a profile saved by --json")
    said = "compute the time of T threads from their shares, measured on one thread"
    parser.add_whole("--simulate-threads", said, most=MOST_THREADS, metavar="T")
    said = "the time of a barrier of T threads (default: measured, or extrapolated from fewer threads)"
    parser.add_positive("--barrier-us", "US", said)
    said = "the memory's speed with T threads, which limits kernels beyond the caches (default: no limit)"
    parser.add_positive("--bandwidth", "GB/S", said)
    parser.add_compilation()
    parser.add_json()


def run(arguments: Namespace) -> int:
    if arguments.simulate_threads is not None:
        return _simulated(arguments)
    for name in ("barrier_us", "bandwidth"):
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} goes with --simulate-threads", "leave it out")
    arguments.by = arguments.by or "line"
    _refuse_places(arguments)
    _refuse_endings(arguments)
    before = _before(arguments)
    found = _profile_of(arguments.file, arguments)
    report = profiles.as_json(found.report)
    say_notes(found.report.notes)
    compared = None if before is None else profiles.difference(before, report, arguments.by)
    if arguments.json:
        print_json(report if compared is None else {**report, "diff": compared})
    else:
        width = width_of_page(sys.stdout)
        print(profile_text(report, arguments.by, arguments.top, width))
        if compared is not None:
            print("\n" + difference_text(compared, arguments.by, arguments.top, width))
    _write(found, report, arguments)
    return 0


def _refuse_endings(arguments: Namespace) -> None:
    if arguments.trace is not None and Path(arguments.trace).suffix != ".json":
        raise UsageError(f"the format of {arguments.trace} is not known", "give a name that ends in .json")
    if arguments.plot is not None:
        if Path(arguments.plot).suffix not in PICTURES:
            raise UsageError(
                f"the format of {arguments.plot} is not known", f"give a name that ends in {', '.join(PICTURES)}"
            )
        from runtime.plots.figure import FORMATS  # told before anything is measured where matplotlib is missing

        assert FORMATS == PICTURES


def _refuse_places(arguments: Namespace) -> None:
    """Raise UsageError for a file that cannot be written because of its path, before anything is measured."""
    for place in filter(None, (arguments.trace, arguments.plot)):
        if Path(place).is_dir():
            raise UsageError(f"{place} is a folder", "name a file")
        if not Path(place).parent.is_dir():
            raise UsageError(f"there is no folder {Path(place).parent}", "make it first, or choose another place")


def _before(arguments: Namespace) -> profiles.ProfileRecord | None:
    """The profile to compare with: saved, or measured now in the same way."""
    if arguments.diff is None:
        return None
    if Path(arguments.diff).suffix == ".json":
        return profiles.saved_profile(Path(arguments.diff))
    return profiles.as_json(_profile_of(arguments.diff, arguments).report)


def _simulated(arguments: Namespace) -> int:
    for name in ("trace", "plot", "diff", "threads"):
        if getattr(arguments, name):
            raise UsageError(f"--{name} does not go with --simulate-threads", "leave out one of them")
    if arguments.by not in (None, "kernel"):
        raise UsageError(f"--by {arguments.by} does not go with --simulate-threads", "threads share kernels")
    program, options, weights = _opened(arguments.file, arguments)
    found = profiles.simulate(
        program,
        arguments.mode,
        arguments.batch,
        replace(options, threads=1),
        arguments.simulate_threads,
        arguments.seconds,
        weights,
        arguments.barrier_us,
        arguments.bandwidth,
        chosen_sampler(program, arguments.sampler),
    )
    report = profiles.as_json(found)
    if arguments.json:
        print_json(report)
    else:
        print(simulation_text(report, arguments.top, width_of_page(sys.stdout)))
    return 0


def _profile_of(place: str, arguments: Namespace) -> profiles.Profile:
    program, options, weights = _opened(place, arguments)
    sampler = chosen_sampler(program, arguments.sampler)
    return profiles.profile(program, arguments.mode, arguments.batch, options, arguments.seconds, weights, sampler)


def _opened(place: str, arguments: Namespace) -> tuple[Program, Options, profiles.Weights | None]:
    """The program of a file or of a run, and the weights of a run."""
    options, overrides = compile_options(arguments, arguments.batch), tuple(arguments.settings)
    weights: profiles.Weights | None = None
    if profiles.is_run(Path(place)):
        if arguments.experiment is not None:
            raise UsageError("--experiment goes with a model file", "a run is of one experiment")
        trained = open_trained_run(Path(place), arguments.last, overrides, options)
        say_notes(trained.notes)
        program, options = trained.program, trained.options
        weights = profiles.weights_of(trained.tensors, program)
    else:
        if arguments.last:
            raise UsageError("--last goes with a run", "leave it out")
        if arguments.batch and arguments.mode == "train" and arguments.sampler is None:
            overrides += (("batch", str(arguments.batch)),)
        program = chosen_program(arguments, dimensions_if_there, model_file(place), overrides)
    return program, options, weights


def _write(found: profiles.Profile, report: profiles.ProfileRecord, arguments: Namespace) -> None:
    if arguments.trace is not None:
        path = Path(arguments.trace)
        write_output(path, json.dumps(profiles.trace_of(report, found.timeline), allow_nan=False).encode())
        say(f"trace in {harmless(str(path))}")
    if arguments.plot is not None:
        from runtime.plots.figure import profile_figure, write_figure  # slow to import, and need not be there

        path = Path(arguments.plot)
        write_figure(profile_figure(report, found.timeline), path)
        say(f"plot in {harmless(str(path))}")
