"""Pictures as rows of a model that was trained on arrays, columns or pictures; and the words for what this does."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from runtime.data.dataset import Dataset, Field
from runtime.data.formats.images import ENDINGS, FITS, ImageFormat, delivered_pictures
from runtime.data.preparation import Look, Preparation
from runtime.data.reading import format_of
from runtime.data.specs import Array, InputSpec, SettingValue, dtype_of, row_shape

_LEAST_SIDE = 6  # of what is taken for a picture: fewer numbers mostly stand for something else
_DARK, _LIGHT = 0.3, 0.7  # of an edge, from 0 to 1: between them it says nothing


@record
class PictureShape:
    """The extents of a picture in an input: `axes` of its row [channels, height, width] in their order there."""

    height: int
    width: int
    channels: int
    has_channels_last: bool = False


def picture_shape(spec: InputSpec) -> PictureShape | None:
    """How a picture lies in a row of an input: [h, w], [c, h, w], [h, w, c], or a square in a row. None: in no way."""
    match row_shape(spec):
        case (height, width) if min(height, width) >= _LEAST_SIDE:
            return PictureShape(height, width, 1)
        case (1 | 3 as channels, height, width):
            return PictureShape(height, width, channels)
        case (height, width, 1 | 3 as channels) if min(height, width) >= _LEAST_SIDE:
            return PictureShape(height, width, channels, True)
        case (count,) if (side := math.isqrt(count)) ** 2 == count and side >= _LEAST_SIDE:
            return PictureShape(side, side, 1)
        case _:
            return None


def looks_of(
    specs: Sequence[InputSpec], dataset: Dataset, columns: Mapping[str, Sequence[str]], rows: Array
) -> dict[str, Look]:
    """The look of each input that may hold pictures, from the rows of the training."""
    found: dict[str, Look] = {}
    for spec in specs:
        if spec.is_target or dataset.text is not None or (shape := picture_shape(spec)) is None:
            continue
        fields = [dataset.fields[name] for name in columns.get(spec.name, ())]
        if not fields or not _are_pixels([*columns[spec.name]]) or any(field.is_text for field in fields):
            continue
        values = fields[0].values if len(fields) == 1 else np.stack([field.values for field in fields], 1)
        values = values[rows] if values.ndim > 1 and len(rows) < len(values) else values
        planes = _planes(values.reshape(len(values), *row_shape(spec)), shape)
        least, most = float(np.nanmin(planes)), float(np.nanmax(planes))
        edge = np.mean([np.nanmean(side) for side in _sides(planes)], dtype=np.float64)
        if math.isfinite(least) and math.isfinite(most) and least < most:
            found[spec.name] = Look(dataset.format, least, most, float((edge - least) / (most - least)))
    return found


def _are_pixels(names: Sequence[str]) -> bool:
    """Whether columns are numbered, as those of pixels are: one array, or `p0`, `p1`, …"""
    return len(names) == 1 or len({re.sub(r"\d+", "", name) for name in names}) == 1


def _planes(values: Array, shape: PictureShape) -> Array:
    """[rows, channels, height, width]."""
    if shape.has_channels_last:
        return np.moveaxis(values, -1, 1)
    return values.reshape(len(values), shape.channels, shape.height, shape.width)


def _sides(planes: Array) -> tuple[Array, ...]:
    return planes[..., 0, :], planes[..., -1, :], planes[..., 0], planes[..., -1]


def shows_pictures(path: Path) -> bool:
    """Whether a path is a picture by its name, or a folder with pictures."""
    return format_of(path).name == "images" if path.is_dir() else path.name.lower().endswith(ENDINGS)


def picture_rows(
    path: Path, specs: Sequence[InputSpec], preparation: Preparation | None, options: Mapping[str, SettingValue]
) -> Dataset:
    """A picture, or a folder of pictures, as rows of the model's only input, like the training data.

    `options` are those of the training's data, where it was a folder of images. The notes say all that was done. Raises
    DataError for an input that holds no pictures.
    """
    spec = specs[0]
    shape = picture_shape(spec) if len(specs) == 1 else None
    if shape is None:
        told = f"`{spec.name}: {spec.type}`" if len(specs) == 1 else f"{len(specs)} inputs"
        raise DataError(f"a picture cannot be {told}", path, fix="give the data as in the training")
    look = None if preparation is None else preparation.looks.get(spec.name)
    dtype = dtype_of(spec)
    if look is None and dtype != np.uint8:
        message = f"how bright the pictures of the training were is not known, and `{spec.name}` is {dtype.name}"
        raise DataError(message, path, fix="train again, or give the numbers in an npz file")
    is_of_images = look is None or look.format == "images"
    fit = options.get("fit") if is_of_images and options.get("fit") in FITS else FITS[0]
    form = ImageFormat((shape.height, shape.width), shape.channels, str(fit))
    pictures, files, told = delivered_pictures(path, form, not is_of_images)
    light, turned = _lightness(pictures, look)
    values = np.where(turned[:, None, None, None], 255 - pictures, pictures) if bool(turned.any()) else pictures
    if look is not None and (look.least, look.most) != (0, 255) and not is_of_images:
        values = look.least + values.astype(np.float64) * ((look.most - look.least) / 255)
        values = (
            values.astype(np.promote_types(np.float32, dtype))
            if dtype.kind == "f"
            else np.rint(values).astype(np.int64)
        )
        told = [f"{said}, 0 to 255 became {look.least:g} to {look.most:g}" for said in told]
    notes = _notes(files, [f"{a}{b}" for a, b in zip(told, light, strict=True)])
    laid = np.moveaxis(values, 1, -1) if shape.has_channels_last else values
    field = Field(np.ascontiguousarray(laid).reshape(len(laid), *row_shape(spec)), path, files=files)
    return Dataset("images", path, {spec.name: field}, notes=notes)


def _lightness(pictures: Array, look: Look | None) -> tuple[list[str], Array]:
    """Which pictures are turned to their negative, and the word on it: where the edges of the training data are dark
    and those of a picture light, or the other way round.
    """
    turned: Array = np.zeros(len(pictures), np.bool_)
    if look is None:
        unknown = ", not inverted: weights alone do not say whether the training had light on dark"
        return [unknown if pictures.shape[1] == 1 else ""] * len(pictures), turned
    if look.format == "images" or _DARK <= look.edge <= _LIGHT:
        return [""] * len(pictures), turned
    edges = np.mean([side.reshape(len(pictures), -1).mean(1) for side in _sides(pictures)], axis=0) / 255
    is_dark = look.edge < _DARK
    turned = edges > _LIGHT if is_dark else edges < _DARK
    ground, other = ("dark", "light") if is_dark else ("light", "dark")
    told = {
        True: f", inverted: its edge is {other}, and {ground} in the training data",
        False: f", not inverted: its edge is not {other}, and {ground} in the training data",
    }
    said = [told[bool(one)] for one in turned]
    return said, turned


def _notes(files: Sequence[Path], told: Sequence[str]) -> tuple[str, ...]:
    """A note for one picture, or for all with the same words."""
    groups: dict[str, list[Path]] = {}
    for file, said in zip(files, told, strict=True):
        groups.setdefault(said, []).append(file)
    return tuple(
        f"{members[0].name}{f' and {len(members) - 1} more' if len(members) > 1 else ''}: {said}"
        for said, members in groups.items()
    )
