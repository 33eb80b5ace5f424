"""The position of a training between two steps: all that a checkpoint holds besides tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field, replace

import numpy as np

from compiler.driver import Array, EarlyStop, Plateau
from compiler.support.record import record
from runtime.runs.totals import NOTHING, Totals, added_in_order, means_of


@record
class Length:
    """How far a training goes. An epoch's last step may have fewer rows than `batch`.

    A step divides its rows evenly into `batches`, and leaves out those that are too few for one more in each.
    """

    rows: int
    batch: int
    total_steps: int
    batches: int = 1

    @property
    def steps_per_epoch(self) -> int:
        return steps_of_rows(self.rows, self.batch, self.batches)

    @property
    def epochs(self) -> float:
        return self.total_steps / self.steps_per_epoch

    def rows_of_steps(self, first_step: int, steps: int) -> Array:
        """The number of rows of each of the steps from `first_step`."""
        in_epoch = np.arange(first_step, first_step + steps) % self.steps_per_epoch
        rows = np.minimum(self.batch, self.rows - in_epoch * self.batch)
        return rows // self.batches * self.batches


def steps_of_rows(rows: int, batch: int, batches: int = 1) -> int:
    """How many steps go through so many rows: the last may be short, but each of its batches has a row."""
    full, rest = divmod(rows, batch)
    return full * (batch >= batches) + (rest >= batches)


@record
class Stagnation:
    """How many epochs ago quality got better by enough, and its value then: the lower the better."""

    value: float | None = None
    epochs: int = 0

    def after(self, value: float, min_change: float) -> Stagnation:
        """After an epoch of quality `value`."""
        # A NaN is no quality: were it kept as the first, nothing would ever be below it.
        if not math.isnan(value) if self.value is None else value < self.value - min_change:
            return Stagnation(value, 0)
        return replace(self, epochs=self.epochs + 1)


@record
class Position:
    """`sums` are the scalars of the unfinished epoch, each weighted by the rows of its step or by what it is the mean
    of, and `rows` their number. `totals` are what its metrics are finished from.

    Sums are added one step after the other, so that an interruption changes no bit of an epoch's means. `rate` is the
    scheduled rate of the last step, and `rate_factor` what plateaus have made of all rates. `kept` are
    the run-time settings in which a schedule keeps its state of the epochs.
    """

    step: int = 0
    sums: Mapping[str, float] = field(default_factory=dict[str, float])
    rows: int = 0
    best_value: float | None = None
    best_epoch: int | None = None
    stopping: Stagnation = Stagnation()
    plateau: Stagnation = Stagnation()
    rate_factor: float = 1.0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    rate: float | None = None
    kept: Mapping[str, float] = field(default_factory=dict[str, float])
    totals: Totals = NOTHING

    @property
    def timeless(self) -> Position:
        """Without its times, which no two trainings have in common."""
        return replace(self, seconds=0.0, epoch_seconds=0.0)

    def means(self) -> dict[str, float]:
        return means_of(self.sums, self.rows)

    def advanced(
        self,
        scalars: Mapping[str, Array],
        rows: Array,
        seconds: float,
        rate: float | None = None,
        totals: Totals | None = None,
    ) -> Position:
        """After steps with the given scalars (one value a step) and rows; `totals` are those of the epoch with them."""
        return replace(
            self,
            step=self.step + len(rows),
            sums=added_in_order(self.sums, scalars, rows),
            rows=self.rows + int(rows.sum()),
            seconds=self.seconds + seconds,
            epoch_seconds=self.epoch_seconds + seconds,
            rate=rate,
            totals=self.totals if totals is None else totals,
        )

    def after_epoch(
        self,
        epoch: int,
        value: float,
        seconds: float,
        early_stop: EarlyStop | None = None,
        plateau: Plateau | None = None,
    ) -> Position:
        """After epoch `epoch` (from 1), whose measure of quality is `value`: the lower the better."""
        reduced, factor = self._reduced(value, plateau)
        gained = value < (np.inf if self.best_value is None else self.best_value)
        return replace(
            self,
            sums={},
            totals=NOTHING,
            rows=0,
            best_value=value if gained else self.best_value,
            best_epoch=epoch if gained else self.best_epoch,
            stopping=self.stopping.after(value, early_stop.min_change if early_stop is not None else 0.0),
            plateau=reduced,
            rate_factor=factor,
            seconds=self.seconds + seconds,
            epoch_seconds=0.0,
        )

    def _reduced(self, value: float, plateau: Plateau | None) -> tuple[Stagnation, float]:
        """The plateau and the factor of the rates after an epoch of quality `value`."""
        if plateau is None:
            return self.plateau, self.rate_factor
        found = self.plateau.after(value, plateau.min_change)
        if found.epochs < plateau.patience:
            return found, self.rate_factor
        factor = max(self.rate_factor * plateau.factor, min(plateau.floor, self.rate_factor))
        return replace(found, epochs=0), factor
