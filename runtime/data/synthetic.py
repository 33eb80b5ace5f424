"""Made-up data of the declared shapes, types and ranges, for measuring speed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtime.data.specs import Array, InputSpec, dtype_of, row_shape


def synthetic(specs: Sequence[InputSpec], rows: int, seed: int) -> dict[str, Array]:
    """Floats are standard normal. Integers are uniform in their range; without one, u8 is 0..256 and others 0..2."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed & ((1 << 64) - 1), 0], np.uint64)))
    return {spec.name: _array(spec, rows, generator) for spec in specs}


def _array(spec: InputSpec, rows: int, generator: np.random.Generator) -> Array:
    shape, dtype = (rows, *row_shape(spec)), dtype_of(spec)
    if dtype == np.float32:
        return generator.standard_normal(shape, np.float32)
    if dtype.kind == "f":
        return generator.standard_normal(shape)
    low = spec.low if spec.low is not None else 0
    high = spec.high if spec.high is not None else low + (256 if dtype == np.uint8 else 2)
    return generator.integers(low, high, shape, np.int64).astype(dtype)
