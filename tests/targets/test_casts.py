"""A float that does not fit an integer type becomes the nearest that does, on every machine and as a constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compiler.errors.diagnostics import Source, UsageError
from compiler.interface import Options
from compiler.machine import CHOICES
from compiler.ops.elementwise import Cast
from compiler.programs.functions import compiled_function
from compiler.targets.llvm.host import machine_of
from compiler.types import DType

Array = np.ndarray[Any, Any]
VALUES = (0.0, -0.0, 0.9, -0.9, 1.5, 254.9, 255.0, 256.0, 300.7, -1.0, -300.2, 2.0**31, -(2.0**31), 3e9, -3e9)
FAR = (2.0**63, -(2.0**63), 1e30, -1e30, np.inf, -np.inf, np.nan)
INTEGERS = {DType.U8: np.uint8, DType.I32: np.int32, DType.I64: np.int64}
FLOATS = {DType.F32: np.float32, DType.F64: np.float64}


def wanted(values: Array, dtype: DType) -> Array:
    """By the integers of Python, which have no size."""
    range_ = np.iinfo(INTEGERS[dtype])
    cut = (0 if v != v else min(max(v, -1e40), 1e40) for v in values.astype(float))
    return np.array([min(max(int(v), range_.min), range_.max) for v in cut], INTEGERS[dtype])


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("target", INTEGERS)
def test_the_meaning_of_a_cast_saturates(source: DType, target: DType) -> None:
    values = np.array((*VALUES, *FAR), FLOATS[source])
    np.testing.assert_array_equal(Cast(target).evaluate((values,), 1)[0], wanted(values, target))


@pytest.mark.parametrize("machine", CHOICES)
@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("target", INTEGERS)
def test_every_machine_saturates(source: DType, target: DType, machine: str) -> None:
    try:
        machine_of(machine)
    except UsageError:
        pytest.skip("this processor has another instruction set")
    values = np.array((*VALUES, *FAR) * 3, FLOATS[source])  # whole vectors, and a rest
    text = Source("f.dl", f"fn f(x) = cast(x, {target.value})")
    dtype = "f64" if source is DType.F64 else "f32"
    function = compiled_function(text, "f", {}, Options(machine=machine, dtype=dtype))
    np.testing.assert_array_equal(function(values), wanted(values, target))


@pytest.mark.parametrize("number", [300.7, -7.5, 41.9])
def test_a_constant_is_cast_as_a_value_is(number: float) -> None:
    text = Source("f.dl", f"fn f(x) = cast(cast(zeros(1) + {number}, u8), f32) - cast(cast(x, u8), f32)")
    found = compiled_function(text, "f", {}, Options())(np.array([number], np.float32))
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [0.0]
