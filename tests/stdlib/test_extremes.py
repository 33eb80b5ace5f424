"""Functions of the library at infinities, NaN, ties and near 0, on both targets: values, gradients and digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dlc

INF, NAN = np.inf, np.nan
TARGETS = ("native", "reference")
DTYPES = ("f32", "f64")


def in_type(values: Any, dtype: str) -> np.ndarray[Any, Any]:
    return np.array(values, np.float64 if dtype == "f64" else np.float32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_logsumexp_of_infinities(dtype: str, target: str) -> None:
    function = dlc.function("fn f(x) = logsumexp(x)", "f", dtype=dtype, target=target)
    rows = [[-INF, -INF], [INF, 1], [INF, -INF], [INF, INF], [-INF, 3], [INF, NAN], [-INF, NAN], [1000, 1000]]
    x = in_type(rows, dtype)
    np.testing.assert_allclose(function(x), [-INF, INF, INF, INF, 3, NAN, NAN, 1000 + np.log(2)], rtol=1e-6)
    slopes = [[0, 0], [1, 0], [1, 0], [0.5, 0.5], [0, 1], [NAN, NAN], [NAN, NAN], [0.5, 0.5]]
    np.testing.assert_allclose(function.gradient(x)[0], slopes, rtol=1e-6)
    np.testing.assert_array_equal(function(in_type([[-INF]], dtype)), [-INF])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("call", "scale", "inner"),
    [("elu(x)", 1, 1), ("elu(alpha = 2.0)(x)", 2, 1), ("celu(alpha = 2.0)(x)", 2, 0.5), ("exp(x) - 1", 1, 1)],
)
def test_exponential_units_keep_their_digits(call: str, scale: float, inner: float, dtype: str, target: str) -> None:
    function = dlc.function(f"fn f(x) = {call}", "f", dtype=dtype, target=target)
    x = in_type([-1e-30, -1e-12, -1e-8, -1e-4, -0.3, -1, -30, -100, -INF, -0.0, NAN], dtype)
    exact, digits = x.astype(np.float64), 1e-15 if dtype == "f64" else 2e-7
    np.testing.assert_allclose(function(x), scale * np.expm1(inner * exact), rtol=digits)
    np.testing.assert_allclose(function.gradient(x)[0], scale * inner * np.exp(inner * exact), rtol=digits, atol=1e-37)


@pytest.mark.parametrize("target", TARGETS)
def test_the_gradient_at_a_bound(target: str) -> None:
    """`clamp` is within its bounds at them; `min` and `max` of two share the cotangent."""
    x = np.array([-2, -1, 0, 1, 2, np.inf, np.nan], np.float32)
    clamp = dlc.function("fn f(x) = clamp(-1, 1)(x)", "f", target=target)
    np.testing.assert_array_equal(clamp(x), np.clip(x, -1, 1))
    assert clamp.gradient(x)[0].tolist() == [0, 1, 1, 1, 0, 0, 0]
    halves = dlc.function("fn f(x) = min(max(x, -1), 1)", "f", target=target)
    assert halves.gradient(x[:6])[0].tolist() == [0, 0.5, 1, 0.5, 0, 0]


@pytest.mark.parametrize("target", TARGETS)
def test_selu_keeps_its_digits(target: str) -> None:
    x = np.array([-1e-8, -1e-4], np.float32)
    expected = 1.0507009873554805 * 1.6732632423543772 * np.expm1(x.astype(np.float64))
    np.testing.assert_allclose(dlc.function("fn f(x) = selu(x)", "f", target=target)(x), expected, rtol=2e-7)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_logarithm_of_one_less_something_small(dtype: str, target: str) -> None:
    function = dlc.function("fn f(x) = log(1 - x)", "f", dtype=dtype, target=target)
    x = in_type([1e-12, -1e-9, 0, 0.5, 1, 2], dtype)
    with np.errstate(all="ignore"):
        expected = np.log1p(-x.astype(np.float64))
    np.testing.assert_allclose(function(x), expected, rtol=2e-7)
