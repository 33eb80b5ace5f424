"""Find a learning rate: train for some hundred steps while the rate grows, and report where the loss falls fastest.

The rate grows exponentially and takes the place of the schedule. Nothing is saved. --plot draws the test and, below it,
the schedule of the training. With --schedule, nothing is trained: only the rates are shown as the schedule gives them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compiler import driver
from compiler.errors.diagnostics import SourceError, UsageError
from runtime.analysis.rate_range import RateRange, RateSchedule, rate_range, rate_schedule
from runtime.cli.common import (
    add_compilation,
    add_json,
    add_program,
    compile_options,
    folder_of_imports,
    model_file,
    print_json,
)
from runtime.cli.parser import Namespace, Parser, positive_number, whole_number
from runtime.data.dimensions import dimensions_of
from runtime.inference.model import training_of, weight_names
from runtime.reporting.terminal import say, say_labelled, width_of
from runtime.reporting.units import measure
from runtime.train.jobs import DataParts, compile_ahead, fresh_tensors, job_of, load_data
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
    add_program(parser)
    parser.add_argument("--data", metavar="PATH", help="train on this data instead of the file's own")
    parser.add_argument("--schedule", action="store_true", help="show the rates of the training; train nothing")
    parser.add_argument(
        "--from", dest="low", type=positive_number, default=1e-6, metavar="RATE", help="the first rate (default: 1e-6)"
    )
    parser.add_argument(
        "--to", dest="high", type=positive_number, default=10.0, metavar="RATE", help="the last rate (default: 10)"
    )
    parser.add_argument(
        "--steps", type=whole_number(3), default=300, metavar="N", help="steps at most (default: %(default)s)"
    )
    parser.add_argument(
        "--plot",
        nargs="?",
        const="",
        metavar="OUT",
        help="write a figure, .png, .svg or .pdf (default: FILE-lr.svg or FILE-schedule.svg)",
    )
    add_compilation(parser)
    add_json(parser)


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
    overrides = [(key, value) for key, value in arguments.settings if key.split(".")[0] != "schedule"]
    try:
        program = _loaded(arguments, [*overrides, ("schedule", "constant")])
    except SourceError:
        training_of(_loaded(arguments, overrides))  # of a bare model, this says that it has no `train`
        raise
    plan = training_of(program)
    if plan.epochs is None and plan.steps is None:  # the test says itself how long it is
        program = replace(program, plan=replace(plan, steps=arguments.steps))
    data = load_data(program, _data_path(arguments))
    for note in data.notes:
        say_labelled("note", note)
    options = driver.options_of(program, compile_options(arguments, plan.batch))
    parts = DataParts(data.train)
    compile_ahead(program, parts, options)
    tensors = fresh_tensors(program, options)
    job = job_of(program, parts, tensors, options, MemoryKeeper(tensors, weight_names(program)))
    return rate_range(program, job, arguments.low, arguments.high, arguments.steps)


def _loaded(arguments: Namespace, overrides: Sequence[tuple[str, str]]) -> driver.Program:
    return driver.load(
        model_file(arguments.file),
        arguments.experiment,
        tuple(overrides),
        dimensions_of(_data_path(arguments)),
        folder_of_imports(arguments),
    )


def _schedule(arguments: Namespace) -> RateSchedule:
    program = _loaded(arguments, arguments.settings)
    data = load_data(program, _data_path(arguments))
    return rate_schedule(program, len(data.train.rows), driver.options_of(program, compile_options(arguments)))


def _schedule_if_any(arguments: Namespace) -> RateSchedule | None:
    """None where nothing says how long to train."""
    try:
        return _schedule(arguments)
    except UsageError:
        return None


def _show_range(found: RateRange, arguments: Namespace) -> None:
    if arguments.plot is not None:
        from runtime.plots.figure import range_figure  # matplotlib is slow to import, and need not be there

        _write(range_figure(found, _schedule_if_any(arguments)), arguments, "lr")
    if arguments.json:
        print_json(
            {
                "setting": found.setting,
                "rates": found.rates,
                "losses": _finite(found.losses),
                "smoothed": _finite(found.smoothed),
                "steepest": found.steepest,
                "divergence": found.divergence,
                "suggestion": found.suggestion,
            }
        )
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
        print_json(
            {
                "setting": found.setting,
                "total_steps": found.total_steps,
                "steps_per_epoch": found.steps_per_epoch,
                "steps": found.steps,
                "rates": found.rates,
            }
        )
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


def _data_path(arguments: Namespace) -> Path | None:
    return None if arguments.data is None else Path(arguments.data)


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
