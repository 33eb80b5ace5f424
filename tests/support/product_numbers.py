"""Operands of products, drawn: usual numbers, and those of all sizes. A training whose products can be rounded."""

from __future__ import annotations

import numpy as np

from compiler.interface import Array

WIDE = """
model Wide(width = 48) {
    input x: f32[batch, 24]
    output y = x |> dense(width) |> tanh |> dense(width) |> tanh |> dense(8)
}

train Wide {
    data = npz("rows.npz")
    validation = 0.25
    target z: f32[batch, 8]
    loss = mean((y - z) ^ 2)
    optimizer = adam(lr = 0.01)
    precision = PRECISION
    batch = 32
    epochs = 3
}
"""


def plain(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.standard_normal(shape).astype(np.float32)


def extreme(random: np.random.Generator, shape: tuple[int, ...], share: float = 0.01) -> Array:
    """Numbers of all sizes, whose products are subnormal or overflow; a share of them zeros, infinite ones and NaN."""
    found = (random.standard_normal(shape) * 10.0 ** random.integers(-24, 20, shape)).astype(np.float32)
    special = [0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 1.1754943e-38, 3.4028235e38, -3.39e38]
    chosen = random.random(shape) < share
    return np.where(chosen, random.choice(np.array(special, np.float32), shape), found)
