"""Find a learning rate: train for some hundred steps while the rate grows, and report where the loss falls fastest.

The rate grows exponentially and takes the place of the schedule. Nothing is saved. --plot draws the test and, below it,
the schedule of the training. With --schedule, nothing is trained: only the rates are shown as the schedule gives them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compiler import driver
from compiler.errors.diagnostics import SourceError, UsageError
from runtime.analysis.rate_range import RateRange, RateSchedule, rate_range, rate_schedule
from runtime.cli.common import chosen_program, compile_options, print_json
from runtime.cli.parser import Namespace, Parser
from runtime.data.dimensions import dimensions_of
from runtime.inference.model import training_of, weight_names
from runtime.reporting.terminal import say, say_notes, width_of
from runtime.reporting.units import measure
from runtime.support.files import finite
from runtime.train.jobs import DataParts, compile_ahead, first_tensors, job_of, load_data
from runtime.train.keepers import MemoryKeeper

if TYPE_CHECKING:
    from runtime.plots.figure import Figure

EXAMPLES = (
    "dlc lr model.dl",
    "dlc lr model.dl --from 1e-5 --to 1 --steps 300 --plot range.png",
    "dlc lr model.dl --schedule --plot",
)
_LINES, _BAR = 24, 40


def configure(parser: Parser) -> None:
    parser.add_program()
    parser.add_option("--data", "PATH", "train on this data instead of the file's own", type=Path)
    parser.add_flag("--schedule", "show the rates of the training; train nothing")
    parser.add_positive("--from", "RATE", "the first rate (default: 1e-6)", default=1e-6, dest="low")
    parser.add_positive("--to", "RATE", "the last rate (default: 10)", default=10.0, dest="high")
    parser.add_whole("--steps", "steps at most (default: %(default)s)", least=3, default=300)
    said = "write a figure, .png, .svg or .pdf (default: FILE-lr.svg or FILE-schedule.svg)"
    parser.add_option("--plot", "OUT", said, nargs="?", const="")
    parser.add_compilation()
    parser.add_json()


def run(arguments: Namespace) -> int:
    if arguments.low >= arguments.high:
        raise UsageError(f"--from {arguments.low:g} is not below --to {arguments.high:g}", "the rate grows")
    if arguments.schedule:
        _show_schedule(_schedule(arguments), arguments)
    else:
        _show_range(_range(arguments), arguments)
    return 0


def _range(arguments: Namespace) -> RateRange:
    # A schedule would bend the growth of the rate, and its settings ask for nothing then.
    overrides = tuple((key, value) for key, value in arguments.settings if key.split(".")[0] != "schedule")
    asked = dimensions_of(arguments.data)
    try:
        program = chosen_program(arguments, asked, overrides=(*overrides, ("schedule", "constant")))
    except SourceError:
        # of a bare model, this says that it has no `train`
        if training_of(chosen_program(arguments, asked, overrides=overrides)).updates:
            message = "a range of rates is judged by one loss, and this `train` has several updates"
            raise UsageError(message, "try rates with `dlc sweep` and a metric") from None
        raise
    plan = training_of(program)
    if plan.epochs is None and plan.steps is None:  # the test says itself how long it is
        program = replace(program, plan=replace(plan, steps=arguments.steps))
    options = driver.options_of(program, compile_options(arguments, plan.batch))
    program = driver.with_wide_inputs(program, options)
    data = load_data(program, arguments.data)
    say_notes(data.notes)
    parts = DataParts(data.train)
    compile_ahead(program, parts, options)
    tensors = first_tensors(program, options)
    job = job_of(program, parts, tensors, options, MemoryKeeper(tensors, weight_names(program)))
    return rate_range(program, job, arguments.low, arguments.high, arguments.steps)


def _schedule(arguments: Namespace) -> RateSchedule:
    program = chosen_program(arguments, dimensions_of(arguments.data))
    data = load_data(program, arguments.data)
    return rate_schedule(program, len(data.train.rows), driver.options_of(program, compile_options(arguments)))


def _show_range(found: RateRange, arguments: Namespace) -> None:
    if arguments.plot is not None:
        from runtime.plots.figure import range_figure  # matplotlib is slow to import, and need not be there

        schedule = None
        with suppress(UsageError):  # where nothing says how long to train
            schedule = _schedule(arguments)
        _write(range_figure(found, schedule), arguments, "lr")
    if arguments.json:
        losses = {"losses": [*map(finite, found.losses)], "smoothed": [*map(finite, found.smoothed)]}
        print_json({**asdict(found), **losses, "suggestion": found.suggestion})
        return
    # Losses after a divergence would flatten all bars before it.
    _print_bars(found.setting, "smoothed loss", found.rates, found.smoothed, 2 * abs(found.smoothed[0]))
    if found.divergence is not None:
        say(f"training fell apart at a rate of {found.divergence:.2g}")
    if found.steepest is not None:
        say(f"the loss falls fastest at a rate of {found.steepest:.2g}")
    if found.suggestion is None:
        say("the loss never fell: try other rates with --from and --to, or look at the model")
    else:
        say(f"suggestion: --set {found.setting}={found.suggestion:.1g}")


def _show_schedule(found: RateSchedule, arguments: Namespace) -> None:
    if arguments.plot is not None:
        from runtime.plots.figure import schedule_figure  # matplotlib is slow to import, and need not be there

        _write(schedule_figure(found), arguments, "schedule")
    if arguments.json:
        print_json(asdict(found))
    else:
        _print_bars("step", found.setting, found.steps, found.rates, math.inf)


def _print_bars(across: str, up: str, places: Sequence[float], values: Sequence[float], limit: float) -> None:
    """Some of the points as lines with a bar each, the longest for the largest value and for those above `limit`."""
    chosen = sorted({round(i * (len(places) - 1) / (_LINES - 1)) for i in range(_LINES)})
    finite = [values[i] for i in chosen if math.isfinite(values[i])]
    top = min(max(finite, default=1.0), limit or math.inf)
    bar = min(_BAR, (width_of(sys.stdout) or math.inf) - 26)
    print(f"{across:>12}  {up}")
    for i in chosen:
        share = values[i] / top if math.isfinite(values[i]) and top > 0 else 1.0
        place = f"{places[i]:.3g}" if isinstance(places[i], float) else str(places[i])
        print(f"{place:>12}  {measure(values[i]):>10}  {'█' * round(bar * min(max(share, 0.0), 1.0))}")


def _write(figure: Figure, arguments: Namespace, what: str) -> None:
    from runtime.plots.figure import write_figure  # see above

    path = Path(arguments.plot or f"{Path(arguments.file).stem}-{what}.svg")
    write_figure(figure, path)
    say(f"plot in {path}")
