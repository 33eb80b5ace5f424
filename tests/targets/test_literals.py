"""Kernels that differ only in a number of the text: each keeps its own, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

import dlc

FILLS = (0.0, -0.0, 0.25, 1.0, -1.0, 0.1, 1e30, 1e-30, float("inf"))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("order", [1, -1])
def test_kernels_of_one_form_keep_their_numbers(dtype: str, order: int) -> None:
    numbers = FILLS[::order]
    text = f"fn scaled(x) = {', '.join('inf * x' if n == np.inf else f'{n!r} * x' for n in numbers)}"
    x = np.array([1, -1, 2], {"f32": np.float32, "f64": np.float64}[dtype])
    found = dlc.function(text, "scaled", dtype=dtype)(x)
    for number, array in zip(numbers, found, strict=True):
        assert array.tobytes() == (x.dtype.type(number) * x).tobytes()


def test_parameters_of_one_shape_start_at_their_own_numbers() -> None:
    text = "model M {\n    input x: f32[batch, 5]\n    output y = x |> dense(3) |> prelu |> prelu(0.5) |> batch_norm\n}"
    starts = {path: values.tolist() for path, values in dlc.loads(text).parameters.items() if values.ndim == 1}
    assert [starts[f"y.{path}"][0] for path in ("dense.b", "prelu.alpha", "prelu_2.alpha", "batch_norm.gamma")] == [
        0.0,
        0.25,
        0.5,
        1.0,
    ]


def test_a_zero_keeps_its_sign_beside_the_other() -> None:
    x = np.array([1, -1], np.float32)
    chosen = dlc.function("fn f(x) = where(x > 0, 0.0, -0.0)", "f")(x)
    assert np.signbit(chosen).tolist() == [False, True]
