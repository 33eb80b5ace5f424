"""Events of a training as text: one line for each epoch, and a bar for the running epoch on a terminal.

On a terminal, epochs are rows of a table as wide as it is. In a pipe or a file each names its values, and at least
every ten seconds a line says how far the training is.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import assert_never

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from compiler.driver import Setting
from compiler.errors.diagnostics import wrapped
from compiler.errors.suggestions import counted
from compiler.support.harmless import harmless_lines
from compiler.support.record import record
from runtime.reporting.tables import GAP, Column, print_table, rows_laid_out, wrapped_parts
from runtime.reporting.terminal import say, say_labelled, unfiltered, wants_colour, width_of
from runtime.reporting.units import amount, duration, measure, value_text
from runtime.train.events import (
    EpochEnded,
    Event,
    NonfiniteMet,
    TrainingEnded,
    TrainingPaused,
    TrainingProgressed,
    TrainingStarted,
)
from runtime.train.watching import Sight

# Thousands of short epochs would flood the screen: above this many, lines come at most so often.
_EPOCHS_WITH_A_LINE_EACH = 100
_SECONDS_BETWEEN_LINES = 0.2
_WAITED, _SECONDS_WAITED = 0.05, 1.0  # the share of the time of all steps, and the time, from which on it is told
# Columns of the line of progress.
_GAP, _SHORTEST_BAR, _LONGEST_BAR = 2, 6, 16
_HANGING = "  "


class HarmlessConsole(Console):
    """Shows text of others without characters that could steer the terminal; only rich's own do."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else harmless_lines(text), style, control)


class TextReporter:
    """Writes to standard error. Colours and the bar only where standard error is a terminal."""

    def __init__(self) -> None:
        colour = wants_colour(sys.stderr)
        self._console = HarmlessConsole(
            file=unfiltered(sys.stderr), no_color=not colour, highlight=False, markup=False, soft_wrap=True
        )
        self._live: Live | None = None
        self._started: TrainingStarted | None = None
        self._table: EpochTable | None = None
        self._last_line, self._last_epoch = time.monotonic(), 0.0
        self._held_back: EpochEnded | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case TrainingStarted():
                self._start(event)
            case TrainingProgressed():
                self._progress(event)
            case EpochEnded():
                self._epoch(event)
            case NonfiniteMet():
                self._nonfinite(event)
            case TrainingPaused():
                self._print(
                    f"paused by the page at step {event.step}; `Go on` there, or Ctrl-C here to save and end"
                    if event.is_paused
                    else f"going on from step {event.step}"
                )
            case TrainingEnded():
                self._end(event)
            case _:
                assert_never(event)

    def close(self) -> None:
        """Take the bar off the screen; also after a failure."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _start(self, event: TrainingStarted) -> None:
        self._started = event
        self._console.print(settings_text(event.settings, self._width()))
        rows = ", ".join(f"{count} to {_PURPOSES[part]}" for part, count in event.rows.items() if count)
        self._print(f"{event.model}: {event.parameters} parameters; rows: {rows}")
        if event.step:
            self._print(f"resumed at step {event.step} of {event.total_steps}")
        if self._width() is not None and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def _progress(self, event: TrainingProgressed) -> None:
        if self._started is None:
            return
        width = self._width()
        if self._live is not None and width is not None:
            self._console.width = width
            self._live.update(progress_row(self._started, event, width), refresh=True)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_SIGNS:
            self._print("  ".join(progress_parts(self._started, event)))

    def _epoch(self, event: EpochEnded) -> None:
        now = time.monotonic()
        many = self._started is not None and self._started.epochs > _EPOCHS_WITH_A_LINE_EACH
        if many and now - self._last_epoch < _SECONDS_BETWEEN_LINES:
            self._held_back = event
            return
        self._last_epoch = now
        self._print_epoch(event)

    def _print_epoch(self, event: EpochEnded) -> None:
        self._held_back = None
        started, width = self._started, self._width()
        if started is None or width is None:
            line = Text("  ".join(epoch_parts(started, event)))
        else:
            self._print_header(epoch_table(started, event, width))
            assert self._table is not None
            line = Text(self._table.row(event))
        if event.is_best:
            line.append("  best", style="green")
        self._show(line)

    def _print_header(self, table: EpochTable) -> None:
        """Once, and again where the terminal or the measured values have changed."""
        if table == self._table:
            return
        self._table = table
        if table.left_out:
            self._print(f"(no room for {', '.join(table.left_out)}: they are saved with the run)")
        for line in table.header():
            self._show(Text(line, style="bold"))

    def _nonfinite(self, event: NonfiniteMet) -> None:
        what = "the step is skipped" if event.action == "skip" else "training goes on"
        self._print(f"step {event.step} (epoch {event.epoch}): `{event.output}` is not finite; {what}")
        for line in event.text.splitlines():
            self._print(f"  {line}", hanging="    ")

    def _end(self, event: TrainingEnded) -> None:
        if self._held_back is not None:
            self._print_epoch(self._held_back)
        self.close()
        best = f"; best epoch {event.best_epoch}" if event.best_epoch else ""
        epochs, seconds = counted(event.epochs, "epoch"), duration(event.seconds)
        self._print(f"{event.reason} after {event.step} steps, {epochs}, {seconds}{best}")
        if event.test:
            for line in wrapped_parts(f"test: {scalars_text(event.test)}", self._width(), _HANGING):
                self._show(Text(line, style="bold"))
        if event.waited is not None and event.waited >= _WAITED and event.waited * event.seconds >= _SECONDS_WAITED:
            told = f"rows were waited for {event.waited:.0%} of the time: the disk gives fewer than the training takes"
            self._print(told)
        if event.run is not None:
            self._print(f"saved in {event.run}")

    def _print(self, text: str, hanging: str = _HANGING) -> None:
        for line in wrapped(text, self._width(), hanging):
            self._show(Text(line))

    def _show(self, line: Text) -> None:
        self._last_line = time.monotonic()
        self._console.print(line)

    def _width(self) -> int | None:
        """That of the terminal as it is now; None for a pipe."""
        return width_of(sys.stderr)


def settings_text(settings: tuple[Setting, ...], width: int | None) -> Text:
    """The settings of a run with their origins; those that are off, or follow from others, are left out."""
    shown = [
        setting
        for setting in settings
        if setting.origin != "derived" and (setting.value is not None or setting.origin != "default")
    ]
    columns = [
        Column("setting", [setting.name for setting in shown], is_text=True, least=20),
        Column("value", [value_text(setting.value) for setting in shown], is_text=True, least=20, wraps=True),
        Column("from", [setting.origin for setting in shown], 1, is_text=True),
    ]
    headings, *rows = rows_laid_out(columns, width)
    text = Text("\n".join(headings), style="bold")
    for setting, lines in zip(shown, rows, strict=True):
        text.append("\n" + "\n".join(lines), style="bold" if setting.origin == "command line" else "not bold")
    return text


def progress_row(started: TrainingStarted, event: TrainingProgressed, width: int) -> Table:
    """One line for the running epoch; on a narrow terminal the bar goes first, then rate, speed, and metrics."""
    begin, left = place_text(started, event.epoch), f"{duration(event.seconds_left)} left"
    scalars, rate = scalars_text(event.scalars), rate_text(event.rate)
    speed = amount(event.samples_per_second)
    fewer = [scalars_text(dict([*event.scalars.items()][:count])) for count in range(len(event.scalars) - 1, 0, -1)]
    forms = (
        (begin, scalars, *rate, f"{speed} samples/s", left),
        (begin, scalars, *rate, f"{speed}/s", left),
        (begin, scalars, f"{speed}/s", left),
        (begin, scalars, left),
        *((begin, some, left) for some in fewer),
        (begin, left),
    )
    rooms = [width - sum(len(part) + _GAP for part in form) for form in forms]
    chosen = next((k for k, room in enumerate(rooms) if room >= 0), len(forms) - 1)
    first, *others = forms[chosen]
    cells: list[RenderableType] = [first, *others]
    if rooms[chosen] >= _SHORTEST_BAR + _GAP:
        bar = min(_LONGEST_BAR, rooms[chosen] - _GAP)
        cells = [first, ProgressBar(started.total_steps, event.step, width=bar), *others]
    row = Table.grid(padding=(0, _GAP, 0, 0))
    for _ in cells:
        row.add_column(no_wrap=True)
    row.add_row(*cells)
    return row


_PURPOSES = {"train": "train", "validation": "validate", "test": "test"}


SECONDS_BETWEEN_SIGNS = 10.0  # of life, where nothing else is said


class SignsOfLife:
    """The observer of a training that is otherwise silent: every ten seconds, `tell` gets a line."""

    def __init__(self, started: TrainingStarted, tell: Callable[[str], None]) -> None:
        self._started, self._tell, self._last = started, tell, time.monotonic()

    def __call__(self, event: Event) -> None:
        if isinstance(event, TrainingProgressed) and time.monotonic() - self._last >= SECONDS_BETWEEN_SIGNS:
            self._last = time.monotonic()
            self._tell("  ".join(progress_parts(self._started, event)))


def progress_parts(started: TrainingStarted, event: TrainingProgressed) -> list[str]:
    """A line that shows in a pipe or a file that the training goes on."""
    begin = [place_text(started, event.epoch), f"step {event.step}/{started.total_steps}"]
    if event.part != "train":
        return [*begin, f"measuring the {event.part} part"]
    speed, left = f"{amount(event.samples_per_second)} samples/s", f"{duration(event.seconds_left)} left"
    return [*begin, scalars_text(event.scalars), *rate_text(event.rate), speed, left]


def epoch_parts(started: TrainingStarted | None, event: EpochEnded) -> list[str]:
    step = None if started is None else step_text(started, event.step)
    parts = [
        f"epoch {event.epoch}" if started is None else place_text(started, event.epoch),
        "" if step is None else f"step {step}",
        scalars_text(event.scalars),
        scalars_text({f"val_{name}": value for name, value in event.validation.items()}),
        *rate_text(event.rate),
        f"{amount(event.samples_per_second)} samples/s",
        duration(event.seconds),
    ]
    return [part for part in parts if part]


def place_text(started: TrainingStarted, epoch: int) -> str:
    total = epochs_text(started)
    return f"epoch {epoch:>{len(total)}}/{total}"


def scalars_text(scalars: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {measure(value)}" for name, value in scalars.items())


def rate_text(rate: float | None) -> tuple[str, ...]:
    return () if rate is None else (f"rate {rate:.3g}",)


def print_sights(sights: Sequence[Sight], looks: int) -> None:
    """One row for each line of the text and each parameter, on standard error; then the mistakes."""
    what = [s.path if s.kind == "parameter" else f"{s.kind} units {s.path}".rstrip() for s in sights]
    columns = [
        Column("line", [sight.line for sight in sights], is_text=True),
        Column("what", what, is_text=True, least=16),
        Column("step", [str(sight.step) for sight in sights], 2),
        Column("units", [str(sight.units) for sight in sights], 1),
        Column("without effect", ["" if sight.share is None else f"{sight.share:.0%}" for sight in sights]),
        Column("gradient", [_number(sight.gradient) for sight in sights]),
        Column("update / weight", [_number(sight.ratio) for sight in sights]),
    ]
    print_table(f"watched {looks} times, at their worst", columns, sys.stderr)
    wrong = [sight for sight in sights if sight.mistake is not None]
    for sight in wrong:
        place = f"{sight.line}, {sight.path}" if sight.path else sight.line
        say_labelled("warning", f"{place}: {sight.mistake} (step {sight.step})")
    if not wrong:
        say("nothing of this looks wrong")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


_VALUE = 8  # columns of a value: `0.1234`, `999.1234`, `1.23e-05`
_TIME = 10  # `12 min 34 s`
_BEST = "best"
_WITHOUT_ROOM = ("speed", "rate", "time")  # these columns go first, in this order


@record
class EpochColumn:
    """A column with its heading, line by line, and what it shows of an epoch."""

    heading: tuple[str, ...]
    width: int
    cell: Callable[[EpochEnded], str] = field(compare=False)


@record
class EpochTable:
    """The columns of a table, which end before the mark of the best epoch, and the scalars that had no room."""

    columns: tuple[EpochColumn, ...]
    left_out: tuple[str, ...]

    def header(self) -> list[str]:
        """The headings, those of several lines with the last line at the bottom."""
        height = max(len(column.heading) for column in self.columns)
        padded = [("",) * (height - len(c.heading)) + c.heading for c in self.columns]
        lines = zip(*padded, strict=True)
        return [self._line(cells).rstrip() for cells in lines]

    def row(self, event: EpochEnded) -> str:
        """The values of an epoch, without the mark of the best."""
        return self._line([column.cell(event) for column in self.columns])

    def _line(self, cells: Sequence[str]) -> str:
        return GAP.join(cell.rjust(column.width) for cell, column in zip(cells, self.columns, strict=True))


def epoch_table(started: TrainingStarted, event: EpochEnded, width: int) -> EpochTable:
    """The table for epochs like `event` on a terminal of `width` columns.

    Where there is no room for all, the speed goes first; headings go on below at a `_` or `.`; then go the rate, the
    time, a loss that is the sum of those of several updates, and the last metrics, those of the training part before
    those of the validation part. The losses stay.
    """
    left_out: list[str] = []
    columns = tuple(_columns(started, event, left_out, False))
    for left_out, is_folded in _forms(event):
        columns = tuple(_columns(started, event, left_out, is_folded))
        if sum(c.width + len(GAP) for c in columns) + len(_BEST) <= width:
            break
    scalars = {_heading("train", name) for name in event.scalars}
    scalars |= {_heading("validation", name) for name in event.validation}
    return EpochTable(columns, tuple(name for name in left_out if name in scalars))


def epochs_text(started: TrainingStarted) -> str:
    """How many epochs there are, the last of which may be cut short by `steps`."""
    return str(math.ceil(started.epochs))


def step_text(started: TrainingStarted, step: int) -> str | None:
    """`step 80/100` where epochs do not tell how far a training is, since steps end it within one."""
    return None if started.epochs == int(started.epochs) else f"{step}/{started.total_steps}"


def _forms(event: EpochEnded) -> Iterator[tuple[list[str], bool]]:
    """The columns left out and whether headings are folded, from the widest table to the narrowest."""
    yield [], False
    left_out = [_WITHOUT_ROOM[0]]
    yield left_out, False
    yield left_out, True
    last_first = [
        *(_heading("train", name) for name in [*event.scalars][:0:-1]),
        *(_heading("validation", name) for name in [*event.validation][:0:-1]),
    ]
    has_updates = any(name.endswith(".loss") for name in event.scalars)
    sums = [_heading("train", "loss"), _heading("validation", "loss")] if has_updates else []
    for name in (*_WITHOUT_ROOM[1:], *sums, *last_first):
        left_out = [*left_out, name]
        yield left_out, True


def _columns(
    started: TrainingStarted, event: EpochEnded, left_out: Sequence[str], is_folded: bool
) -> Iterator[EpochColumn]:
    total = epochs_text(started)
    yield _column("epoch", 2 * len(total) + 1, lambda epoch: f"{epoch.epoch}/{total}")
    if step_text(started, event.step) is not None:
        width = 2 * len(str(started.total_steps)) + 1
        yield _column("step", width, lambda epoch: step_text(started, epoch.step) or "")
    for kind, scalars in (("train", event.scalars), ("validation", event.validation)):
        for name in scalars:
            if (heading := _heading(kind, name)) not in left_out:
                yield _column(heading, _VALUE, partial(_scalar, kind, name), is_folded)
    if event.rate is not None and "rate" not in left_out:
        yield _column("rate", _VALUE, lambda epoch: "" if epoch.rate is None else f"{epoch.rate:.2e}")
    if "speed" not in left_out:
        yield _column("samples/s", 0, lambda epoch: amount(epoch.samples_per_second))
    if "time" not in left_out:
        yield _column("time", _TIME, lambda epoch: duration(epoch.seconds))


def _column(heading: str, width: int, cell: Callable[[EpochEnded], str], is_folded: bool = False) -> EpochColumn:
    lines = _folded(heading, width) if is_folded else (heading,)
    return EpochColumn(lines, max(width, *map(len, lines)), cell)


def _heading(kind: str, name: str) -> str:
    return f"val_{name}" if kind == "validation" else name


def _folded(heading: str, width: int) -> tuple[str, ...]:
    """`val_mean_absolute_error` as `val_mean_`, `absolute_`, `error`; `critic.loss` as `critic.`, `loss`."""
    first, *rest = re.findall(r"[^_.]*[_.]?", heading)[:-1]
    lines = [first]
    for part in rest:
        if len(lines[-1]) + len(part.rstrip("_.")) <= width:
            lines[-1] += part
        else:
            lines.append(part)
    return tuple(lines)


def _scalar(kind: str, name: str, epoch: EpochEnded) -> str:
    """A scalar with four places, or with three digits where that would hide it or be too long."""
    value = (epoch.validation if kind == "validation" else epoch.scalars)[name]
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.4f}"
    return f"{value:.2e}"
