"""The f32 functions against f64 over all of f32's bit patterns, in steps.

`tests/stress/sweep_functions.py` goes through every one of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from f32_accuracy import REFERENCES, SPECIAL, check, check_power, patterns
from native_functions import FUNCTIONS, native_function, same_bits

from compiler.machine import AVX2, AVX512, Machine
from compiler.targets.llvm.host import detect
from compiler.types import DType

STEP = 9973  # a prime, so that all low bits vary


@pytest.fixture(scope="module")
def host() -> Machine:
    return detect()


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with np.errstate(all="ignore"):
        yield


def test_every_function_has_a_reference() -> None:
    assert {*REFERENCES, "pow"} == set(FUNCTIONS)


@pytest.mark.parametrize("name", REFERENCES)
def test_accuracy_over_all_exponents(name: str, host: Machine) -> None:
    function = native_function(name, DType.F32, 16, host)
    x = np.concatenate([SPECIAL, patterns(0, STEP, 2**32 // STEP), np.linspace(-20, 20, 100_003).astype(np.float32)])
    check(function, name, x)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "erf", "exp"])
def test_accuracy_where_it_is_worst(name: str, host: Machine) -> None:
    function = native_function(name, DType.F32, 16, host)
    low, high = {"sigmoid": (-17.0, -16.5), "tanh": (0.5, 0.52), "erf": (0.21, 0.23), "exp": (-31.3, -31.1)}[name]
    check(function, name, np.linspace(low, high, 200_001).astype(np.float32))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_scalar_has_the_bits_of_a_lane_on_every_width(name: str, host: Machine) -> None:
    x = np.concatenate([SPECIAL, patterns(17, STEP * 40, 10_001), np.linspace(-20, 20, 5_003).astype(np.float32)])
    y = x[::-1].copy()
    expected = native_function(name, DType.F32, 16, host)(x, y)
    for lanes in (1, 4, 8):
        assert same_bits(native_function(name, DType.F32, lanes, host)(x, y), expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_avx2_and_avx512_agree_in_every_bit(name: str, host: Machine) -> None:
    if host.name != "avx512":
        pytest.skip("this processor has no AVX-512")
    x = np.concatenate([SPECIAL, patterns(5, STEP * 40, 10_001)])
    y = np.linspace(-9, 9, len(x)).astype(np.float32)
    wide = native_function(name, DType.F32, 16, AVX512)(x, y)
    assert same_bits(native_function(name, DType.F32, 8, AVX2)(x, y), wide)


def test_power_of_all_special_pairs(host: Machine) -> None:
    more = [3.0, -3.0, 2.5, -2.5, 1e30, -1e30, 0.99999994, 1.0000001, 33554431.0, 16777215.0, -16777215.0, -7.0, -0.5]
    values = np.concatenate([SPECIAL, np.array(more, np.float32)])
    x, y = (grid.ravel() for grid in np.meshgrid(values, values))
    check_power(native_function("pow", DType.F32, 16, host), x, y)


def test_power_of_random_pairs(host: Machine) -> None:
    function = native_function("pow", DType.F32, 16, host)
    random, count = np.random.default_rng(0), 100_000
    check_power(function, patterns(1, STEP, count), random.uniform(-9, 9, count).astype(np.float32))
    check_power(function, patterns(2, STEP, count), patterns(3, STEP * 3, count))
    near_one = random.uniform(0.9, 1.1, count).astype(np.float32)
    check_power(function, near_one, random.uniform(-900, 900, count).astype(np.float32))
    negative = -random.lognormal(0, 2, count).astype(np.float32)
    check_power(function, negative, random.integers(-20, 20, count).astype(np.float32))
