"""The inputs that a program requests of the loader, in NumPy's terms: element type and shape of one row of each."""

from __future__ import annotations

import numpy as np

from compiler.driver import Array, Cut, Cuts, DataSource, Fold, InputSpec, PartSource, SettingValue
from compiler.errors.diagnostics import DataError
from compiler.types import BatchExtent, DType, numpy_dtype

__all__ = [
    "Array",
    "Cut",
    "Cuts",
    "DataSource",
    "Fold",
    "InputSpec",
    "PartSource",
    "SettingValue",
    "dtype_of",
    "row_shape",
]


def dtype_of(spec: InputSpec) -> np.dtype[np.generic]:
    """The NumPy type of the array that the loader delivers."""
    if spec.type.dtype is DType.BF16:
        raise DataError(
            f"`{spec.name}` is declared bf16, which data files cannot hold", str(spec.span), fix="declare it f32"
        )
    return numpy_dtype(spec.type.dtype)


def row_shape(spec: InputSpec) -> tuple[int, ...]:
    """The shape of one row: all extents but the first, which must be the batch."""
    if not spec.type.shape or spec.type.shape[0] != BatchExtent(1):
        message = f"`{spec.name}: {spec.type}` does not begin with `batch`, so rows of data cannot be fed to it"
        raise DataError(message, str(spec.span), fix=f"declare it as `{spec.name}: {spec.type.dtype.value}[batch, …]`")
    return tuple(e for e in spec.type.shape[1:] if isinstance(e, int))
