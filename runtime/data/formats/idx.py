"""The idx format of MNIST: a folder of four files, or one file of one array, becomes fields `image` and `label`."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from runtime.data.dataset import Dataset, Field
from runtime.data.formats.content import content_of
from runtime.data.formats.format import Format, SourceOptions, SourceRequest
from runtime.data.specs import Array
from runtime.support.files import explained, fingerprints

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_FIELDS = ("image", "label")
_EXPECTED = "train-images-idx3-ubyte and train-labels-idx1-ubyte, with or without .gz"


def read_idx(request: SourceRequest) -> Dataset:
    """A folder gives its official training and test parts; a single file gives one field, named by its rank."""
    if not request.path.is_dir():
        values = array_of(request.path, request.may_be_empty)
        name = "label" if values.ndim == 1 else "image"
        fields = {name: Field(values, request.path)}
        return Dataset("idx", request.path, fields, fingerprints=fingerprints([request.path]))
    training = _part(request.path, request.options, "train", "")
    test = _part(request.path, request.options, "t10k|test", "test_")
    if "image" not in training and not request.is_training:
        training, test = test, {}
    if "image" not in training:
        fix = f"put there {_EXPECTED}; CIFAR batches, or a folder of images for each class, are known too"
        raise DataError("no idx training images in this folder", request.path, fix=fix)
    _expect_labels_for_all(training)
    _expect_labels_for_all(test)
    prints = fingerprints(field.file for part in (training, test) for field in part.values())
    return Dataset("idx", request.path, training, test or None, fingerprints=prints)


def holds_idx(folder: Path) -> bool:
    """Whether a folder has files of this format, by their names."""
    return any(re.search(r"[-.]idx\d-ubyte(\.gz)?$", path.name) for path in folder.iterdir())


def _part(folder: Path, options: SourceOptions, prefix: str, option_prefix: str) -> dict[str, Field]:
    """The fields of the training or test part, by the options `images` and `labels` or by the usual file names."""
    fields: dict[str, Field] = {}
    for name in _FIELDS:
        named = options.text(f"{option_prefix}{name}s")
        file = folder / named if named is not None else _usual_file(folder, prefix, name)
        if file is not None:
            fields[name] = Field(array_of(file), file)
    return fields


def _usual_file(folder: Path, prefix: str, name: str) -> Path | None:
    pattern = re.compile(rf"(.*[-_.])?({prefix})-{name}s[-.]idx\d-ubyte(\.gz)?")
    with explained(DataError, folder):
        found = sorted(f for f in folder.iterdir() if pattern.fullmatch(f.name))
    plain = {f.name.removesuffix(".gz"): f for f in reversed(found)}
    if len(plain) > 1:
        message = f"several files of {name}s fit: {', '.join(sorted(plain))}"
        raise DataError(message, folder, fix=f'say which with the option `{name}s = "{sorted(plain)[0]}"`')
    return next(iter(plain.values()), None)


def _expect_labels_for_all(fields: dict[str, Field]) -> None:
    counts = {name: f.values.shape[0] for name, f in fields.items()}
    if len(set(counts.values())) > 1:
        message = f"{counts['label']} labels, but {fields['image'].file.name} has {counts['image']} images"
        raise DataError(message, fields["label"].file, fix="use the labels that belong to these images")


def array_of(path: Path, may_be_empty: bool = False) -> Array:
    """The array of one idx file, rows first, in native byte order. Raises DataError."""
    content = content_of(path, lambda beginning: _length_of(beginning, path))
    start, shape, dtype, expected = _header_of(content, path)
    if len(content) - start != expected:
        sizes = " × ".join(map(str, shape))
        there = "more" if len(content) - start > expected else str(len(content) - start)  # not all was read
        raise DataError(f"{sizes} values need {expected} bytes, but the file holds {there}", path, fix=_AGAIN)
    if expected == 0 and not may_be_empty:
        raise DataError("the file holds no rows", path, fix=_AGAIN)
    values: Array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _length_of(beginning: bytes, path: Path) -> int:
    start, _, _, expected = _header_of(beginning, path)
    return start + expected


def _header_of(content: bytes, path: Path) -> tuple[int, tuple[int, ...], np.dtype[np.generic], int]:
    """Where the values begin, their shape, their type, and how many bytes they take. Raises DataError."""
    if len(content) < 4:
        raise DataError(f"an idx file begins with 4 bytes of magic number; this has {len(content)}", path, fix=_AGAIN)
    zero, code, rank = struct.unpack_from(">HBB", content)
    if zero != 0 or code not in _TYPES or rank == 0:
        message = f"this is not an idx file: the magic number is 0x{content[:4].hex()}"
        raise DataError(message, path, fix="an idx file of bytes begins with 0x0000080N, where N is the number of axes")
    start = 4 + 4 * rank
    if len(content) < start:
        raise DataError(f"the sizes of {rank} axes are cut off", path, fix=_AGAIN)
    shape = struct.unpack_from(f">{rank}I", content, 4)
    dtype = np.dtype(_TYPES[code])
    expected = dtype.itemsize
    for extent in shape:
        expected *= extent
    return start, shape, dtype, expected


_AGAIN = "fetch the file again"
IDX = Format("idx", (".idx", "-ubyte"), read_idx, holds_idx)
