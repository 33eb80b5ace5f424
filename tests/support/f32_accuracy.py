"""The f32 functions beside NumPy in f64: what each may be off by, in ulp of the true value, and operands to try."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from native_functions import NativeFunction, largest_error

Array = np.ndarray[Any, Any]

BOUND_OF_POWER = 1.5
_MAGNITUDES = (0.0, 1.0, np.inf, 1e-45, 1e-39, 1.1754944e-38, 3.4028235e38, 0.5, 2.0, 16777216.0, 1e-7)
_LIMITS_OF_EXP = (88.72283, 88.72284, -87.33654, -87.33655, -103.98)
SPECIAL = np.array((*_MAGNITUDES, *(-m for m in _MAGNITUDES), *_LIMITS_OF_EXP, np.nan), np.float32)


def _erf(x: Array) -> Array:
    return np.fromiter(map(math.erf, x), np.float64, len(x))


REFERENCES: dict[str, tuple[Callable[[Array], Array], float]] = {
    "exp": (np.exp, 1.5),
    "expm1": (np.expm1, 2.0),
    "log": (np.log, 1.0),
    "log1p": (np.log1p, 1.5),
    "tanh": (np.tanh, 2.0),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 2.5),
    "erf": (_erf, 2.0),
    "sin": (np.sin, 1.6),
    "cos": (np.cos, 1.6),
    "sqrt": (np.sqrt, 0.5),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.5),
    "floor": (np.floor, 0.0),
    "abs": (np.abs, 0.0),
}


def patterns(first: int, step: int, count: int) -> Array:
    """The numbers whose bits are `first`, `first + step`, …, modulo 2**32."""
    bits = (first + step * np.arange(count, dtype=np.uint64)) % 2**32
    return bits.astype(np.uint32).view(np.float32)


def check(function: NativeFunction, name: str, x: Array) -> tuple[float, np.float32]:
    """The largest error in ulp and its operand; an AssertionError where it exceeds the function's bound."""
    reference, bound = REFERENCES[name]
    got, true = function(x), reference(x.astype(np.float64))
    error, where = largest_error(got, true)
    assert error <= bound, f"{name}({x[where]!r}) = {got[where]!r}, not {true[where]!r}: {error:.3f} ulp"
    return error, x[where]


def check_power(function: NativeFunction, x: Array, y: Array) -> tuple[float, tuple[np.float32, np.float32]]:
    """As `check`, for `x ^ y`."""
    got, true = function(x, y), np.power(x.astype(np.float64), y.astype(np.float64))
    error, where = largest_error(got, true)
    assert error <= BOUND_OF_POWER, (
        f"pow({x[where]!r}, {y[where]!r}) = {got[where]!r}, not {true[where]!r}: {error:.3f} ulp"
    )
    return error, (x[where], y[where])
