"""Epochs of a training as rows of a table for a terminal: which columns there is room for, the header, a row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from compiler.support.record import record
from runtime.reporting.tables import GAP
from runtime.reporting.units import amount, duration
from runtime.train.events import EpochEnded, TrainingStarted

_VALUE = 8  # columns of a value: `0.1234`, `999.1234`, `1.23e-05`
_TIME = 10  # `12 min 34 s`
_BEST = "best"
_WITHOUT_ROOM = ("speed", "rate", "time")  # these columns go first, in this order


@record
class EpochColumn:
    """`kind` is epoch, step, train, validation, rate, speed or time; `name` that of a scalar."""

    kind: str
    name: str
    heading: tuple[str, ...]  # its lines
    width: int


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

    def row(self, started: TrainingStarted, event: EpochEnded) -> str:
        """The values of an epoch, without the mark of the best."""
        return self._line([_cell(column, started, event) for column in self.columns])

    def _line(self, cells: Sequence[str]) -> str:
        return GAP.join(cell.rjust(column.width) for cell, column in zip(cells, self.columns, strict=True))


def epoch_table(started: TrainingStarted, event: EpochEnded, width: int) -> EpochTable:
    """The table for epochs like `event` on a terminal of `width` columns.

    Where there is no room for all, the speed goes first; headings go on below at a `_`; then go the rate, the time, and
    the last metrics, those of the training part before those of the validation part. The losses stay.
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
    for name in (*_WITHOUT_ROOM[1:], *last_first):
        left_out = [*left_out, name]
        yield left_out, True


def _columns(
    started: TrainingStarted, event: EpochEnded, left_out: Sequence[str], is_folded: bool
) -> Iterator[EpochColumn]:
    total = epochs_text(started)
    yield _column("epoch", "", "epoch", 2 * len(total) + 1)
    if step_text(started, event.step) is not None:
        yield _column("step", "", "step", 2 * len(str(started.total_steps)) + 1)
    for kind, scalars in (("train", event.scalars), ("validation", event.validation)):
        for name in scalars:
            if (heading := _heading(kind, name)) not in left_out:
                yield _column(kind, name, heading, _VALUE, is_folded)
    if event.rate is not None and "rate" not in left_out:
        yield _column("rate", "", "rate", _VALUE)
    if "speed" not in left_out:
        yield _column("speed", "", "samples/s", 0)
    if "time" not in left_out:
        yield _column("time", "", "time", _TIME)


def _column(kind: str, name: str, heading: str, width: int, is_folded: bool = False) -> EpochColumn:
    lines = _folded(heading, width) if is_folded else (heading,)
    return EpochColumn(kind, name, lines, max(width, *map(len, lines)))


def _heading(kind: str, name: str) -> str:
    return f"val_{name}" if kind == "validation" else name


def _folded(heading: str, width: int) -> tuple[str, ...]:
    """`val_mean_absolute_error` as `val_mean_`, `absolute_`, `error`."""
    first, *rest = heading.split("_")
    lines = [first]
    for part in rest:
        lines[-1] += "_"
        if len(lines[-1]) + len(part) <= width:
            lines[-1] += part
        else:
            lines.append(part)
    return tuple(lines)


def _cell(column: EpochColumn, started: TrainingStarted, event: EpochEnded) -> str:
    match column.kind:
        case "epoch":
            return f"{event.epoch}/{epochs_text(started)}"
        case "step":
            return step_text(started, event.step) or ""
        case "rate":
            return "" if event.rate is None else f"{event.rate:.2e}"
        case "speed":
            return amount(event.samples_per_second)
        case "time":
            return duration(event.seconds)
        case _:
            scalars = event.validation if column.kind == "validation" else event.scalars
            return _value(scalars[column.name])


def _value(value: float) -> str:
    """A scalar with four places, or with three digits where that would hide it or be too long."""
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.4f}"
    return f"{value:.2e}"
