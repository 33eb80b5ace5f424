"""Events of a training as text: one line for each epoch, and a bar for the running epoch on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import assert_never

from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from compiler.driver import Setting
from runtime.reporting.events import EpochEnded, Event, NonfiniteMet, TrainingEnded, TrainingProgressed, TrainingStarted
from runtime.reporting.outlets import unfiltered
from runtime.reporting.settings import value_text
from runtime.reporting.tables import WIDTH, HarmlessConsole
from runtime.reporting.terminal import wants_colour
from runtime.reporting.units import amount, duration, measure

# Thousands of short epochs would flood the screen: above this many, lines come at most so often.
_EPOCHS_WITH_A_LINE_EACH = 100
_SECONDS_BETWEEN_LINES = 0.2
# Columns of the line of progress.
_GAP, _SHORTEST_BAR, _LONGEST_BAR = 2, 6, 16


class TextReporter:
    """Writes to standard error. Colours and the bar only where standard error is a terminal."""

    def __init__(self) -> None:
        colour = wants_colour(sys.stderr)
        self._console = HarmlessConsole(
            file=unfiltered(sys.stderr), no_color=not colour, highlight=False, markup=False, soft_wrap=True
        )
        if not self._console.is_terminal:
            self._console.width = WIDTH
        self._live: Live | None = None
        self._started: TrainingStarted | None = None
        self._last_line = 0.0
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
        self._console.print(settings_table(event.settings))
        rows = ", ".join(f"{count} to {_PURPOSES[part]}" for part, count in event.rows.items() if count)
        self._console.print(f"{event.model}: {event.parameters} parameters; rows: {rows}")
        if event.step:
            self._console.print(f"resumed at step {event.step} of {event.total_steps}")
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def _progress(self, event: TrainingProgressed) -> None:
        if self._live is None or self._started is None:
            return
        self._live.update(progress_row(self._started, event, self._console.width), refresh=True)

    def _epoch(self, event: EpochEnded) -> None:
        now = time.monotonic()
        many = self._started is not None and self._started.epochs > _EPOCHS_WITH_A_LINE_EACH
        if many and now - self._last_line < _SECONDS_BETWEEN_LINES:
            self._held_back = event
            return
        self._last_line = now
        self._print_epoch(event)

    def _print_epoch(self, event: EpochEnded) -> None:
        self._held_back = None
        total = _epochs(self._started) if self._started else ""
        parts = [
            f"epoch {event.epoch:>{len(total)}}/{total}",
            _scalars_text(event.scalars),
            _scalars_text({f"val_{name}": value for name, value in event.validation.items()}),
            *_rate_text(event.rate),
            f"{amount(event.samples_per_second)} samples/s",
            duration(event.seconds),
        ]
        line = Text("  ".join(part for part in parts if part))
        if event.is_best:
            line.append("  best", style="green")
        self._console.print(line)

    def _nonfinite(self, event: NonfiniteMet) -> None:
        what = "the step is skipped" if event.action == "skip" else "training goes on"
        self._console.print(f"step {event.step} (epoch {event.epoch}): `{event.output}` is not finite; {what}")
        for line in event.text.splitlines():
            self._console.print(f"  {line}")

    def _end(self, event: TrainingEnded) -> None:
        if self._held_back is not None:
            self._print_epoch(self._held_back)
        self.close()
        best = f"; best epoch {event.best_epoch}" if event.best_epoch else ""
        self._console.print(
            f"{event.reason} after {event.step} steps, {event.epochs} epochs, {duration(event.seconds)}{best}"
        )
        if event.test:
            self._console.print(Text(f"test: {_scalars_text(event.test)}", style="bold"))
        if event.run is not None:
            self._console.print(f"saved in {event.run}")


def settings_table(settings: tuple[Setting, ...]) -> Table:
    """What a run resolved to, and where each value came from; what is off, or follows from others, is left out."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("setting", "value", "from"):
        table.add_column(heading)
    for setting in settings:
        is_off = setting.value is None and setting.origin == "default"
        if is_off or setting.origin == "derived":
            continue
        style = "bold" if setting.origin == "command line" else ""
        table.add_row(setting.name, value_text(setting.value), setting.origin, style=style)
    return table


def progress_row(started: TrainingStarted, event: TrainingProgressed, width: int) -> Table:
    """One line for the running epoch; on a narrow terminal the bar goes first, then the rate, then the speed."""
    begin, scalars = f"epoch {event.epoch}/{_epochs(started)}", _scalars_text(event.scalars)
    speed, left = amount(event.samples_per_second), f"{duration(event.seconds_left)} left"
    forms = (
        (begin, scalars, *_rate_text(event.rate), f"{speed} samples/s", left),
        (begin, scalars, *_rate_text(event.rate), f"{speed}/s", left),
        (begin, scalars, f"{speed}/s", left),
        (begin, scalars, left),
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


def _epochs(started: TrainingStarted) -> str:
    return f"{started.epochs:g}" if started.epochs == int(started.epochs) else f"{started.epochs:.1f}"


def _scalars_text(scalars: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {measure(value)}" for name, value in scalars.items())


def _rate_text(rate: float | None) -> tuple[str, ...]:
    return () if rate is None else (f"rate {rate:.3g}",)
