"""Folders of png and jpeg images, a folder for each class, become fields `image` u8[channels, h, w] and `label`."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import warnings
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compiler.errors.diagnostics import DataError, UsageError
from compiler.errors.suggestions import counted
from compiler.support.processors import usable_processors
from compiler.support.record import record
from compiler.targets.available_memory import expect_memory
from runtime.data.dataset import BlockSource, Dataset, Field, RowBlock
from runtime.data.decoded import usual_cache
from runtime.data.formats.format import Format, SourceOptions, SourceRequest
from runtime.data.specs import Array
from runtime.support import regular_files
from runtime.support.files import explained, file_identity

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".png", ".jpg", ".jpeg")
FITS = ("crop", "stretch")
_TRAINING, _TEST = ("train", "training"), ("test",)
_BLOCK_BYTES = 1 << 22
_SHOWN = 8  # damaged images that a message names
# A file with the ending of another kind is read too, but nothing that is a program, as PostScript is.
_KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_MOST_PIXELS = 1 << 26  # 8192 × 8192: to unpack and scale more takes gigabytes, whatever the size of the file


@record
class _Listed:
    """The images of a part in their order, and the class of each; None where there are no folders of classes.

    `without` are the folders in which there is no image.
    """

    folder: Path
    files: tuple[Path, ...]
    labels: tuple[str, ...] | None
    without: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(f"{self.folder / name} has no png or jpeg images, and is no class" for name in self.without)


def read_images(request: SourceRequest) -> Dataset:
    """A folder of folders, one for each class; a folder of images, without labels; or one image.

    Folders called `train` and `test` are the two parts. Raises DataError with every image that is no image.
    """
    path, form = request.path, _form(request.options)
    training, test = _parts_of(path, request.is_training)
    prints: dict[str, str] = {}
    fields = _fields(training, form, prints)
    tested = None if test is None else _fields(test, form, prints)
    notes = training.notes if test is None else (*training.notes, *test.notes)
    return Dataset("images", path, fields, tested, fingerprints=prints, notes=notes)


def stream_images(request: SourceRequest) -> BlockSource:
    """As `read_images`; some images are decoded at a time. Those that cannot be used are told at the end."""
    form = _form(request.options)
    training, test = _parts_of(request.path, request.is_training)
    shape = _first_shape(training, form)
    found = _blocks_of(training, form, shape, request.path)
    if test is None:
        return found
    notes = (*found.head.notes, *test.notes)
    return replace(found, head=replace(found.head, notes=notes), test=_blocks_of(test, form, shape, request.path))


def _first_shape(listed: _Listed, form: ImageFormat) -> tuple[int, ...]:
    """The shape of the images: that of the first one that is whole."""
    if form.size is not None:
        return form.channels, *form.size
    decode, wrong = decoder(form), dict[Path, str]()
    for file in listed.files:
        try:
            return decode(file).shape
        except DamagedPicture as damage:
            wrong[file] = f"is no whole image ({damage})"
    raise _unusable(wrong, listed.folder, form)


def _blocks_of(listed: _Listed, form: ImageFormat, shape: tuple[int, ...], path: Path) -> BlockSource:
    place = listed.files[0] if len(listed.files) == 1 else listed.folder
    classes = tuple(sorted(set(listed.labels or ())))
    codes = {name: code for code, name in enumerate(classes)}
    fields = {"image": Field(np.zeros((0, *shape), np.uint8), place)}
    if listed.labels is not None:
        fields["label"] = Field(np.zeros(0, np.int32), place, classes=classes)
    each = max(1, _BLOCK_BYTES // max(1, math.prod(shape)))

    def blocks(wanted: Sequence[str]) -> Iterator[RowBlock]:
        wrong: dict[Path, str] = {}
        for first in range(0, len(listed.files), each):
            files = listed.files[first : first + each]
            images: Array = np.zeros((len(files), *shape), np.uint8)
            if "image" in wanted:
                _decode_into(images, files, decoder(form), wrong)
            arrays: dict[str, Array] = {"image": images}
            if listed.labels is not None:
                arrays["label"] = np.array([codes[name] for name in listed.labels[first : first + each]], np.int32)
            numbers = np.arange(first + 1, first + len(files) + 1, dtype=np.int64)
            yield RowBlock({name: arrays[name] for name in wanted}, place, numbers)
        if wrong:
            raise _unusable(wrong, listed.folder, form)

    head = Dataset("images", path, fields, notes=listed.notes)
    return BlockSource(head, listed.files, blocks, lambda: {listed.folder.name: _fingerprint(listed)})


def _decode_into(images: Array, files: Sequence[Path], decode: Callable[[Path], Array], wrong: dict[Path, str]) -> None:
    """Decode a few images; `wrong` gets those that cannot be used, and why."""
    for row, found in enumerate(_decoded_side_by_side(files, decode)):
        if isinstance(found, str):
            wrong[files[row]] = found
        elif found.shape != images.shape[1:]:
            wrong[files[row]] = f"has {_size(found)} pixels, those before it {_size(images)}"
        else:
            images[row] = found


def _decoded_side_by_side(files: Sequence[Path], decode: Callable[[Path], Array]) -> Generator[Array | str]:
    """Each image, or why it is none, in the order of the files."""

    def decoded(file: Path) -> Array | str:
        try:
            return decode(file)
        except DamagedPicture as damage:
            return f"is no whole image ({damage})"

    from concurrent.futures import ThreadPoolExecutor  # which takes longer to load than all formats of data

    with warnings.catch_warnings(), ThreadPoolExecutor(usable_processors()) as pool:
        warnings.filterwarnings("ignore", "Image size .* exceeds limit")  # it is refused right after
        try:
            yield from pool.map(decoded, files)
        except GeneratorExit:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def holds_images(folder: Path) -> bool:
    """Whether there is an image in a folder or in a folder in it."""
    return next(_images_below(folder), None) is not None


def delivered_pictures(path: Path, form: ImageFormat, on_white: bool) -> tuple[Array, tuple[Path, ...], list[str]]:
    """The pictures at a path u8[rows, channels, h, w], their files, and of each what was done to it.

    With `on_white`, transparent pixels show white. Raises DataError with every image that is no image.
    """
    listed = _parts_of(path, False)[0]
    decode, describe = decoder(form, on_white), description(form, on_white)
    images = _decoded_anew(listed, form, decode)
    return images, listed.files, [describe(file) for file in listed.files]


def _form(options: SourceOptions) -> ImageFormat:
    size = options.numbers("size", 2)
    given = options.numbers("channels", 1)
    channels = 3 if given is None else given[0]
    if channels not in (1, 3):
        raise DataError(f"option `channels` is {channels}", options.place, fix="give 3 for colour, or 1 for grey")
    fit = options.choice("fit", FITS) or "crop"
    if size is None:
        return ImageFormat(None, channels, fit)
    return ImageFormat((size[0], size[-1]), channels, fit)


# Files


def _parts_of(path: Path, is_training: bool) -> tuple[_Listed, _Listed | None]:
    if not path.is_dir():
        return _Listed(path.parent, (path,), None), None
    with explained(DataError, path):
        folders = {entry.name.lower(): entry for entry in _folders_in(path)}
        training = next((folders[name] for name in _TRAINING if name in folders), None)
        if training is None and not is_training and list(folders) == list(_TEST):
            return _listed(folders[_TEST[0]]), None
        if training is None:
            return _listed(path), None
        test = next((folders[name] for name in _TEST if name in folders), None)
        return _listed(training), None if test is None else _listed(test)


def _listed(folder: Path) -> _Listed:
    by_class = {entry.name: sorted(_images_below(entry)) for entry in _folders_in(folder)}
    without = tuple(name for name, files in by_class.items() if not files)
    by_class = {name: files for name, files in by_class.items() if files}
    loose = sorted(entry for entry in folder.iterdir() if _is_image(entry))
    if by_class and loose:
        message = f"{len(loose)} images lie beside the folders of classes, such as {loose[0].name}"
        raise DataError(message, folder, fix="move them into the folder of their class")
    if not by_class and not loose:
        raise DataError("no png or jpeg images in this folder", folder, fix="put a folder for each class there")
    if loose:
        return _Listed(folder, tuple(loose), None)
    names = sorted(by_class)
    files = tuple(file for name in names for file in by_class[name])
    return _Listed(folder, files, tuple(name for name in names for _ in by_class[name]), without)


def _folders_in(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images_below(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
            yield from _images_below(entry)
        elif _is_image(entry):
            yield entry


def _is_image(path: Path) -> bool:
    """By its name; an unreadable file, such as a link to nothing, is told when it is read."""
    return path.name.lower().endswith(ENDINGS) and not path.name.startswith(".") and not path.is_dir()


# Content


def _fields(listed: _Listed, form: ImageFormat, prints: dict[str, str]) -> dict[str, Field]:
    images, prints[listed.folder.name] = _decoded(listed, form)
    place = listed.files[0] if len(listed.files) == 1 else listed.folder
    fields = {"image": Field(images, place, files=listed.files)}
    if listed.labels is not None:
        classes = tuple(sorted(set(listed.labels)))
        codes = {name: code for code, name in enumerate(classes)}
        labels: Array = np.array([codes[name] for name in listed.labels], np.int32)
        fields["label"] = Field(labels, place, classes=classes)
    return fields


def _decoded(listed: _Listed, form: ImageFormat) -> tuple[Array, str]:
    """All images, from the cache where no file has changed, and the fingerprint of their contents."""
    cache = usual_cache()
    name = json.dumps(["images 1", astuple(form), [file_identity(file) for file in listed.files]])
    known = cache.get(name)
    if known is not None:
        return known[0], str(known[1].get("fingerprint"))
    images = _decoded_anew(listed, form, decoder(form))
    fingerprint = _fingerprint(listed)
    cache.put(name, images, {"fingerprint": fingerprint})
    return images, fingerprint


def _decoded_anew(listed: _Listed, form: ImageFormat, decode: Callable[[Path], Array]) -> Array:
    wrong: dict[Path, str] = {}
    images: Array | None = None
    decoded = _decoded_side_by_side(listed.files, decode)
    with closing(decoded):
        for row, found in enumerate(decoded):
            file = listed.files[row]
            if isinstance(found, str):
                wrong[file] = found
                continue
            if images is None:
                images = _room_for(listed, found)
            if found.shape != images.shape[1:]:
                wrong[file] = f"has {_size(found)} pixels, those before it {_size(images)}"
            else:
                images[row] = found
    if wrong:
        raise _unusable(wrong, listed.folder, form)
    assert images is not None
    return images


def _room_for(listed: _Listed, image: Array) -> Array:
    """For all images, which are as large as this one. Raises ResourceError before the memory is taken."""
    count = len(listed.files)
    needed = {f"{count} images of {_size(image)} pixels": count * image.size}
    expect_memory(f"reading {listed.folder}", needed, "give a smaller `size`")
    return np.empty((count, *image.shape), np.uint8)


def _size(images: Array) -> str:
    return f"{images.shape[-2]} × {images.shape[-1]}"


def _unusable(wrong: Mapping[Path, str], folder: Path, form: ImageFormat) -> DataError:
    """One error for all images that cannot be used."""
    lines = [f"{file}: {why}" for file, why in list(wrong.items())[:_SHOWN]]
    if len(wrong) > _SHOWN:
        lines.append(f"and {len(wrong) - _SHOWN} more")
    fixes = ["replace or remove the damaged file"] if any("no whole" in why for why in wrong.values()) else []
    if form.size is None and any("pixels" in why for why in wrong.values()):
        fixes.append("give `size = …` to bring all to one size")
    message = f"{counted(len(wrong), 'image')} cannot be used:\n" + "\n".join(lines)
    return DataError(message, folder, fix=", or ".join(fixes))


def _fingerprint(listed: _Listed) -> str:
    """Of the contents of all files and of their names in the folder."""
    digest = hashlib.sha256()
    for file in listed.files:
        content = regular_files.content(file)
        name = str(file.relative_to(listed.folder))
        digest.update(f"{name}\0{len(content)}\0".encode("utf-8", "surrogatepass"))
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"


# Pictures, by Pillow, which is imported here alone and only when there is something to decode


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


def decoder(form: ImageFormat, on_white: bool = False) -> Callable[[Path], Array]:
    """From a file to u8[channels, height, width]; the function raises DamagedPicture. Raises UsageError without Pillow.

    A camera's note of how it was held is obeyed. Transparent pixels keep the colour that they hide, or with `on_white`
    show white.
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
        if on_white and picture.has_transparency_data:
            layer = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        if picture.mode.startswith(("I", "F")):  # Pillow cuts 16 bits off instead of scaling them
            wide: Array = np.asarray(picture, np.float64)
            picture = Image.fromarray((wide / 257 + 0.5).clip(0, 255).astype(np.uint8))
        return picture.convert("L" if form.channels == 1 else "RGB")

    def decoded(path: Path) -> Array:
        try:
            with regular_files.opened(path) as file, Image.open(file, formats=_KINDS) as opened:
                across, down = opened.size
                if across * down > _MOST_PIXELS:  # before it is unpacked: some kilobytes can hold billions of pixels
                    raise DamagedPicture(f"{down} × {across} pixels, and at most {_MOST_PIXELS:,} are read")
                values: Array = np.asarray(sized(in_bytes(ImageOps.exif_transpose(opened))), np.uint8)
        except damage as error:
            raise DamagedPicture(str(error)) from error
        return values[None] if values.ndim == 2 else np.moveaxis(values, 2, 0)

    return decoded


def description(form: ImageFormat, on_white: bool) -> Callable[[Path], str]:
    """From the file of an image that was decoded to the words for what the decoder does to it."""
    from PIL import Image, ImageOps

    def described(path: Path) -> str:
        with regular_files.opened(path) as file, Image.open(file, formats=_KINDS) as opened:
            picture = ImageOps.exif_transpose(opened)
            across, down = picture.size
            done: list[str] = [f"{down} × {across} {'grey' if picture.mode[0] in 'L1IF' else 'colour'}"]
            if picture.size != opened.size:
                done.append("turned as the camera was held")
            if on_white and picture.has_transparency_data:
                done.append("laid on white")
            if form.size is not None and (down, across) != form.size:
                done += _scaling(form, down, across)
            if form.channels == 1 and picture.mode[0] not in "L1IF":
                done.append("turned grey")
            return ", ".join(done)

    return described


def _scaling(form: ImageFormat, down: int, across: int) -> list[str]:
    assert form.size is not None
    height, width = form.size
    if form.fit != "crop" or down * width == across * height:
        return [f"scaled to {height} × {width}"]
    is_wide = across * height > down * width
    kept = (down, round(down * width / height)) if is_wide else (round(across * height / width), across)
    return [f"the middle {kept[0]} × {kept[1]} cut out", f"scaled to {height} × {width}"]


IMAGES = Format("images", ENDINGS, read_images, stream_images, holds_images)
