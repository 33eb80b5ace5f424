"""Every conversion between two element types, at extreme numbers: a graph of all, and the results that NumPy gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.ops.elementwise import Cast
from compiler.types import DType, TensorType, numpy_dtype

Array: TypeAlias = np.ndarray[Any, Any]
TYPES = tuple(dtype for dtype in DType if dtype is not DType.BF16)
PAIRS = tuple((source, target) for source in TYPES for target in TYPES)

_POWERS = (7, 8, 11, 15, 16, 24, 31, 32, 53, 63, 64)  # ends of ranges, and of what floats hold exactly
_WHOLE = (0, 1, 2, 3, 2049, 2051, 65504, 65519, 65520, 65521, *(2**k + d for k in _POWERS for d in (-1, 0, 1, 3, 1025)))
_EXTREME = (1e-45, 1e-40, 1e-7, 3.4e38, 1e300, 1e-300, 1e19, 0.5, 1.5, 2.5, 127.5, 255.9, 0.9, 32767.9, 65519.996)
# midpoints of neighbouring f16, and what lies a little above and below: in f32, these are the midpoints themselves
_MIDDLES = tuple(
    m + d for m in (1 + 2.0**-11, 1 + 3 * 2.0**-11, 65520.0, 2.0**-14 - 2.0**-25) for d in (0, 1e-12, -1e-12)
)
_TINY = tuple(k * 2.0**-25 * (1 + d) for k in (1, 2, 3, 5) for d in (0, 1e-12, -1e-12, 1e-4, -1e-4))


def extremes(dtype: DType) -> Array:
    """Numbers of a type at which conversions differ; of f16, all that there are."""
    kind = numpy_dtype(dtype)
    if dtype is DType.F16:
        return np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    if not dtype.is_float:
        low, high = dtype.limits
        return np.array([n for whole in _WHOLE for n in (whole, -whole) if low <= n <= high] or [0, 1], kind)
    known = (*map(float, _WHOLE), *_EXTREME, *_MIDDLES, *_TINY, np.inf, np.nan)
    random = np.random.default_rng(0)
    drawn = np.ldexp(random.normal(size=2000), random.integers(-28, 18, 2000))
    with np.errstate(over="ignore", under="ignore"):
        return np.array([*known, *(-n for n in known), *drawn], np.float64).astype(kind)


def all_conversions() -> Graph:
    """An input for each type, such as `f16`, and an output for each pair, such as `f16 to i8`."""
    builder = GraphBuilder("conversions")
    inputs = {d: builder.input(d.value, Role.DATA, TensorType(d, extremes(d).shape)) for d in TYPES}
    for source, target in PAIRS:
        builder.output(f"{source.value} to {target.value}", Role.OUTPUT, builder.emit(Cast(target), inputs[source]))
    return builder.build()


def given() -> dict[str, Array]:
    return {dtype.value: extremes(dtype) for dtype in TYPES}


def expected(source: DType, target: DType) -> Array:
    """By NumPy; a float that does not fit an integer type is the nearest number that does, by Python's integers."""
    values = extremes(source)
    if not source.is_float or target.is_float or target is DType.BOOL:
        with np.errstate(over="ignore", under="ignore"):
            return values.astype(numpy_dtype(target))
    low, high = target.limits
    cut = (0 if v != v else int(min(max(v, -1e40), 1e40)) for v in values.astype(float).tolist())
    return np.array([min(max(v, low), high) for v in cut], numpy_dtype(target))


def assert_converted(found: Mapping[str, Array]) -> None:
    """The results of all conversions, to the bit; NaN stays NaN."""
    for source, target in PAIRS:
        name = f"{source.value} to {target.value}"
        np.testing.assert_array_equal(found[name], expected(source, target), err_msg=name, strict=True)
        if target.is_float:
            is_zero = expected(source, target) == 0
            signs = np.signbit(found[name][is_zero]), np.signbit(expected(source, target)[is_zero])
            np.testing.assert_array_equal(*signs, err_msg=name)
