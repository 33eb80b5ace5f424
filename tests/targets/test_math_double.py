"""The f64 functions against 80-bit numbers, where NumPy has them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from native_functions import FUNCTIONS, largest_error, native_function, same_bits

from compiler.machine import Machine
from compiler.targets.llvm.host import detect
from compiler.types import DType

Array = np.ndarray[Any, Any]
Wide = np.longdouble
RANDOM = np.random.default_rng(0)

pytestmark = pytest.mark.skipif(np.finfo(Wide).nmant < 63, reason="this NumPy has no numbers wider than f64")

_MAGNITUDES = (0.0, 1.0, np.inf, 5e-324, 1e-310, 2.2250738585072014e-308, 1.7976931348623157e308, 0.5, 2.0**53)
_LIMITS_OF_EXP = (709.78, 710.0, -708.5, -720.25, -745.0, -746.0)
SPECIAL = np.array((*_MAGNITUDES, *(-m for m in _MAGNITUDES), *_LIMITS_OF_EXP, np.nan))


def sigmoid(x: Array) -> Array:
    return np.where(x < 0, np.exp(x), Wide(1)) / (1 + np.exp(-np.abs(x)))


def erf(x: Array) -> Array:
    """libm's, which is itself off by up to 1 ulp."""
    return np.fromiter(map(math.erf, x.astype(np.float64)), np.float64, len(x)).astype(Wide)


REFERENCES: dict[str, tuple[Callable[[Array], Array], float]] = {
    "exp": (np.exp, 1.0),
    "expm1": (np.expm1, 2.0),
    "log": (np.log, 1.0),
    "log1p": (np.log1p, 2.0),
    "tanh": (np.tanh, 2.5),
    "sigmoid": (sigmoid, 2.5),
    "erf": (erf, 3.0),
    "sin": (np.sin, 1.6),
    "cos": (np.cos, 1.6),
    "sqrt": (np.sqrt, 0.51),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.6),
    "floor": (np.floor, 0.0),
    "abs": (np.abs, 0.0),
}


@pytest.fixture(scope="module")
def host() -> Machine:
    return detect()


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with np.errstate(all="ignore"):
        yield


def any_numbers(count: int) -> Array:
    return RANDOM.integers(0, 2**64, count, dtype=np.uint64).view(np.float64)


def samples() -> Array:
    small = -np.exp(RANDOM.uniform(-40, 8, 5_000))
    usual = RANDOM.normal(0, 1, 20_000), RANDOM.normal(0, 30, 20_000), RANDOM.lognormal(0, 5, 10_000)
    return np.concatenate([SPECIAL, any_numbers(20_000), *usual, 1 + RANDOM.normal(0, 1e-3, 10_000), small])


def test_every_function_has_a_reference() -> None:
    assert {*REFERENCES, "pow"} == set(FUNCTIONS)


@pytest.mark.parametrize("name", REFERENCES)
def test_accuracy(name: str, host: Machine) -> None:
    reference, bound = REFERENCES[name]
    x = samples()
    if name in ("sin", "cos"):
        x = x[~(np.abs(x) > 2.0**50)]
    got, true = native_function(name, DType.F64, 8, host)(x), reference(x.astype(Wide))
    error, where = largest_error(got, true)
    assert error <= bound, f"{name}({x[where]!r}) = {got[where]!r}, not {true[where]!r}: {error:.3f} ulp"


@pytest.mark.parametrize("name", ["exp", "log", "sqrt"])
def test_subnormals_are_kept(name: str, host: Machine) -> None:
    x = np.linspace(-745, -708.5, 1000) if name == "exp" else np.linspace(5e-324, 2e-308, 1000)
    got, true = native_function(name, DType.F64, 8, host)(x), REFERENCES[name][0](x.astype(Wide))
    assert np.all(np.abs(got - true) <= np.maximum(np.abs(true) * 2.0**-52, 5e-324))


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_angles_too_large_to_mean_anything(name: str, host: Machine) -> None:
    assert np.isnan(native_function(name, DType.F64, 8, host)(np.array([2.0**51, -1e300, np.inf, np.nan]))).all()


def test_power(host: Machine) -> None:
    values = np.concatenate([SPECIAL, [-2.0, 3.0, -3.0, 2.5, 1e30, 2.0**53 + 2, 2.0**52 + 1, -7.0]])
    x, y = (grid.ravel() for grid in np.meshgrid(values, values))
    near_one, close_to_one = RANDOM.uniform(0.9, 1.1, 10_000), 1 + RANDOM.normal(0, 1e-8, 10_000)
    x = np.concatenate([x, any_numbers(10_000), near_one, close_to_one, -RANDOM.lognormal(0, 2, 10_000)])
    wide, huge = RANDOM.uniform(-7000, 7000, 10_000), RANDOM.normal(0, 1e10, 10_000)
    y = np.concatenate([y, RANDOM.uniform(-3, 3, 10_000), wide, huge, RANDOM.integers(-20, 20, 10_000)])
    got = native_function("pow", DType.F64, 8, host)(x, y)
    true = np.power(x.astype(Wide), y.astype(Wide))
    error, where = largest_error(got, true)
    assert error <= 2.0, f"pow({x[where]!r}, {y[where]!r}) = {got[where]!r}, not {true[where]!r}: {error:.3f} ulp"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_scalar_has_the_bits_of_a_lane_on_every_width(name: str, host: Machine) -> None:
    x = samples()[::10]
    y = x[::-1].copy()
    expected = native_function(name, DType.F64, 8, host)(x, y)
    for lanes in (1, 2, 4):
        assert same_bits(native_function(name, DType.F64, lanes, host)(x, y), expected)
