"""Arrays to pictures, and to png files: grey or colour, one byte each."""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np

from compiler.driver import Array

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _COLOUR = 0, 2


def png_bytes(image: Array) -> bytes:
    """The content of a png file of u8[channels, height, width], with 1 or 3 channels."""
    channels, height, width = image.shape
    head = struct.pack(">IIBBBBB", width, height, 8, _GREY if channels == 1 else _COLOUR, 0, 0, 0)
    lines = np.moveaxis(image, 0, 2).reshape(height, width * channels)
    # Each line begins with its filter: 0, none.
    content = np.concatenate([np.zeros((height, 1), np.uint8), lines], axis=1).tobytes()
    return _SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(content)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def picture_of(values: Array) -> Array | None:
    """u8[channels, height, width], where values have such a shape. Floats beyond 0..1 are brought there."""
    if values.ndim == 3 and values.shape[2] in (1, 3) and values.shape[0] not in (1, 3):
        values = np.moveaxis(values, 2, 0)
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or values.shape[0] not in (1, 3) or values.dtype.kind not in "uif" or not values.size:
        return None
    if values.dtype == np.uint8:
        return values
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 1.0)
    return np.round((values - low) / (high - low) * 255).astype(np.uint8)


def square_picture_of(values: Array) -> Array | None:
    """The picture of which values [n * n] are the rows, one behind the other."""
    side = math.isqrt(values.size)
    return picture_of(values.reshape(side, side)) if values.ndim == 1 and side * side == values.size else None


def no_larger(picture: Array, most: int) -> Array:
    """A picture of at most `most` pixels in both directions: every second one, or third…"""
    step = max(1, -(-max(picture.shape[1:]) // most))
    return picture[:, ::step, ::step]
