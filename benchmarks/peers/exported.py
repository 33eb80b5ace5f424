"""Common code of the peers that run an exported model: its inputs, and the check of its outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from catalogue import Array, Entry, make_batch


def feed(entry: Entry, batch: int) -> dict[str, Array]:
    """The inputs by the names and types of the export: f32, and tokens as i64."""
    inputs, _ = make_batch(entry, batch)
    return {
        f"input{index}": array if array.dtype == np.float32 else array.astype(np.int64)
        for index, array in enumerate(inputs)
    }


def check(logits: Array, path: Path) -> None:
    """Raises AssertionError unless the logits are those that PyTorch left beside the model at `path`."""
    np.testing.assert_allclose(logits, np.load(path.with_suffix(".npy")), rtol=1e-3, atol=1e-4)
