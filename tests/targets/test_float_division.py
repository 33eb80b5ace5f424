"""`%` and `//` of floats are those of NumPy to the bit, however far apart the operands, on every machine."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pytest
from native_functions import same_bits

from compiler.errors.diagnostics import Source, UsageError
from compiler.interface import Options
from compiler.machine import CHOICES
from compiler.programs.functions import compiled_function
from compiler.targets.llvm.host import machine_of

Array = np.ndarray[Any, Any]
Dtype = Literal["f32", "f64"]
TEXTS = {"mod": "fn f(x, y) = x % y", "floordiv": "fn f(x, y) = x // y"}
NUMPY = {"mod": np.mod, "floordiv": np.floor_divide}
KINDS = {"f32": (np.float32, np.uint32), "f64": (np.float64, np.uint64)}


def runs(machine: str) -> bool:
    try:
        machine_of(machine)
    except UsageError:
        return False
    return True


def operands(dtype: Dtype) -> tuple[Array, Array]:
    """Pairs of special numbers, of any bits, of numbers of one size, of whole ones."""
    kind, bits = KINDS[dtype]
    random, info = np.random.default_rng(0), np.finfo(kind)
    usual = (0.0, 0.1, 0.5, 0.7, 1.0, 2.5, 3.0, 7.0, 1e8, 1e17, np.inf, np.nan)
    limits = (info.max, info.tiny, info.smallest_subnormal, info.tiny * 1.75, 1 + info.eps, 1 - info.epsneg)
    special = np.array([s * m for m in (*usual, *limits) for s in (1, -1)], kind)
    any_bits = [random.integers(0, np.iinfo(bits).max, 4000, dtype=bits).view(kind) for _ in "xy"]
    near, far = random.normal(0, 100, 4000).astype(kind), random.normal(0, 1e-12, 4000).astype(kind)
    whole = [random.integers(-n, n, 4000).astype(kind) for n in (50, 9)]
    x, y = (grid.ravel() for grid in np.meshgrid(special, special))
    return (
        np.concatenate([x, any_bits[0], near, near, whole[0]]),
        np.concatenate([y, any_bits[1], far, near[::-1], whole[1]]),
    )


@pytest.mark.parametrize("machine", CHOICES)
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("name", TEXTS)
def test_every_machine_divides_as_numpy(name: str, dtype: Dtype, machine: str) -> None:
    if not runs(machine):
        pytest.skip("this processor has another instruction set")
    x, y = operands(dtype)
    function = compiled_function(Source("f.dl", TEXTS[name]), "f", {}, Options(dtype=dtype, machine=machine))
    with np.errstate(all="ignore"):
        expected = NUMPY[name](x, y)
    found = function(x, y)
    assert isinstance(found, np.ndarray)
    wrong = ~((found == expected) | (np.isnan(found) & np.isnan(expected)))
    assert not wrong.any(), (x[wrong][:5], y[wrong][:5], found[wrong][:5], expected[wrong][:5])
    assert same_bits(found, expected)


@pytest.mark.parametrize(("dtype", "digits", "size"), [("f32", 21, 1.0), ("f32", 21, 1e-40), ("f64", 50, 1.0)])
def test_floors_are_exact_up_to_a_size(dtype: Dtype, digits: int, size: float) -> None:
    """By fractions, also of divisors that are subnormal."""
    random, kind = np.random.default_rng(1), KINDS[dtype][0]
    y = (random.uniform(1, 9, 4000) * size).astype(kind)
    x = (y * random.uniform(0.5, 1, 4000) * 2.0 ** random.integers(0, digits, 4000)).astype(kind)
    exact = [math.floor(Fraction(float(a)) / Fraction(float(b))) for a, b in zip(x, y, strict=True)]
    found = compiled_function(Source("f.dl", TEXTS["floordiv"]), "f", {}, Options(dtype=dtype))(x, y)
    assert isinstance(found, np.ndarray)
    assert found.astype(object).tolist() == exact
    assert max(exact) > 2 ** (digits - 2)


@pytest.mark.parametrize("target", ["native", "reference"])
def test_the_slope_of_a_remainder_takes_the_exact_quotient(target: str) -> None:
    """0.7 / 0.1 rounds to 7 in f32, but 0.1 fits 6 times into 0.7 there."""
    function = compiled_function(Source("f.dl", TEXTS["mod"]), "f", {}, Options(target=target))
    x, y = np.array([0.7, 7.5, -1.0], np.float32), np.array([0.1, 2.0, np.inf], np.float32)
    of_x, of_y = function.gradient(x, y)
    assert of_x.tolist() == [1, 1, 1]
    assert of_y.tolist() == [-6, -3, 1]
