"""Trials of a sweep as rows of a table on a terminal, and as lines that name their values in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runtime.reporting.tables import GAP, Column, laid_out, wrapped_parts
from runtime.reporting.terminal import say_laid_out, styled, width_of
from runtime.reporting.units import measure
from runtime.sweep.trials import Trial

_SETTING = 9  # columns of a setting's value: `0.0001234`
_VALUE = 10


class TrialLines:
    """Tells each trial on standard error as it ends."""

    def __init__(self, settings: Sequence[str], trials: int) -> None:
        headings = ["trial", *settings, "value", "epoch"]
        self._room = [len("trial"), *(max(len(name), _SETTING) for name in settings), _VALUE, len("epoch")]
        self._room[0] = max(self._room[0], len(str(trials)))
        self._headings = headings
        self._has_header = False

    def tell(self, trial: Trial, is_best: bool) -> None:
        width = width_of(sys.stderr)
        if width is None:
            say_laid_out(GAP.join([*_named(trial), *_remarks(trial, is_best)]))
        elif sum(self._room) + len(GAP) * len(self._room) + len("best") > width or trial.value is None:
            # settings do not fit side by side, or a failure says more than a row holds
            say_laid_out("\n".join(wrapped_parts(GAP.join([*_named(trial), *_remarks(trial, is_best)]), width, "  ")))
        else:
            self._tell_row(trial, is_best, width)

    def _tell_row(self, trial: Trial, is_best: bool, width: int) -> None:
        cells = [str(trial.number), *map(short, trial.settings.values()), measure(trial.value or 0.0), str(trial.epoch)]
        columns = [
            Column(heading.rjust(room), [cell])
            for heading, room, cell in zip(self._headings, self._room, cells, strict=True)
        ]
        remarks = Column("", [GAP.join(_remarks(trial, is_best))], is_text=True, least=0, wraps=True)
        header, *row = laid_out([*columns, remarks], width)
        if not self._has_header:
            self._has_header = True
            say_laid_out(styled(header, "bold", sys.stderr))
        say_laid_out("\n".join(row))


def short(text: str) -> str:
    """A setting's value with four digits."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def _named(trial: Trial) -> list[str]:
    first, *rest = [f"{key}={short(text)}" for key, text in trial.settings.items()] or [""]
    if trial.value is None:
        said = f"failed: {trial.failure or 'no epoch ended'}"
    else:
        said = f"{measure(trial.value)} (epoch {trial.epoch})"
    return [f"trial {trial.number}: {first}", *rest, said]


def _remarks(trial: Trial, is_best: bool) -> list[str]:
    best = ["best"] if is_best and trial.value is not None else []
    programs = "1 program" if trial.compiled == 1 else f"{trial.compiled} programs"
    return [*best, f"{programs} compiled"] if trial.compiled else best
