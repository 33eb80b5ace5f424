"""A small classifier of points, and twelve of them."""

from __future__ import annotations

import numpy as np

RINGS = """model Rings(hidden = 4) {
    input point: f32[batch, 2]
    output logits = point |> dense(hidden) |> relu |> dense(2)
}

train Rings {
    target ring: i32[batch] in 0..2
    loss = cross_entropy(logits, ring)
    metrics = [accuracy(logits, ring)]
    optimizer = adam(lr = 0.01)
    epochs = 2
    batch = 4
}
"""
POINTS = {"point": np.arange(24, dtype=np.float32).reshape(12, 2), "ring": np.arange(12, dtype=np.int32) % 2}
