"""The idx format of MNIST: a folder of four files, or one file of one array, becomes fields `image` and `label`."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.support.record import record
from runtime.data.dataset import BlockSource, Dataset, Field, RowBlock
from runtime.data.formats.content import content_of, length_of, stretches_of
from runtime.data.formats.format import Format, SourceOptions, SourceRequest
from runtime.data.specs import Array
from runtime.support.files import explained, fingerprints

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_BLOCK_BYTES = 1 << 22
_LONGEST_HEADER = 4 + 4 * 255
_FIELDS = ("image", "label")
_EXPECTED = "train-images-idx3-ubyte and train-labels-idx1-ubyte, with or without .gz"


@record
class _Head:
    """The header of an idx file: the shape of its values, their type, and where they begin."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    start: int

    @property
    def native(self) -> np.dtype[np.generic]:
        return self.dtype.newbyteorder("=")

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def bytes(self) -> int:
        return self.shape[0] * self.row_bytes

    def values(self, content: bytes | memoryview) -> Array:
        """The rows that some bytes hold, in native byte order."""
        values: Array = np.frombuffer(content, self.dtype)
        rows = len(content) // self.row_bytes if self.row_bytes else self.shape[0]
        return values.reshape(rows, *self.shape[1:]).astype(self.native, copy=False)


def read_idx(request: SourceRequest) -> Dataset:
    """A folder gives its official training and test parts; a single file gives one field, named by its rank."""
    if not request.path.is_dir():
        values = array_of(request.path, request.may_be_empty)
        name = "label" if values.ndim == 1 else "image"
        fields = {name: Field(values, request.path)}
        return Dataset("idx", request.path, fields, fingerprints=fingerprints([request.path]))
    files, test_files = _files_of(request)
    training, test = _fields_of(files), _fields_of(test_files)
    prints = fingerprints(field.file for part in (training, test) for field in part.values())
    return Dataset("idx", request.path, training, test or None, fingerprints=prints)


def stream_idx(request: SourceRequest) -> BlockSource:
    """As `read_idx`, some rows at a time."""
    if not request.path.is_dir():
        head = _head_of(request.path)
        name = "label" if len(head.shape) == 1 else "image"
        return _source_of(request, {name: request.path})
    files, test = _files_of(request)
    return _source_of(request, files, _source_of(request, test) if test else None)


def _source_of(request: SourceRequest, files: Mapping[str, Path], test: BlockSource | None = None) -> BlockSource:
    heads = {name: _head_of(file) for name, file in files.items()}
    for name, head in heads.items():
        _expect_length(
            head, files[name], length_of(files[name], head.start + head.bytes) - head.start, request.may_be_empty
        )
    _expect_labels_for_all({name: head.shape[0] for name, head in heads.items()}, files)
    fields = {n: Field(np.empty((0, *head.shape[1:]), head.native), files[n]) for n, head in heads.items()}

    def blocks(names: Sequence[str]) -> Iterator[RowBlock]:
        each = max(1, _BLOCK_BYTES // max(1, sum(heads[name].row_bytes for name in names)))
        stretches = [stretches_of(files[n], heads[n].start, each * max(1, heads[n].row_bytes)) for n in names]
        first = 1
        for contents in zip(*stretches, strict=True):
            arrays = {name: heads[name].values(content) for name, content in zip(names, contents, strict=True)}
            numbers = np.arange(first, first + len(arrays[names[0]]), dtype=np.int64)
            yield RowBlock(arrays, files[names[0]], numbers)
            first += len(numbers)

    return BlockSource(
        Dataset("idx", request.path, fields), tuple(files.values()), blocks, lambda: fingerprints(files.values()), test
    )


def holds_idx(folder: Path) -> bool:
    """Whether a folder has files of this format, by their names."""
    return any(re.search(r"[-.]idx\d-ubyte(\.gz)?$", path.name) for path in folder.iterdir())


def _files_of(request: SourceRequest) -> tuple[dict[str, Path], dict[str, Path]]:
    """The files of the training and of the test by their fields. Raises DataError."""
    training = _part(request.path, request.options, "train", "")
    test = _part(request.path, request.options, "t10k|test", "test_")
    if "image" not in training and not request.is_training:
        training, test = test, {}
    if "image" not in training:
        fix = f"put there {_EXPECTED}; CIFAR batches, or a folder of images for each class, are known too"
        raise DataError("no idx training images in this folder", request.path, fix=fix)
    return training, test


def _part(folder: Path, options: SourceOptions, prefix: str, option_prefix: str) -> dict[str, Path]:
    """The files of the training or test part, by the options `images` and `labels` or by the usual file names."""
    files: dict[str, Path] = {}
    for name in _FIELDS:
        named = options.text(f"{option_prefix}{name}s")
        file = folder / named if named is not None else _usual_file(folder, prefix, name)
        if file is not None:
            files[name] = file
    return files


def _fields_of(files: Mapping[str, Path]) -> dict[str, Field]:
    fields = {name: Field(array_of(file), file) for name, file in files.items()}
    _expect_labels_for_all({name: len(field.values) for name, field in fields.items()}, files)
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


def _expect_labels_for_all(counts: Mapping[str, int], files: Mapping[str, Path]) -> None:
    if len(set(counts.values())) > 1:
        message = f"{counts['label']} labels, but {files['image'].name} has {counts['image']} images"
        raise DataError(message, files["label"], fix="use the labels that belong to these images")


def array_of(path: Path, may_be_empty: bool = False) -> Array:
    """The array of one idx file, rows first, in native byte order. Raises DataError."""
    content = content_of(path, lambda beginning: _length_of(beginning, path))
    head = _header_of(content, path)
    _expect_length(head, path, len(content) - head.start, may_be_empty)
    return head.values(memoryview(content)[head.start :])


def _expect_length(head: _Head, path: Path, length: int, may_be_empty: bool) -> None:
    """Raise DataError where so many bytes of values are not those that the header says."""
    if length != head.bytes:
        sizes = " × ".join(map(str, head.shape))
        there = "more" if length > head.bytes else str(length)  # not all was read
        raise DataError(f"{sizes} values need {head.bytes} bytes, but the file holds {there}", path, fix=_AGAIN)
    if head.bytes == 0 and not may_be_empty:
        raise DataError("the file holds no rows", path, fix=_AGAIN)


def _length_of(beginning: bytes, path: Path) -> int:
    head = _header_of(beginning, path)
    return head.start + head.bytes


def _head_of(path: Path) -> _Head:
    return _header_of(next(stretches_of(path, 0, _LONGEST_HEADER), b""), path)


def _header_of(content: bytes, path: Path) -> _Head:
    """What the beginning of a file says. Raises DataError."""
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
    return _Head(shape, np.dtype(_TYPES[code]), start)


_AGAIN = "fetch the file again"
IDX = Format("idx", (".idx", "-ubyte"), read_idx, stream_idx, holds_idx)
