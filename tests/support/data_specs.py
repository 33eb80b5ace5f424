"""Specifications and sources of data without a program around them, and small files to read."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np

from compiler.errors.diagnostics import Source, Span
from compiler.types import BatchExtent, DType, TensorType
from runtime.data.specs import DataSource, InputSpec


def spec(
    name: str,
    dtype: str = "f32",
    row: tuple[int, ...] = (),
    *,
    target: bool = False,
    low: int | None = None,
    high: int | None = None,
) -> InputSpec:
    return InputSpec(name, TensorType(DType(dtype), (BatchExtent(), *row)), target, low, high, place())


def source(path: Path | str, **options: Any) -> DataSource:
    path = Path(path)
    ending = path.name.removesuffix(".gz").rpartition(".")[2]
    return source_of(ending if ending in ("csv", "npz", "npy") else "idx", path, **options)


def source_of(format_name: str, path: Path, **options: Any) -> DataSource:
    return DataSource(format_name, str(path), tuple(options.items()), place())


def place(folder: Path = Path("/nowhere")) -> Span:
    return Span(Source(str(folder / "model.dl"), ""), 3, 5, 3, 9)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    code = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}[array.dtype.name]
    head = struct.pack(">HBB", 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_digits(folder: Path, train: int = 12, test: int = 5) -> Path:
    """An idx folder with labels 0, 1, 2, … and images that hold their row number."""
    folder.mkdir(exist_ok=True)
    for prefix, rows in (("train", train), ("t10k", test)):
        images = np.broadcast_to(np.arange(rows, dtype=np.uint8)[:, None, None], (rows, 4, 3)).copy()
        labels = (np.arange(rows) % 10).astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return folder
