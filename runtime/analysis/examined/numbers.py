"""Predicted numbers against the true ones: sums of their errors over any number of rows, and a sample of points."""

from __future__ import annotations

import math

import numpy as np

from compiler.driver import Array
from compiler.support.record import record
from runtime.support.files import JsonValue

BINS = 40
_POINTS = 2000  # that are kept to be drawn


@record
class NumberFit:
    """An error is a prediction less the true value. `points` [n, 2] are true and predicted values of a sample.

    `mean_error`, `mean_absolute_error`, `root_mean_squared_error`, `r2` and `largest` are over the `count` elements
    whose error is finite; `nonfinite` are the others.
    """

    target: str
    output: str
    count: int
    nonfinite: int
    mean_error: float
    mean_absolute_error: float
    root_mean_squared_error: float
    r2: float
    largest: float
    points: Array

    @property
    def errors(self) -> dict[str, float]:
        return {
            "mean_error": self.mean_error,
            "mean_absolute_error": self.mean_absolute_error,
            "root_mean_squared_error": self.root_mean_squared_error,
            "r2": self.r2,
            "largest_error": self.largest,
        }

    def to_json(self) -> dict[str, JsonValue]:
        known = {name: value if math.isfinite(value) else None for name, value in self.errors.items()}
        return {
            "target": self.target,
            "output": self.output,
            "count": self.count,
            "nonfinite": self.nonfinite,
            **known,
            "points": [[float(true), float(guess)] for true, guess in self.points],
        }


class NumberCounter:
    """Gathers errors part by part, in memory that does not grow. `total` elements will come."""

    def __init__(self, total: int) -> None:
        self._stride = max(1, -(-total // _POINTS))
        self._seen = self._count = self._nonfinite = 0
        self._sum = self._size = self._squares = self._largest = 0.0
        # of the true values: the first, the mean distance from it, and the sum of squared distances from the mean
        self._first = self._mean = self._spread = 0.0
        self._points: list[Array] = []

    def add(self, truth: Array, guess: Array, counts: Array) -> None:
        """Arrays of one shape; elements outside of `counts` are not looked at."""
        truth, guess = truth[counts].astype(np.float64), guess[counts].astype(np.float64)
        places = np.arange(-self._seen % self._stride, len(truth), self._stride)
        self._seen += len(truth)
        with np.errstate(invalid="ignore", over="ignore"):
            error = guess - truth
        is_finite = np.isfinite(error)
        kept = places[is_finite[places]]
        self._points.append(np.stack([truth[kept], guess[kept]], axis=1))
        error, truth = error[is_finite], truth[is_finite]
        self._add_to_spread(truth)
        self._count += len(error)
        self._nonfinite += int(len(is_finite) - len(error))
        with np.errstate(over="ignore"):
            self._sum += float(error.sum())
            self._size += float(np.abs(error).sum())
            self._squares += float(np.square(error).sum())
        self._largest = max(self._largest, float(np.abs(error).max(initial=0.0)))

    def _add_to_spread(self, truth: Array) -> None:
        """Merge the mean and the sum of squared distances from it with those of finite values.

        Equal values have no spread at all, since their distances from the first are 0. Chan, Golub & LeVeque,
        "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
        """
        if not len(truth):
            return
        if not self._count:
            self._first = float(truth[0])
        with np.errstate(over="ignore", invalid="ignore"):
            distance = truth - self._first
            mean, share = float(distance.mean()), len(truth) / (self._count + len(truth))
            apart = mean - self._mean
            self._spread += float(np.square(distance - mean).sum()) + apart * apart * self._count * share
            self._mean += apart * share

    def fit(self, target: str, output: str) -> NumberFit:
        """`r2` of a constant target is 1 where every prediction is right, and else 0, as the library defines it."""
        count = self._count or math.nan
        r2 = 1 - self._squares / self._spread if self._spread > 0 else float(self._squares == 0)
        return NumberFit(
            target,
            output,
            self._count,
            self._nonfinite,
            self._sum / count,
            self._size / count,
            math.sqrt(self._squares / count) if self._count else math.nan,
            r2 if self._count else math.nan,
            self._largest if self._count else math.nan,
            np.concatenate([*self._points, np.zeros((0, 2))]),
        )
