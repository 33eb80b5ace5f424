"""How close results must be: every tolerance of the tests of graphs stands here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

# Relative to the largest element of what is compared: a pass may change the order of a sum and the form of a quotient.
_RELATIVE = {"f8": 1e-10, "f4": 2e-5, "f2": 0.0}  # nothing is computed in f16


def assert_same(name: str, found: Array, expected: Array) -> None:
    """Equal shapes and types; equal integers and booleans; floats within rounding, NaN and infinities in place."""
    assert found.shape == expected.shape, f"{name}: shape {found.shape}, expected {expected.shape}"
    assert found.dtype == expected.dtype, f"{name}: type {found.dtype}, expected {expected.dtype}"
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected, err_msg=name)
        return
    finite = np.abs(expected[np.isfinite(expected)])
    relative = _RELATIVE[expected.dtype.str[1:]]
    scale = max(1.0, float(finite.max())) if finite.size else 1.0
    np.testing.assert_allclose(found, expected, rtol=relative, atol=relative * scale, err_msg=name)


def assert_same_outputs(found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    """The same names, in the same order, with the same contents."""
    assert list(found) == list(expected)
    for name in expected:
        assert_same(name, found[name], expected[name])


def assert_same_bits(found: Array, expected: Array) -> None:
    """Equal numbers, also those of a zero's sign; NaN where NaN is, whatever its bits."""
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found) | np.isnan(found), np.signbit(expected) | np.isnan(expected))
