"""`scatter_add` of tensors that no kernel computes: counted indices, drawn and constant parts."""

from __future__ import annotations

import numpy as np
import pytest

import dlc

TEXT = """
model M {
    input x: f32[batch, 2]
    total = scatter_add(x, arange(batch), 6)
    ones_of = scatter_add(ones(batch, 2), arange(batch), 6)
    output y = x @ total.T
    output n = x @ ones_of.T
}
"""


@pytest.mark.parametrize("target", ["native", "reference"])
def test_rows_are_added_at_their_numbers(target: str) -> None:
    x = np.random.default_rng(2).random((5, 2), dtype=np.float32)
    found = dlc.loads(TEXT, target=target).predict({"x": x})
    placed, ones = np.zeros((6, 2), np.float32), np.zeros((6, 2), np.float32)
    placed[:5], ones[:5] = x, 1
    np.testing.assert_allclose(found["y"], x @ placed.T, rtol=1e-6)
    np.testing.assert_allclose(found["n"], x @ ones.T, rtol=1e-6)
