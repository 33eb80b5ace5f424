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

from compiler import driver
from compiler.driver import Options, Program
from compiler.errors.diagnostics import UsageError
from compiler.support.harmless import harmless
from runtime.analysis.profile import Profile, Weights, as_json, is_run, profile, simulate, simulation_json, weights_of
from runtime.analysis.profile_rows import BY, ProfileRecord, difference, saved_profile, trace_of
from runtime.cli.common import (
    add_compilation,
    add_json,
    add_settings,
    compile_options,
    dimensions_if_there,
    folder_of_imports,
    model_file,
    print_json,
)
from runtime.cli.parser import MOST_THREADS, Namespace, Parser, positive_number, whole_number
from runtime.reporting.profile_text import difference_text, profile_text
from runtime.reporting.simulation_text import simulation_text
from runtime.reporting.terminal import say, say_labelled, width_of_page
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
    add_settings(parser)
    parser.add_argument("--last", action="store_true", help="use the run's last weights instead of its best")
    parser.add_argument(
        "--mode",
        choices=["train", "infer"],
        default="train",
        help="run a training step, or the model alone (default: train)",
    )
    parser.add_argument(
        "--batch", type=whole_number(1), metavar="N", help="rows of a step (default: that of `train`; 1 for infer)"
    )
    parser.add_argument(
        "--seconds", type=positive_number, default=3.0, metavar="S", help="the duration of the measurement (default: 3)"
    )
    parser.add_argument("--by", choices=BY, help="divide the time by line, layer, kernel or op (default: line)")
    parser.add_argument("--top", type=whole_number(1), default=20, metavar="N", help="rows at most (default: 20)")
    parser.add_argument("--trace", metavar="OUT", help="write a step as a .json file for Perfetto or chrome://tracing")
    parser.add_argument("--plot", metavar="OUT", help="draw the roofline and the threads: a .png, .svg or .pdf file")
    parser.add_argument(
        "--diff", metavar="OTHER", help="compare with another file or run, or with a profile saved by --json"
    )
    parser.add_argument(
        "--simulate-threads",
        type=whole_number(1, MOST_THREADS),
        metavar="T",
        help="compute the time of T threads from their shares, measured on one thread",
    )
    parser.add_argument(
        "--barrier-us",
        type=positive_number,
        metavar="US",
        help="the time of a barrier of T threads (default: measured, or extrapolated from fewer threads)",
    )
    parser.add_argument(
        "--bandwidth",
        type=positive_number,
        metavar="GB/S",
        help="the memory's speed with T threads, which limits kernels beyond the caches (default: no limit)",
    )
    add_compilation(parser)
    add_json(parser)


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
    report = as_json(found)
    for note in found.report.notes:
        say_labelled("note", note)
    compared = None if before is None else difference(before, report, arguments.by)
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


def _before(arguments: Namespace) -> ProfileRecord | None:
    """The profile to compare with: saved, or measured now in the same way."""
    if arguments.diff is None:
        return None
    if Path(arguments.diff).suffix == ".json":
        return saved_profile(Path(arguments.diff))
    return as_json(_profile_of(arguments.diff, arguments))


def _simulated(arguments: Namespace) -> int:
    for name in ("trace", "plot", "diff", "threads"):
        if getattr(arguments, name):
            raise UsageError(f"--{name} does not go with --simulate-threads", "leave out one of them")
    if arguments.by not in (None, "kernel"):
        raise UsageError(f"--by {arguments.by} does not go with --simulate-threads", "threads share kernels")
    program, options, weights = _opened(arguments.file, arguments)
    found = simulate(
        program,
        arguments.mode,
        arguments.batch,
        replace(options, threads=1),
        arguments.simulate_threads,
        arguments.seconds,
        weights,
        arguments.barrier_us,
        arguments.bandwidth,
    )
    report = simulation_json(found)
    if arguments.json:
        print_json(report)
    else:
        print(simulation_text(report, arguments.top, width_of_page(sys.stdout)))
    return 0


def _profile_of(place: str, arguments: Namespace) -> Profile:
    program, options, weights = _opened(place, arguments)
    return profile(program, arguments.mode, arguments.batch, options, arguments.seconds, weights)


def _opened(place: str, arguments: Namespace) -> tuple[Program, Options, Weights | None]:
    """The program of a file or of a run, and the weights of a run."""
    options, overrides = compile_options(arguments, arguments.batch), tuple(arguments.settings)
    weights: Weights | None = None
    if is_run(Path(place)):
        if arguments.experiment is not None:
            raise UsageError("--experiment goes with a model file", "a run is of one experiment")
        trained = open_trained_run(Path(place), arguments.last, overrides, options)
        for note in trained.notes:
            say_labelled("note", note)
        program, options = trained.program, trained.options
        weights = weights_of(trained.tensors, program)
    else:
        if arguments.last:
            raise UsageError("--last goes with a run", "leave it out")
        if arguments.batch and arguments.mode == "train":
            overrides += (("batch", str(arguments.batch)),)
        within = folder_of_imports(arguments)
        program = driver.load(model_file(place), arguments.experiment, overrides, dimensions_if_there, within)
    return program, options, weights


def _write(found: Profile, report: ProfileRecord, arguments: Namespace) -> None:
    if arguments.trace is not None:
        path = Path(arguments.trace)
        write_output(path, json.dumps(trace_of(report, found.timeline), allow_nan=False).encode())
        say(f"trace in {harmless(str(path))}")
    if arguments.plot is not None:
        from runtime.plots.figure import (
            profile_figure,  # matplotlib is slow to import, and need not be there
            write_figure,
        )

        path = Path(arguments.plot)
        write_figure(profile_figure(report, found.timeline), path)
        say(f"plot in {harmless(str(path))}")
