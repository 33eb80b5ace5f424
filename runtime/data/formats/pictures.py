"""Png and jpeg files as arrays, by Pillow, which is imported here alone and only when there is something to decode."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compiler.errors.diagnostics import UsageError
from compiler.support.record import record
from runtime.data.specs import Array
from runtime.support import regular_files

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".png", ".jpg", ".jpeg")
FITS = ("crop", "stretch")


# A file with the ending of another kind is read too, but nothing that is a program, as PostScript is.
_KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_MOST_PIXELS = 1 << 26  # 8192 × 8192: to unpack and scale more takes gigabytes, whatever the size of the file


class DamagedPicture(Exception):
    """A file that is no whole image."""


@record
class ImageFormat:
    """How images are delivered: `size` is (height, width), None as they are; `channels` 3 (R, G, B) or 1 (grey).

    `fit`: `crop` scales the shorter side and cuts the middle out, `stretch` scales each side by itself.
    """

    size: tuple[int, int] | None
    channels: int
    fit: str


def decoder(form: ImageFormat) -> Callable[[Path], Array]:
    """From a file to u8[channels, height, width]; the function raises DamagedPicture. Raises UsageError without Pillow.

    A camera's note of how it was held is obeyed. Transparent pixels keep the colour that they hide.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise UsageError(
            "png and jpeg images are read by Pillow, which is not installed", "install it: pip install 'dlc[images]'"
        ) from None
    damage = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)

    def sized(picture: Image) -> Image:
        if form.size is None:
            return picture
        size = (form.size[1], form.size[0])
        smooth = Image.Resampling.BILINEAR
        return ImageOps.fit(picture, size, smooth) if form.fit == "crop" else picture.resize(size, smooth)

    def in_bytes(picture: Image) -> Image:
        if picture.mode.startswith(("I", "F")):  # Pillow cuts 16 bits off instead of scaling them
            wide: Array = np.asarray(picture, np.float64)
            picture = Image.fromarray((wide / 257 + 0.5).clip(0, 255).astype(np.uint8))
        return picture.convert("L" if form.channels == 1 else "RGB")

    def decoded(path: Path) -> Array:
        try:
            with regular_files.opened(path) as file, Image.open(file, formats=_KINDS) as opened:
                _expect_usual(opened.size)
                values: Array = np.asarray(sized(in_bytes(ImageOps.exif_transpose(opened))), np.uint8)
        except damage as error:
            raise DamagedPicture(str(error)) from error
        return values[None] if values.ndim == 2 else np.moveaxis(values, 2, 0)

    return decoded


def _expect_usual(size: tuple[int, int]) -> None:
    """Before anything is unpacked: a file of some kilobytes can hold billions of pixels."""
    across, down = size
    if across * down > _MOST_PIXELS:
        raise DamagedPicture(f"{down} × {across} pixels, and at most {_MOST_PIXELS:,} are read")
