"""A compiled model: predictions by the shared library that lies beside this file, with NumPy alone."""

from __future__ import annotations

import ctypes
import json
import threading
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

Array: TypeAlias = np.ndarray[Any, Any]

FOLDER = Path(__file__).parent
TYPES: dict[str, type[np.generic]] = {
    **{"f16": np.float16, "f32": np.float32, "f64": np.float64, "bool": np.bool_},
    **{"i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64},
    **{"u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64},
}
ALIGNMENT = 64


class Model:
    """Predicts any number of rows, `rows` of them in a call of the library. Threads take turns with its memory.

    `inputs` and `outputs` say of each array its name, its dtype and its shape, in which `batch` stands for the rows
    (`2 * batch` for two of it for each row).
    `preparation` says how the training data became the numbers of the inputs (means and deviations, words), or is None.
    """

    def __init__(self, rows: int = 32) -> None:
        manifest: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
        self.inputs: list[dict[str, Any]] = manifest["functions"]["model_predict"]["inputs"]
        self.outputs: list[dict[str, Any]] = manifest["functions"]["model_predict"]["outputs"]
        self.preparation: dict[str, Any] | None = manifest["preparation"]
        self._library = ctypes.CDLL(str(FOLDER / "libmodel.so"))
        self._library.model_memory.restype = ctypes.c_int64
        self._library.model_error_text.restype = ctypes.c_char_p
        size = self._library.model_memory(ctypes.c_int64(rows))
        if size == 0:
            raise ValueError(f"a call cannot have {rows} rows")
        self._rows, self._lock = rows, threading.Lock()
        self._block = np.zeros(size + ALIGNMENT, np.uint8)
        start = self._block.ctypes.data
        self._memory = ctypes.c_void_p(start + -start % ALIGNMENT)
        numbers = (ctypes.c_int64(size), ctypes.c_int64(rows))
        self._check(self._library.model_init_abi(ctypes.c_int64(manifest["abi"]), self._memory, *numbers))

    def predict(self, **inputs: ArrayLike) -> dict[str, Array]:
        """Each output by its name, with a row for each row of the inputs, which are given by their names.

        Raises ValueError for a wrong name, type, shape or number of rows.
        """
        names = [item["name"] for item in self.inputs]
        if {*inputs} != {*names}:
            raise ValueError(f"the inputs are {', '.join(names)}, not {', '.join(inputs) or 'none'}")
        given = [_checked(item, inputs[item["name"]]) for item in self.inputs]
        rows = len(given[0])
        if any(len(array) != rows for array in given):
            raise ValueError(f"the inputs have {', '.join(str(len(array)) for array in given)} rows")
        made = [
            np.zeros([n if isinstance(n, int) else rows * item["rows"] for n in item["shape"]], TYPES[item["dtype"]])
            for item in self.outputs
        ]
        with self._lock:
            for first in range(0, rows, self._rows):
                last = min(rows, first + self._rows)
                parts = [array[first:last] for array in given]
                for item, array in zip(self.outputs, made, strict=True):
                    parts.append(array[first * item["rows"] : last * item["rows"]] if item["rows"] else array)
                places = [ctypes.c_void_p(part.ctypes.data) for part in parts]
                self._check(self._library.model_predict(self._memory, ctypes.c_int64(last - first), *places))
        return {item["name"]: array for item, array in zip(self.outputs, made, strict=True)}

    def _check(self, code: int) -> None:
        if code:
            raise RuntimeError(self._library.model_error_text(code).decode())


def _checked(item: dict[str, Any], value: ArrayLike) -> Array:
    """A dense array of the input's type and shape. Integers and floats that keep their value are converted."""
    array, dtype = np.asarray(value), np.dtype(TYPES[item["dtype"]])
    if list(array.shape[1:]) != item["shape"][1:] or not array.ndim:
        raise ValueError(f"{item['name']} has the shape {item['shape']}, not {list(array.shape)}")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{item['name']} is of {item['dtype']}, not of {array.dtype}")
    with np.errstate(invalid="ignore", over="ignore"):
        converted: Array = np.ascontiguousarray(array, dtype)
    is_held = np.isfinite(converted) | ~np.isfinite(array) if dtype.kind == "f" else converted == array
    if not is_held.all():
        raise ValueError(f"{item['name']} is of {item['dtype']}, which does not hold all numbers that are given")
    if item["low"] is not None and array.size and not item["low"] <= array.min() <= array.max() < item["high"]:
        raise ValueError(f"{item['name']} is in {item['low']}..{item['high']}, not in {array.min()}..{array.max() + 1}")
    return converted
