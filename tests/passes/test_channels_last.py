"""Views of one tensor in which different axes are the channels: windows of one slide over the channels of another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dlc

RANDOM = np.random.default_rng(0)
BESIDE = (
    "max_pool([4, 5], stride = [2, 1])(x[:, None])",
    "avg_pool([4, 5], stride = [2, 1], padding = [[1, 0], 2], dilation = [1, 2])(x[:, None])",
    "windows(x, [3, 2], stride = [1, 2], dilation = [2, 1], axis = [1, 2])",
    "overlap_add(windows(x, [3, 2], axis = [1, 2]), axis = [1, 2])",
)


@pytest.mark.parametrize("call", BESIDE)
def test_a_convolution_beside_windows_over_its_channels(call: str) -> None:
    """As on the reference target, values and gradients of both operands."""
    text = f"fn f(x: [batch, c, n], A) = mean({call}) + mean(sin(convolve1d(padding = [[3, 2]], dilation = 4)(x, A)))\n"
    x: Any = RANDOM.normal(size=(3, 9, 32)).astype("f4")
    A: Any = RANDOM.normal(size=(4, 9, 6)).astype("f4")
    native, reference = (dlc.function(text, "f", target=target) for target in ("native", "reference"))
    np.testing.assert_allclose(native(x, A), reference(x, A), rtol=1e-4, atol=1e-6)
    for found, wanted in zip(native.gradient(x, A), reference.gradient(x, A), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "call", ["conv3(x, A)", "max_pool(2, dilation = 2)(x) * mean(conv3(x, A))", "adaptive_max_pool([2, 3, 1])(x)"]
)
def test_volumes(call: str) -> None:
    text = (
        f"fn conv3(x, A) = convolve3d([1, 2, 1], [[1, 0], 1, 2])(x, A)\nfn f(x, A) = mean(sin({call})) + 0 * sum(A)\n"
    )
    x: Any = RANDOM.normal(size=(2, 3, 5, 6, 4)).astype("f4")
    A: Any = RANDOM.normal(size=(2, 3, 2, 3, 17)).astype("f4")
    native, reference = (dlc.function(text, "f", target=target) for target in ("native", "reference"))
    np.testing.assert_allclose(native(x, A), reference(x, A), rtol=1e-4, atol=1e-6)
    for found, wanted in zip(native.gradient(x, A), reference.gradient(x, A), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-6)
