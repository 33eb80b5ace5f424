"""Where a training stands between two steps: all that a checkpoint holds besides tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from compiler.driver import Array
from runtime.sums import added_in_order


@dataclass(frozen=True, slots=True)
class Length:
    """How far a training goes. An epoch's last step may have fewer rows than `batch`."""

    rows: int
    batch: int
    total_steps: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.rows // self.batch)

    @property
    def epochs(self) -> float:
        return self.total_steps / self.steps_per_epoch

    def rows_of_steps(self, first_step: int, steps: int) -> Array:
        """The number of rows of each of the steps from `first_step`."""
        in_epoch = np.arange(first_step, first_step + steps) % self.steps_per_epoch
        return np.minimum(self.batch, self.rows - in_epoch * self.batch)


@dataclass(frozen=True, slots=True)
class Position:
    """`sums` are the scalars of the unfinished epoch, each weighted by the rows of its step, and `rows` their number.

    Sums are added one step after the other, so that an interruption changes no bit of an epoch's means. `rate` is the
    scheduled rate of the last step.
    """

    step: int = 0
    sums: Mapping[str, float] = field(default_factory=dict[str, float])
    rows: int = 0
    best_value: float | None = None
    best_epoch: int | None = None
    epochs_without_gain: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    rate: float | None = None

    def means(self) -> dict[str, float]:
        return {name: total / self.rows for name, total in self.sums.items()}

    def advanced(
        self, scalars: Mapping[str, Array], rows: Array, seconds: float, rate: float | None = None
    ) -> Position:
        """After steps with the given scalars (one value a step) and rows."""
        return replace(
            self,
            step=self.step + len(rows),
            sums=added_in_order(self.sums, scalars, rows),
            rows=self.rows + int(rows.sum()),
            seconds=self.seconds + seconds,
            epoch_seconds=self.epoch_seconds + seconds,
            rate=rate,
        )

    def after_epoch(self, epoch: int, value: float, seconds: float) -> Position:
        """After epoch `epoch` (from 1), whose measure of quality is `value`: the lower the better."""
        gained = value < (np.inf if self.best_value is None else self.best_value)
        return replace(
            self,
            sums={},
            rows=0,
            best_value=value if gained else self.best_value,
            best_epoch=epoch if gained else self.best_epoch,
            epochs_without_gain=0 if gained else self.epochs_without_gain + 1,
            seconds=self.seconds + seconds,
            epoch_seconds=0.0,
        )
