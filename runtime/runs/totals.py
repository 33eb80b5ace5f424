"""Totals of metrics over rows: sums are exact, so they do not depend on the order or the division of the rows.

A sum of floats is kept as a whole number of units that every float is a multiple of, and rounded once, when it is asked
for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from compiler.driver import KEPT, Array, Executable, Results, Steps, Tensors
from compiler.support.record import record
from runtime.support.files import JsonValue

_DIGITS = 53
_LEAST = 1126  # every float of 64 bits is a multiple of 2^-1126 in the form that `_units` gives it
_ONE = 1 << _LEAST
_HALF = 26
_FEW = 32  # terms that are added up faster one by one
_TERMS_AT_ONCE = 1 << 20  # far below 2^26, from which on sums of 27 bits could be rounded
_NAME = re.compile(r"(sum|most|least|moments|kept):(\d+)(?::(\d+))?")


def is_total(name: str) -> bool:
    """Whether a result of a program is part of what metrics are finished from."""
    return _NAME.fullmatch(name) is not None


@record
class ExactSum:
    """For each element of `shape`, a sum in units of 2^-1126, and the sum of summands that are not finite."""

    shape: tuple[int, ...]
    units: tuple[int, ...]
    spoilt: tuple[float, ...]

    @staticmethod
    def of(terms: Array) -> ExactSum:
        """Of an array whose first axis counts terms."""
        shape = terms.shape[1:]
        flat = np.asarray(terms, np.float64).reshape(len(terms), math.prod(shape))
        if flat.size <= _FEW:
            return ExactSum(shape, *_sums_one_by_one(flat))
        is_finite = np.isfinite(flat)
        spoilt = np.zeros(flat.shape[1])
        if not is_finite.all():
            with np.errstate(invalid="ignore"):
                spoilt = np.where(is_finite, 0.0, flat).sum(axis=0)
            flat = np.where(is_finite, flat, 0.0)
        units = [0] * flat.shape[1]
        rows = max(1, _TERMS_AT_ONCE // max(1, flat.shape[1]))
        for first in range(0, len(flat), rows):
            _add_units(units, flat[first : first + rows])
        return ExactSum(shape, tuple(units), tuple(spoilt.tolist()))

    def plus(self, other: ExactSum) -> ExactSum:
        units = tuple(map(int.__add__, self.units, other.units))
        return ExactSum(self.shape, units, tuple(map(float.__add__, self.spoilt, other.spoilt)))

    def rounded(self) -> Array:
        """The nearest floats."""
        return self.made_of([_quotient(units, _ONE) for units in self.units])

    def made_of(self, values: Sequence[float]) -> Array:
        """Values that follow from finite sums, as an array; summands that are not finite spoil them."""
        return np.array([v if s == 0 else s for v, s in zip(values, self.spoilt, strict=True)]).reshape(self.shape)


@record
class Extreme:
    """The largest or smallest of all elements that there were."""

    is_largest: bool
    values: Array

    def plus(self, other: Extreme) -> Extreme:
        join = np.maximum if self.is_largest else np.minimum
        return Extreme(self.is_largest, join(self.values, other.values))


@record
class Totals:
    """The totals so far of `rows`, by name: `sum:0`, `most:1`; of moments `count:2`, `total:2`, `squares:2`."""

    parts: Mapping[str, ExactSum | Extreme]
    rows: int = 0

    def plus(self, results: Results, rows: int) -> Totals:
        """With what further steps over so many rows give."""
        found = dict(self.parts)
        for name, part in _gathered(results).items():
            before = found.get(name)
            if isinstance(part, ExactSum):
                found[name] = part.plus(before) if isinstance(before, ExactSum) else part
            else:
                found[name] = part.plus(before) if isinstance(before, Extreme) else part
        return Totals(found, self.rows + rows)

    def inputs(self) -> dict[str, Array]:
        """The inputs of the program that finishes metrics."""
        found: dict[str, Array] = {"(rows)": np.array(float(self.rows))}
        for name, part in self.parts.items():
            kind, number = name.split(":")
            if isinstance(part, Extreme):
                found[name] = part.values
            elif kind in ("sum", "count"):
                found[name] = part.rounded()
            elif kind == "squares":
                count, total = self.parts[f"count:{number}"], self.parts[f"total:{number}"]
                assert isinstance(count, ExactSum)
                assert isinstance(total, ExactSum)
                found |= {f"mean:{number}": _means(count, total), name: _squares(count, total, part)}
        return found

    def to_json(self) -> dict[str, JsonValue]:
        return {"rows": self.rows, "parts": {name: _part_to_json(part) for name, part in self.parts.items()}}


NOTHING = Totals({})


def totals_from_json(value: JsonValue) -> Totals:
    """Raises ValueError."""
    if not isinstance(value, Mapping):
        return NOTHING
    parts, rows = value.get("parts"), value.get("rows")
    if not isinstance(parts, Mapping) or not isinstance(rows, int):
        raise ValueError(f"{value!r} are no totals")
    return Totals({name: _part_from_json(part) for name, part in parts.items()}, rows)


@record
class Finisher:
    """Makes metrics of totals, by a program that computes in f64."""

    executable: Executable

    def finished(self, totals: Totals, tensors: Tensors, settings: Mapping[str, float]) -> dict[str, float]:
        """Each metric; none where there were no rows."""
        if not totals.rows:
            return {}
        results = self.executable.run(Steps(tensors, totals.inputs(), np.zeros(1, np.int64), 1, settings=settings))
        return {name: float(values[0]) for name, values in results.scalars.items()}


def _gathered(results: Results) -> dict[str, ExactSum | Extreme]:
    """The result of a call: its first axis counts steps, or rows."""
    arrays = {**results.arrays, **results.stacks, **results.scalars}
    found: dict[str, ExactSum | Extreme] = {}
    for name, array in arrays.items():
        parsed = _NAME.fullmatch(name)
        if parsed is None:
            continue
        kind, number, kept_axes = parsed.groups()
        if kind == "sum":
            found[name] = ExactSum.of(array)
        elif kind in ("most", "least"):
            found[name] = Extreme(kind == "most", (np.max if kind == "most" else np.min)(array, axis=0))
        elif kind == "moments":
            found |= _moments(number, array, arrays.get(f"kept:{number}"), int(kept_axes or 0))
    return found


def _moments(number: str, elements: Array, kept: Array | None, kept_axes: int) -> dict[str, ExactSum | Extreme]:
    shape = elements.shape[elements.ndim - kept_axes :]
    x = np.asarray(elements, np.float64).reshape(-1, *shape)
    if kept is not None:
        x = np.where(kept.reshape(-1, *shape) != 0, x, 0.0)
        count = ExactSum.of(kept.reshape(-1, *shape))
    else:
        count = ExactSum.of(np.full((1, *shape), float(len(x))))
    with np.errstate(over="ignore"):
        squares = ExactSum.of(x * x)
    if elements.dtype == np.float64:  # the square of a float of 32 bits is exact
        squares = squares.plus(ExactSum.of(_rest_of_square(x)))
    return {f"count:{number}": count, f"total:{number}": ExactSum.of(x), f"squares:{number}": squares}


def _rest_of_square(x: Array) -> Array:
    """x^2 less its rounding. Dekker, "A floating-point technique for extending the available precision", 1971."""
    with np.errstate(all="ignore"):
        scaled = x * 134217729.0
        high = scaled - (scaled - x)
        low = x - high
        rest = ((high * high - x * x) + 2 * high * low) + low * low
    return np.where(np.isfinite(rest), rest, 0.0)


def _means(count: ExactSum, total: ExactSum) -> Array:
    pairs = zip(total.units, count.units, strict=True)
    return total.made_of([_quotient(units, rows) if rows else 0.0 for units, rows in pairs])


def _squares(count: ExactSum, total: ExactSum, squares: ExactSum) -> Array:
    """The sum of squared distances from the mean: that of the squares less the square of the sum by the count."""
    triples = zip(squares.units, total.units, count.units, strict=True)
    values = [_quotient(q * rows - s * s, rows * _ONE) if rows else 0.0 for q, s, rows in triples]
    return squares.made_of(total.made_of(values).reshape(-1).tolist())


def _quotient(numerator: int, denominator: int) -> float:
    try:
        return numerator / denominator  # of whole numbers: rounded once
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def _add_units(units: list[int], terms: Array) -> None:
    """Add the columns of `terms` to `units`: parts of 27 bits with one exponent are added up as floats, exactly."""
    if not terms.size:
        return
    mantissas, exponents = np.frexp(terms)
    whole = np.ldexp(mantissas, _DIGITS).astype(np.int64)
    shifts = exponents.astype(np.int64) + (_LEAST - _DIGITS)
    lowest = int(shifts.min())
    width = int(shifts.max()) - lowest + 1
    columns: Array = np.arange(terms.shape[1], dtype=np.int64)
    places: Array = (shifts - lowest + width * columns).reshape(-1)
    for part, shift in ((whole >> _HALF, _HALF), (whole & ((1 << _HALF) - 1), 0)):
        sums = np.bincount(places, part.reshape(-1).astype(np.float64))
        for place in np.flatnonzero(sums).tolist():
            column, exponent = divmod(place, width)
            units[column] += int(sums[place]) << (exponent + lowest + shift)


def _sums_one_by_one(terms: Array) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The units, and the sum of summands that are not finite, of each column."""
    units, spoilt = [0] * terms.shape[1], [0.0] * terms.shape[1]
    for row in terms.tolist():
        for column, value in enumerate(row):
            if math.isfinite(value):
                numerator, denominator = value.as_integer_ratio()
                units[column] += numerator << (_LEAST + 1 - denominator.bit_length())
            else:
                spoilt[column] += value
    return tuple(units), tuple(spoilt)


def _part_to_json(part: ExactSum | Extreme) -> JsonValue:
    if isinstance(part, ExactSum):
        return {"shape": list(part.shape), "units": list(part.units), "spoilt": [v.hex() for v in part.spoilt]}
    values = [float(value).hex() for value in part.values.reshape(-1)]
    return {"largest": part.is_largest, "shape": list(part.values.shape), "values": values}


def _part_from_json(value: JsonValue) -> ExactSum | Extreme:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is no total")
    shape = tuple(map(int, _items(value.get("shape"))))
    if "units" in value:
        spoilt = map(float.fromhex, _items(value.get("spoilt")))
        return ExactSum(shape, tuple(map(int, _items(value["units"]))), tuple(spoilt))
    values = [*map(float.fromhex, _items(value.get("values")))]
    return Extreme(value.get("largest") is True, np.array(values).reshape(shape))


def _items(value: JsonValue) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{value!r} is no list")
    return [str(item) for item in value]


def added_in_order(sums: Mapping[str, float], scalars: Mapping[str, Array], rows: Array) -> dict[str, float]:
    """`sums` and, for each scalar, its values (one a step) times the rows of the step.

    Where a scalar says how many elements it is the mean of, these stand for the rows, and are added up, too. `cumsum`
    adds from left to right, unlike `sum`, so it does not matter how the steps are divided into calls.
    """
    terms = {
        name: values if name.endswith(KEPT) else values * scalars.get(name + KEPT, rows)
        for name, values in scalars.items()
    }
    return {
        name: float(np.cumsum(np.concatenate([[sums.get(name, 0.0)], values]))[-1]) for name, values in terms.items()
    }


def means_of(sums: Mapping[str, float], rows: int) -> dict[str, float]:
    """The mean of each scalar over `rows` rows, or over the elements that were kept; 0 where none was."""
    counts = {name: sums.get(name + KEPT, rows) for name in sums if not name.endswith(KEPT)}
    return {name: sums[name] / count if count else 0.0 for name, count in counts.items()}
