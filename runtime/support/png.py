"""Arrays to png files: grey or colour, one byte each."""

from __future__ import annotations

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
