"""Types of arrays are written in the words of the language."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.types import DType, array_type, numpy_dtype, word_of
from runtime.analysis.examined.samples import described


@pytest.mark.parametrize("dtype", [dtype for dtype in DType if dtype is not DType.BF16])
def test_every_type_has_its_word(dtype: DType):
    assert word_of(numpy_dtype(dtype)) == dtype.value


def test_arrays_and_rows_are_described_in_these_words():
    assert array_type(np.zeros((2, 3), np.uint8)) == "u8[2, 3]"
    assert array_type(np.zeros(4)) == "f64[4]"
    assert word_of(np.dtype(np.complex64)) == "complex64", "a type that the language has not"
    assert described(np.zeros((2, 3), np.float32)) == "f32[2, 3] from 0 to 0, mean 0"
