"""The f32 functions against f64 over all of f32's bit patterns, in steps; run as a script, over every one of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if __name__ == "__main__":
    root = Path(__file__).parents[2]
    sys.path[:0] = [str(root), str(root / "tests" / "support")]

from native_functions import NativeFunction, flushed, largest_error, native_function, same_bits

from compiler.targets.cpu import math as functions
from compiler.targets.cpu.machine import AVX2, AVX512, Machine, detect
from compiler.types import DType

Array = np.ndarray[Any, Any]
STEP = 9973  # a prime, so that all low bits vary
_MAGNITUDES = (0.0, 1.0, np.inf, 1e-45, 1e-39, 1.1754944e-38, 3.4028235e38, 0.5, 2.0, 16777216.0, 1e-7)
_LIMITS_OF_EXP = (88.72283, 88.72284, -87.33654, -87.33655, -103.98)
SPECIAL = np.array((*_MAGNITUDES, *(-m for m in _MAGNITUDES), *_LIMITS_OF_EXP, np.nan), np.float32)


def erf(x: Array) -> Array:
    return np.fromiter(map(math.erf, x), np.float64, len(x))


REFERENCES: dict[str, tuple[Callable[[Array], Array], float]] = {
    "exp": (np.exp, 1.5),
    "log": (np.log, 1.0),
    "log1p": (np.log1p, 1.5),
    "tanh": (np.tanh, 2.0),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 2.5),
    "erf": (erf, 2.0),
    "sin": (np.sin, 1.6),
    "cos": (np.cos, 1.6),
    "sqrt": (np.sqrt, 0.5),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.5),
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


def sweep(first: int, step: int, count: int) -> Array:
    patterns = (first + step * np.arange(count, dtype=np.uint64)) % 2**32
    return patterns.astype(np.uint32).view(np.float32)


def check(function: NativeFunction, name: str, x: Array) -> None:
    reference, bound = REFERENCES[name]
    got = function(x)
    true = reference(flushed(x))
    error, where = largest_error(got, true)
    assert error <= bound, f"{name}({x[where]!r}) = {got[where]!r}, not {true[where]!r}: {error:.3f} ulp"


def test_every_function_has_a_reference() -> None:
    assert {*REFERENCES, "pow"} == set(functions.FUNCTIONS)


@pytest.mark.parametrize("name", REFERENCES)
def test_accuracy_over_all_exponents(name: str, host: Machine) -> None:
    function = native_function(name, DType.F32, 16, host, host, flush=True)
    x = np.concatenate([SPECIAL, sweep(0, STEP, 2**32 // STEP), np.linspace(-20, 20, 100_003).astype(np.float32)])
    check(function, name, x)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "erf", "exp"])
def test_accuracy_where_it_is_worst(name: str, host: Machine) -> None:
    function = native_function(name, DType.F32, 16, host, host, flush=True)
    low, high = {"sigmoid": (-17.0, -16.5), "tanh": (0.5, 0.52), "erf": (0.21, 0.23), "exp": (-31.3, -31.1)}[name]
    check(function, name, np.linspace(low, high, 200_001).astype(np.float32))


@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_a_scalar_has_the_bits_of_a_lane_on_every_width(name: str, host: Machine) -> None:
    x = np.concatenate([SPECIAL, sweep(17, STEP * 40, 10_001), np.linspace(-20, 20, 5_003).astype(np.float32)])
    y = x[::-1].copy()
    expected = native_function(name, DType.F32, 16, host, host)(x, y)
    for lanes in (1, 4, 8):
        assert same_bits(native_function(name, DType.F32, lanes, host, host)(x, y), expected)


@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_avx2_and_avx512_agree_in_every_bit(name: str, host: Machine) -> None:
    if host.name != "avx512":
        pytest.skip("this processor has no AVX-512")
    x = np.concatenate([SPECIAL, sweep(5, STEP * 40, 10_001)])
    y = np.linspace(-9, 9, len(x)).astype(np.float32)
    wide = native_function(name, DType.F32, 16, AVX512, AVX512, flush=True)(x, y)
    assert same_bits(native_function(name, DType.F32, 8, AVX2, AVX2, flush=True)(x, y), wide)


def powers(x: Array, y: Array) -> Array:
    return np.power(flushed(x).astype(np.longdouble), flushed(y).astype(np.longdouble))


def check_power(function: NativeFunction, x: Array, y: Array) -> None:
    got, true = function(x, y), powers(x, y)
    error, where = largest_error(got, true)
    assert error <= 1.5, f"pow({x[where]!r}, {y[where]!r}) = {got[where]!r}, not {true[where]!r}: {error:.3f} ulp"


def test_power_of_all_special_pairs(host: Machine) -> None:
    more = [3.0, -3.0, 2.5, -2.5, 1e30, -1e30, 0.99999994, 1.0000001, 33554431.0, 16777215.0, -16777215.0, -7.0, -0.5]
    values = np.concatenate([SPECIAL, np.array(more, np.float32)])
    x, y = (grid.ravel() for grid in np.meshgrid(values, values))
    check_power(native_function("pow", DType.F32, 16, host, host, flush=True), x, y)


def test_power_of_random_pairs(host: Machine) -> None:
    function = native_function("pow", DType.F32, 16, host, host, flush=True)
    random, count = np.random.default_rng(0), 100_000
    check_power(function, sweep(1, STEP, count), random.uniform(-9, 9, count).astype(np.float32))
    check_power(function, sweep(2, STEP, count), sweep(3, STEP * 3, count))
    near_one = random.uniform(0.9, 1.1, count).astype(np.float32)
    check_power(function, near_one, random.uniform(-900, 900, count).astype(np.float32))
    negative = -random.lognormal(0, 2, count).astype(np.float32)
    check_power(function, negative, random.integers(-20, 20, count).astype(np.float32))


def check_every_bit_pattern(names: list[str]) -> None:
    """All of f32, which takes minutes a function: `python tests/targets/test_math_single.py exp`."""
    machine = detect()
    for name in names:
        function = native_function(name, DType.F32, 16, machine, machine, flush=True)
        for first in range(0, 2**32, 2**22):
            check(function, name, sweep(first, 1, 2**22))
        print(f"{name}: every f32 within {REFERENCES[name][1]} ulp")


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        check_every_bit_pattern(sys.argv[1:] or list(REFERENCES))
