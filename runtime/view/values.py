"""Arrays at a line of the text as figures and as small pictures."""

from __future__ import annotations

import base64
import math

import numpy as np

from compiler.driver import Array
from runtime.support.files import JsonObject, JsonValue

_BINS = 32  # of a histogram
_MOST_MAPS = 64  # pictures of one value
_MOST_SIDE = 256  # elements along a side of a picture
_LEAST_SIDE = 2


def value_to_json(array: Array, type_: str) -> JsonObject:
    """The figures of an array, and its pictures where it has two axes or more. The first axis is that of the batch."""
    numbers = array.astype(np.float64).ravel()
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    counts, edges = np.histogram(finite, _BINS, (low, high if high > low else low + 1.0))
    return {
        "type": type_,
        "low": low,
        "high": high,
        "mean": float(finite.mean()) if len(finite) else 0.0,
        "deviation": float(finite.std()) if len(finite) else 0.0,
        "zeros": int((finite == 0).sum()),
        "not_finite": len(numbers) - len(finite),
        "count": len(numbers),
        "histogram": [int(count) for count in counts],
        "edges": [float(edges[0]), float(edges[-1])],
        **_pictures(array, low, high),
    }


def _pictures(array: Array, low: float, high: float) -> dict[str, JsonValue]:
    """Maps of [1, channels, height, width], a matrix, or a vector as one row; elements are bytes from 0 (`low`) on.

    `missing` has a bit for each element, set where there is no finite number; it is empty where none is set.
    """
    one = array[0] if array.ndim and array.shape[0] == 1 else array
    if one.ndim == 0:
        return {"elements": [_plain(float(one))]}
    maps = one.reshape(-1, *one.shape[-2:]) if one.ndim >= 2 else one.reshape(1, 1, -1)
    if one.ndim == 1 and len(one) <= 24:
        return {"elements": [_plain(float(element)) for element in one]}
    shown = maps[:_MOST_MAPS, :_MOST_SIDE, :_MOST_SIDE].astype(np.float64)
    if one.ndim == 1:
        shown = _folded(one.astype(np.float64))
    scaled = np.nan_to_num((shown - low) / ((high - low) or 1.0), nan=0.0, posinf=1.0, neginf=0.0)
    levels = np.clip(np.round(scaled * 255), 0, 255).astype(np.uint8)
    missing = ~np.isfinite(shown)
    dead = [] if one.ndim < 3 else [k for k, picture in enumerate(maps) if not picture.any()]
    return {
        "maps": len(levels),
        "of": len(maps),
        "height": levels.shape[1],
        "width": levels.shape[2],
        "levels": base64.b64encode(levels.tobytes()).decode(),
        "missing": base64.b64encode(np.packbits(missing).tobytes()).decode() if missing.any() else "",
        "is_picture": array.dtype == np.uint8 and one.ndim == 3 and len(maps) in (1, 3),
        "dead": len(dead),
    }


def _folded(vector: Array) -> Array:
    """A long vector as one picture of rows, the last of them filled up with NaN."""
    width = min(64, max(_LEAST_SIDE, math.ceil(math.sqrt(len(vector)))))
    height = min(_MOST_SIDE, math.ceil(len(vector) / width))
    kept = vector[: height * width]
    return np.concatenate([kept, np.full(height * width - len(kept), np.nan)]).reshape(1, height, width)


def _plain(number: float) -> JsonValue:
    return number if math.isfinite(number) else str(number)
