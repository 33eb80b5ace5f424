"""What metrics are finished from: sums without rounding, and totals that a checkpoint keeps."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest

from compiler.driver import Results
from runtime.runs.totals import NOTHING, ExactSum, Totals, totals_from_json

_RANDOM = np.random.default_rng(2)


@pytest.mark.parametrize(
    "terms",
    [
        _RANDOM.normal(size=1000) * 10.0 ** _RANDOM.integers(-300, 300, 1000),
        np.array([1e308, 1e308, -1e308, 5e-324, -1.0]),
        np.full(70000, 0.1),
        np.array([2.0**53, 1.0, -(2.0**53)]),
        np.zeros(3),
        -np.arange(10.0),
    ],
)
def test_a_sum_is_rounded_once(terms: np.ndarray) -> None:
    exact = sum(map(Fraction, terms.tolist()), Fraction())
    found = ExactSum.of(terms[:7])
    for first in range(7, len(terms), 999):
        found = found.plus(ExactSum.of(terms[first : first + 999]))
    assert Fraction(found.units[0], 2**1126) == exact
    assert found.rounded() == float(exact)


def test_what_is_not_finite_spoils_its_own_sum_alone() -> None:
    terms = np.array([[1.0, 1.0, np.inf, 2.0], [2.0, np.inf, -np.inf, np.nan]])
    np.testing.assert_array_equal(ExactSum.of(terms).rounded(), [3.0, np.inf, np.nan, np.nan])
    assert ExactSum.of(np.array([1e308, 1e308])).rounded() == math.inf


def test_squared_distances_are_exact() -> None:
    x = (1e8 + _RANDOM.normal(size=(50, 3))).astype(np.float64)
    gathered = Totals({}).plus(Results({}, {"moments:0:1": x}), 50).inputs()
    for column in range(3):
        values = list(map(Fraction, x[:, column].tolist()))
        mean = sum(values, Fraction()) / 50
        assert gathered["mean:0"][column] == float(mean)
        assert gathered["squares:0"][column] == float(sum(((v - mean) ** 2 for v in values), Fraction()))


def test_totals_survive_a_checkpoint() -> None:
    results = Results(
        {"sum:0": _RANDOM.normal(size=4), "most:2": np.array([1.0, -math.inf, 3.0, 2.0])},
        {"moments:1:0": _RANDOM.normal(size=8), "kept:1": np.array([1.0, 0, 1, 1, 0, 1, 1, 1])},
        (),
        {"sum:3": _RANDOM.normal(size=(4, 2, 2)) * np.array([1, np.inf])},
    )
    before = NOTHING.plus(results, 8)
    after = totals_from_json(json.loads(json.dumps(before.to_json())))
    both = before.plus(results, 8).inputs(), after.plus(results, 8).inputs()
    assert both[0].keys() == both[1].keys() >= {"(rows)", "sum:0", "most:2", "count:1", "mean:1", "squares:1", "sum:3"}
    for name, values in both[0].items():
        np.testing.assert_array_equal(values, both[1][name])
