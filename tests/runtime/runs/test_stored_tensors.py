"""Tensors of a safetensors file that are read when they are asked for, whole or in part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.driver import Array
from compiler.errors.diagnostics import CheckpointError
from runtime.runs.tensor_files import StoredTensors, read_tensors, write_tensors


def test_stretches_are_those_of_the_whole_tensor(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    shapes = {"matrix": (7, 5), "row": (9,), "number": (), "cube": (2, 3, 4), "none": (0, 4), "flat": (3, 0)}
    tensors: dict[str, Array] = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    tensors["steps"] = np.arange(12).reshape(4, 3)
    path = tmp_path / "optimizer.safetensors"
    write_tensors(path, tensors)
    stored, whole = StoredTensors(path), read_tensors(path)
    assert [*stored] == sorted(tensors)
    assert len(stored) == len(tensors)
    path.unlink()
    for name, values in whole.items():
        assert stored.shape(name) == values.shape
        assert stored[name].dtype == values.dtype
        for start in range(values.size + 1):
            for stop in range(start, values.size + 1):
                found = stored.stretch(name, range(start, stop))
                np.testing.assert_array_equal(found, values.reshape(-1)[start:stop])
    assert "other" not in stored


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"\xff" * 20, b"not a file of tensors"])
def test_what_is_no_file_of_tensors_is_a_mistake(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "optimizer.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a whole"):
        StoredTensors(tmp_path / "optimizer.safetensors")
