"""Measures of predictions over any number of rows: confusions of classes, errors of numbers with a sample of points.

Confusions are counted without a cell for every pair of many classes, and errors are added up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from compiler.driver import Array
from compiler.errors.diagnostics import UsageError
from compiler.support.record import record
from runtime.support.files import JsonValue, finite

MOST_IN_A_MATRIX = 2048
"""Classes above which there is no whole matrix: it would take 32 MiB and more."""


@record
class ClassScores:
    """Of each class, arrays [classes]: `present` and `taken` count its positions and those taken for it.

    As in the library, a share of nothing is 0: `precision` of a class that nothing is taken for, `recall` of one that
    does not occur.
    """

    present: Array
    taken: Array
    hits: Array
    precision: Array
    recall: Array
    f1: Array


@record
class Confusion:
    """`pairs` [n, 3]: a class, the class that it was taken for, and how often, which is more than 0; in order.

    `threshold` is that of a score that stands for yes or no, where the classes are these.
    """

    target: str
    output: str
    classes: tuple[str, ...]
    pairs: Array
    threshold: float | None = None

    @property
    def total(self) -> int:
        return int(self.pairs[:, 2].sum())

    @property
    def accuracy(self) -> float:
        """The share of positions that are taken for their class; 0 where there are none."""
        is_right = self.pairs[:, 0] == self.pairs[:, 1]
        return float(self.pairs[is_right, 2].sum() / max(self.total, 1))

    @property
    def counts(self) -> Array:
        """`counts[i, j]`: positions of class i that were taken for class j. Raises UsageError for too many classes."""
        size = len(self.classes)
        if size > MOST_IN_A_MATRIX:
            message = f"a confusion matrix of {size:,} classes is too large to be drawn"
            raise UsageError(message, "`dlc report` lists the classes that are confused most often")
        counts: Array = np.zeros((size, size), np.int64)
        counts[self.pairs[:, 0], self.pairs[:, 1]] = self.pairs[:, 2]
        return counts

    def scores(self) -> ClassScores:
        """As the metrics `class_precision`, `class_recall` and `class_f1` of the library define them."""
        size = len(self.classes)
        truth, guess, count = self.pairs.T
        present = np.bincount(truth, count, size).astype(np.int64)
        taken = np.bincount(guess, count, size).astype(np.int64)
        is_right = truth == guess
        hits = np.bincount(truth[is_right], count[is_right], size).astype(np.int64)
        return ClassScores(
            present, taken, hits, _ratio(hits, taken), _ratio(hits, present), _ratio(2 * hits, taken + present)
        )

    def averages(self) -> dict[str, float]:
        """As `macro_precision`, `macro_recall`, `macro_f1` and `balanced_accuracy` of the library define them."""
        scores = self.scores()
        occurs = scores.present + scores.taken > 0
        return {
            "accuracy": self.accuracy,
            "balanced_accuracy": _mean(scores.recall[scores.present > 0]),
            "macro_precision": _mean(scores.precision[occurs]),
            "macro_recall": _mean(scores.recall[occurs]),
            "macro_f1": _mean(scores.f1[occurs]),
        }

    def most_confused(self, most: int) -> list[tuple[int, int, int]]:
        """Up to `most` pairs of different classes, the most frequent first; of equals, in the order of the classes."""
        wrong = self.pairs[self.pairs[:, 0] != self.pairs[:, 1]]
        order = np.argsort(-wrong[:, 2], kind="stable")[:most]
        return [(int(i), int(j), int(n)) for i, j, n in wrong[order]]


class ConfusionCounter:
    """Gathers pairs of classes, part by part; memory grows with the different pairs, not with the classes."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._found: Array = np.zeros((2, 0), np.int64)  # codes of pairs, and how often each was met

    def add(self, truth: Array, guess: Array) -> None:
        """Arrays of classes of one shape. A label outside of the classes is no class, and is left out."""
        truth, guess = truth.reshape(-1).astype(np.int64), guess.reshape(-1).astype(np.int64)
        is_class = (truth >= 0) & (truth < self._classes)
        codes, counts = np.unique(truth[is_class] * self._classes + guess[is_class], return_counts=True)
        every: Array = np.concatenate([self._found[0], codes])
        merged, places = np.unique(every, return_inverse=True)
        sums: Array = np.zeros(len(merged), np.int64)
        np.add.at(sums, places, np.concatenate([self._found[1], counts]))
        self._found = np.stack([merged, sums])

    def pairs(self) -> Array:
        codes, counts = self._found
        return np.stack([codes // self._classes, codes % self._classes, counts], axis=1)


def _ratio(part: Array, whole: Array) -> Array:
    return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)


def _mean(values: Sequence[float] | Array) -> float:
    return float(np.mean(values)) if len(values) else 0.0


_POINTS = 2000  # that are kept to be drawn


@record
class NumberFit:
    """An error is a prediction less the true value. `points` [n, 2] are true and predicted values of a sample.

    `mean_error`, `mean_absolute_error`, `root_mean_squared_error`, `r2` and `largest_error` are over the `count`
    elements whose error is finite; `nonfinite` are the others.
    """

    target: str
    output: str
    count: int
    nonfinite: int
    mean_error: float
    mean_absolute_error: float
    root_mean_squared_error: float
    r2: float
    largest_error: float
    points: Array

    @property
    def errors(self) -> dict[str, float]:
        names = ("mean_error", "mean_absolute_error", "root_mean_squared_error", "r2", "largest_error")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "target": self.target,
            "output": self.output,
            "count": self.count,
            "nonfinite": self.nonfinite,
            **{name: finite(value) for name, value in self.errors.items()},
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
