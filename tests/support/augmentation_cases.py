"""Calls of the library's functions for images beside independent NumPy lines. `RANDOM` are those that draw."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from function_case import FunctionCase

Array: TypeAlias = np.ndarray[Any, Any]

_RANDOM = np.random.default_rng(11)
BYTES = _RANDOM.integers(0, 256, (3, 2, 5, 4)).astype(np.uint8)
FLOATS = _RANDOM.normal(size=(2, 3, 4, 5))
_UNITS = np.array([0.0, 0.2, 0.4999, 0.75, 1 - 2.0**-24])
_ROWS = _RANDOM.uniform(-1.5, 5.5, (2, 3, 6))
_COLUMNS = _RANDOM.uniform(-1.5, 6.5, (2, 3, 6))
_DOWN, _RIGHT = np.array([2, 0, -1], np.int32), np.array([-1, 3, 0], np.int32)
_MAP = [_RANDOM.normal(size=2) for _ in range(4)]


def shifted(image: Array, down: Array, right: Array, fill: float = 0) -> Array:
    result = np.full_like(image, fill)
    height, width = image.shape[-2:]
    for n, (d, r) in enumerate(zip(down, right, strict=True)):
        for y in range(height):
            for x in range(width):
                if 0 <= y - d < height and 0 <= x - r < width:
                    result[n, ..., y, x] = image[n, ..., y - d, x - r]
    return result


def interpolated(image: Array, rows: Array, columns: Array, fill: float = 0) -> Array:
    """Bilinear, on an image with a frame of `fill` that is wide enough for every coordinate."""
    frame = 4 + int(max(np.abs(rows).max(), np.abs(columns).max()))
    padded = np.pad(image.astype(float), [(0, 0)] * (image.ndim - 2) + [(frame, frame)] * 2, constant_values=fill)
    result = np.empty((*image.shape[:-2], *rows.shape[1:]))
    for place in np.ndindex(*rows.shape):
        y, x = rows[place] + frame, columns[place] + frame
        top, left = int(np.floor(y)), int(np.floor(x))
        four = padded[place[0], ..., top : top + 2, left : left + 2]
        weights = np.outer((top + 1 - y, y - top), (left + 1 - x, x - left))
        result[(place[0], ..., *place[1:])] = (four * weights).sum((-2, -1))
    return result


def _warped(image: Array, a: Array, b: Array, c: Array, d: Array) -> Array:
    height, width = image.shape[-2:]
    y, x = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    a, b, c, d = (v[:, None, None] for v in (a, b, c, d))
    return interpolated(image, a * y + b * x + (height - 1) / 2, c * y + d * x + (width - 1) / 2)


def _symmetric_beta(u: Array, v: Array) -> Array:
    """One half plus half of t / sqrt(n + t^2), for Student's t with n = 2 alpha degrees of freedom (Bailey, 1994)."""
    n = 0.8
    t = np.sqrt(n * ((1 - u) ** (-2 / n) - 1)) * np.cos(2 * np.pi * v)
    return (1 + t / np.sqrt(n + t**2)) / 2


def _grey(image: Array) -> Array:
    return np.einsum("bchw,c->bhw", image.astype(float), [0.299, 0.587, 0.114])[:, None]


RANDOM = (
    *("random_flip", "random_crop", "random_translation", "random_rotation", "random_scale", "color_jitter", "cutout"),
    *("gaussian_noise", "mixup", "random_as"),
)
AUGMENTATIONS = (
    FunctionCase("random_below", "random_below(4)(u)", {"u": _UNITS}, lambda u: np.array([0, 0, 1, 3, 3])),
    FunctionCase(
        "symmetric_beta", "symmetric_beta(0.4)(u, v)", {"u": _UNITS[:4], "v": _UNITS[::-1][:4]}, _symmetric_beta
    ),
    FunctionCase(
        "symmetric_beta", "symmetric_beta(0.01)(u, v)", {"u": _UNITS[3:], "v": _UNITS[:2]}, lambda u, v: v < 0.25
    ),
    FunctionCase(
        "shifted",
        "shifted(image, d, r)",
        {"image": BYTES, "d": _DOWN, "r": _RIGHT},
        lambda image, d, r: shifted(image, d, r),
    ),
    FunctionCase(
        "shifted",
        "shifted(fill = 7)(image, d, r)",
        {"image": BYTES[:, 0], "d": _DOWN, "r": _RIGHT},
        lambda image, d, r: shifted(image, d, r, 7),
    ),
    FunctionCase(
        "warped",
        "warped(image, a, b, c, d)",
        {"image": FLOATS, **dict(zip("abcd", _MAP, strict=True))},
        _warped,
        ("image",),
    ),
    FunctionCase(
        "interpolated",
        "interpolated(fill = 2)(image, rows, columns)",
        {"image": FLOATS, "rows": _ROWS, "columns": _COLUMNS},
        lambda image, rows, columns: interpolated(image, rows, columns, 2),
        ("image", "rows", "columns"),
    ),
    FunctionCase(
        "interpolated",
        "interpolated(image, rows, columns)",
        {"image": BYTES[:2], "rows": _ROWS, "columns": _COLUMNS},
        lambda image, rows, columns: np.round(interpolated(image, rows, columns)),
    ),
    FunctionCase(
        "pixels",
        "pixels(fill = 9)(image, rows, columns)",
        {"image": BYTES[:2], "rows": np.floor(_ROWS).astype(np.int32), "columns": np.floor(_COLUMNS).astype(np.int32)},
        lambda image, rows, columns: interpolated(image, rows, columns, 9),
    ),
    FunctionCase(
        "over_channels", "over_channels(x, image)", {"x": FLOATS[:, 0], "image": FLOATS}, lambda x, image: x[:, None]
    ),
    FunctionCase("grey", "grey(image)", {"image": FLOATS}, _grey, ("image",)),
    FunctionCase("grey", "grey(image)", {"image": FLOATS[:, 0]}, lambda image: image),
    FunctionCase(
        "blended",
        "blended(x, y, f)",
        {"x": FLOATS, "y": FLOATS[:, :1], "f": np.array([0.5, 1.5])},
        lambda x, y, f: x * f[:, None, None, None] + y * (1 - f[:, None, None, None]),
        ("x", "y", "f"),
    ),
    FunctionCase(
        "as_image",
        "as_image(x, image)",
        {"x": np.array([-3.0, 0.5, 1.5, 254.7, 300.0]), "image": BYTES[0, 0, 0]},
        lambda x, image: np.array([0, 0, 2, 255, 255]),
    ),
    FunctionCase("as_image", "as_image(x, image)", {"x": FLOATS, "image": FLOATS}, lambda x, image: x),
)
