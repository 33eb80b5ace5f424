"""Sums, deviations and quantiles of a column that stays on disk: the bits that NumPy gives for an array in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from runtime.data.dataset import RowBlock
from runtime.data.preparation import Preparation, Scale
from runtime.data.specs import Array, InputSpec
from runtime.data.streaming.store import RowStore

_PIECE = 1 << 18  # numbers that are in memory at a time
_DIGITS, _DIGIT = 4, 16  # of the 64 bits of a number
_VALUE = "value"


@record
class Column:
    """`count` numbers (f64), which `read` gives from one place to before another."""

    count: int
    read: Callable[[int, int], Array]

    def pieces(self) -> Iterator[Array]:
        for first in range(0, self.count, _PIECE):
            yield self.read(first, min(first + _PIECE, self.count))

    def sum(self, of: Callable[[Array], Array] = lambda values: values) -> np.float64:
        """As `numpy.sum` of the whole: its pairwise sum halves what it adds in the same places."""
        return self._sum(of, 0, self.count)

    def _sum(self, of: Callable[[Array], Array], first: int, count: int) -> np.float64:
        if count <= _PIECE:
            return np.add.reduce(of(self.read(first, first + count)))
        half = count // 2 - count // 2 % 8
        return self._sum(of, first, half) + self._sum(of, first + half, count - half)

    def mean(self) -> np.float64:
        return self.sum() / self.count

    def deviation(self) -> np.float64:
        """As `numpy.std`: the root of the mean square of the distances from the mean."""
        mean = self.mean()

        def squared(values: Array) -> Array:
            distance: Array = values - mean
            return distance * distance

        return np.sqrt(self.sum(squared) / self.count)

    def quantile(self, share: float) -> float:
        """As `numpy.quantile`, which interpolates linearly between two numbers in their order."""
        place = (self.count - 1) * share
        low = int(place)
        first, second = self._at(low), self._at(min(low + 1, self.count - 1))
        part, step = place - low, second - first
        return second - step * (1 - part) if part >= 0.5 else first + step * part

    def _at(self, place: int) -> float:
        """The number at a place of the ascending order, found digit by digit."""
        prefix = 0
        for digit in range(_DIGITS):
            counts = np.zeros(1 << _DIGIT, np.int64)
            low = _DIGIT * (_DIGITS - 1 - digit)
            for values in self.pieces():
                keys = _ordered(values)
                keys = keys[keys >> np.uint64(low + _DIGIT) == prefix] if digit else keys
                counts += np.bincount(
                    ((keys >> np.uint64(low)) & np.uint64((1 << _DIGIT) - 1)).astype(np.int64), minlength=1 << _DIGIT
                )
            ends = np.cumsum(counts)
            found = int(np.searchsorted(ends, place, side="right"))
            place -= int(ends[found] - counts[found])
            prefix = prefix << _DIGIT | found
        sign = 1 << 63
        bits = prefix ^ sign if prefix & sign else ~prefix & ((1 << 64) - 1)
        return float(np.array(bits, np.uint64).view(np.float64))


def _ordered(values: Array) -> Array:
    """Whole numbers (u64) in the order of the numbers."""
    bits: Array = (values + 0.0).view(np.uint64)  # -0 and 0 are equal
    sign = np.uint64(1 << 63)
    return np.where(bits & sign != 0, ~bits, bits | sign)


def fitted_by_blocks(
    preparation: Preparation,
    store: RowStore,
    is_of_training: Callable[[int, int], Array],
    specs: Sequence[InputSpec],
    normalise: str,
    texts: frozenset[str],
    folder: Path,
) -> Preparation:
    """As `fitted`: the means and scales of the training rows, which `is_of_training` tells, of columns in a store."""
    fills: dict[str, float] = {}
    scales: dict[str, Scale] = {}
    for spec in (s for s in specs if not s.is_target):
        for name in (n for n in preparation.columns[spec.name] if n not in texts):
            needs_scale = bool(normalise) and spec.type.dtype.is_float
            if preparation.missing != "mean" and not needs_scale:
                continue
            with RowStore(folder) as present:
                column = _present(store, name, is_of_training, present)
                if preparation.missing == "mean":
                    fills[name] = float(column.mean())
                if needs_scale:
                    scales[name] = _scale_of(column, normalise)
    return replace(preparation, fills=fills, scales=scales)


def _present(store: RowStore, name: str, is_of_training: Callable[[int, int], Array], present: RowStore) -> Column:
    """The numbers of a column that are there, in the training rows: in memory, or put into another store."""
    pieces = _numbers_there(store, name, is_of_training)
    if store.rows <= _PIECE:
        values = np.concatenate(list(pieces))
        column = Column(len(values), lambda first, end: values[first:end])
    else:
        for piece in pieces:
            present.append(RowBlock({_VALUE: piece}, Path(), np.zeros(len(piece), np.int64)))
        column = Column(present.rows, lambda first, end: present.column(_VALUE, first, end))
    if column.count == 0:
        file = next(store.blocks([])).file
        raise DataError(f"column `{name}` has no value in any training row", file, fix="leave the column out")
    return column


def _numbers_there(store: RowStore, name: str, is_of_training: Callable[[int, int], Array]) -> Iterator[Array]:
    first = 0
    for block in store.blocks([name]):
        end = first + len(block.numbers)
        values = block.arrays[name][is_of_training(first, end)]
        yield values[~np.isnan(values)]
        first = end


def _scale_of(column: Column, scaling: str) -> Scale:
    least = min(float(values.min()) for values in column.pieces())
    most = max(float(values.max()) for values in column.pieces())
    how: Mapping[str, Callable[[], tuple[float, float]]] = {
        "standard": lambda: (float(column.mean()), float(column.deviation())),
        "min-max": lambda: (least, most - least),
        "robust": lambda: (column.quantile(0.5), column.quantile(0.75) - column.quantile(0.25)),
    }
    centre, spread = how[scaling]()
    # as for arrays in memory: a constant column has no spread to divide by
    return Scale(centre, spread if least < most and spread > 0 else 1.0)
