"""Predictions as JSON lines, one object for each row, or as an npz file of arrays."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from compiler.driver import Array
from runtime.support.files import json_text, write_output

FORMATS = (".npz", ".jsonl")


def json_lines(arrays: Mapping[str, Array]) -> Iterator[str]:
    """One line a row: `{"logits": [0.1, 2.5], "label": "cat"}`. A number that is not finite becomes null."""
    columns = {name: _shortest(values).tolist() for name, values in arrays.items()}
    for row in range(min(map(len, columns.values()))):
        yield json_text({name: values[row] for name, values in columns.items()})


def write_predictions(path: Path, arrays: Mapping[str, Array]) -> None:
    """Put the file in place in one step, in the format of its ending. Raises UsageError, OSError."""
    if path.suffix == ".npz":
        content = npz_bytes(arrays)
    else:
        content = "".join(line + "\n" for line in json_lines(arrays)).encode()
    write_output(path, content)


def npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    """The content of an npz file. `np.savez` takes the names as its own arguments, and so not every name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def _shortest(values: Array) -> Array:
    """The f64 whose shortest text is that of the f32, so that 0.1 is printed as 0.1; NaN and infinity become None."""
    if values.dtype.kind != "f":
        return values
    wide = values.astype(np.str_).astype(np.float64) if values.dtype == np.float32 else values
    spoilt = ~np.isfinite(wide)
    if bool(spoilt.any()):
        wide = wide.astype(np.object_)
        wide[spoilt] = None
    return wide
