"""The binary batches of CIFAR: a folder of them, or one file, becomes fields `image` u8[3, 32, 32] and `label` u8.

A record is a byte of label and three planes of 32 × 32 bytes; those of CIFAR-100 begin with a byte more, the coarse
label, which becomes the field `coarse`. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from runtime.data.dataset import BlockSource, Dataset, Field, RowBlock
from runtime.data.formats.content import content_of, length_of, stretches_of, text_of
from runtime.data.formats.format import Format, SourceRequest
from runtime.data.specs import Array
from runtime.support.files import explained, fingerprints

_PIXELS = 3 * 32 * 32
_AT_ONCE = 1 << 10  # records
_LABELS = {_PIXELS + 1: ("label",), _PIXELS + 2: ("coarse", "label")}
_NAMES = {"label": ("batches.meta.txt", "fine_label_names.txt"), "coarse": ("coarse_label_names.txt",)}
_EXPECTED = "data_batch_1.bin and test_batch.bin, or train.bin and test.bin, with or without .gz"


def read_cifar(request: SourceRequest) -> Dataset:
    """Files whose names begin with `test` are the test part, all others the training part, in the order of names."""
    files, test, folder = _files_at(request)
    fields = _fields(files, folder)
    tested = _fields(test, folder) if test else None
    return Dataset("cifar", request.path, fields, tested, fingerprints=fingerprints((*files, *test)))


def stream_cifar(request: SourceRequest) -> BlockSource:
    """As `read_cifar`, record by record."""
    files, test, folder = _files_at(request)
    tested = _source_of(request.path, test, folder) if test else None
    return _source_of(request.path, files, folder, tested)


def _source_of(path: Path, files: Sequence[Path], folder: Path, test: BlockSource | None = None) -> BlockSource:
    size = _size_of(files, folder)
    head = Dataset("cifar", path, _fields_of(np.empty((0, size), np.uint8), files, folder))

    def blocks(names: Sequence[str]) -> Iterator[RowBlock]:
        for file in files:
            first = 1
            for content in stretches_of(file, 0, _AT_ONCE * size):
                records = np.frombuffer(content, np.uint8).reshape(-1, size)
                fields = _fields_of(records, files, folder)
                numbers = np.arange(first, first + len(records), dtype=np.int64)
                yield RowBlock({name: fields[name].values for name in names}, file, numbers)
                first += len(records)

    return BlockSource(head, tuple(files), blocks, lambda: fingerprints(files), test)


def _files_at(request: SourceRequest) -> tuple[list[Path], list[Path], Path]:
    """The files of the training and of the test, and their folder."""
    folder = request.path
    if not folder.is_dir():
        return [folder], [], folder.parent
    files, test = _files_of(folder)
    if not files and not request.is_training:
        files, test = test, []
    if not files:
        raise DataError("no CIFAR batches to train on in this folder", folder, fix=f"put there {_EXPECTED}")
    return files, test, folder


def holds_cifar(folder: Path) -> bool:
    """Whether a folder has files of this format, by their names."""
    return any(_is_batch(path) for path in folder.iterdir())


def _is_batch(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(".bin")


def _files_of(folder: Path) -> tuple[list[Path], list[Path]]:
    with explained(DataError, folder):
        found = sorted(path for path in folder.iterdir() if _is_batch(path))
    plain = {path.name.removesuffix(".gz"): path for path in reversed(found)}
    test = [plain[name] for name in sorted(plain) if name.startswith("test")]
    files = [plain[name] for name in sorted(plain) if not name.startswith("test")]
    return files, test


def _fields(files: Sequence[Path], folder: Path) -> dict[str, Field]:
    contents = [content_of(file) for file in files]
    size = _one_size([_record_size(len(content), file) for content, file in zip(contents, files, strict=True)], folder)
    parts: list[Array] = [np.frombuffer(content, np.uint8).reshape(-1, size) for content in contents]
    fields = _fields_of(parts[0] if len(parts) == 1 else np.concatenate(parts), files, folder)
    if len(files) == 1:
        return fields
    numbers = np.concatenate([np.arange(1, len(part) + 1) for part in parts])
    origin = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
    return {
        name: replace(field, row_numbers=numbers, origin=origin, origins=tuple(files)) for name, field in fields.items()
    }


def _fields_of(records: Array, files: Sequence[Path], folder: Path) -> dict[str, Field]:
    labels = _LABELS[records.shape[1]]
    images: Array = np.ascontiguousarray(records[:, len(labels) :]).reshape(-1, 3, 32, 32)
    fields = {"image": Field(images, files[0])}
    for position, name in enumerate(labels):
        fields[name] = Field(np.ascontiguousarray(records[:, position]), files[0], classes=_names(folder, name))
    return fields


def _size_of(files: Sequence[Path], folder: Path) -> int:
    """The bytes of a record in all files. Raises DataError."""
    return _one_size([_record_size(length_of(file), file) for file in files], folder)


def _one_size(sizes: Sequence[int], folder: Path) -> int:
    if len(set(sizes)) > 1:
        raise DataError("batches of CIFAR-10 and of CIFAR-100 in one folder", folder, fix="give each its own folder")
    return sizes[0]


def _record_size(length: int, file: Path) -> int:
    """The bytes of a record in a file of so many. Raises DataError."""
    size = next((size for size in _LABELS if length and length % size == 0), None)
    if size is None:
        raise DataError(
            f"a file of CIFAR holds records of {' or '.join(map(str, _LABELS))} bytes, but this has {length}",
            file,
            fix="fetch the file again: the binary version, not the one for Python",
        )
    return size


def _names(folder: Path, field: str) -> tuple[str, ...] | None:
    """The names of the classes, where the folder has them: one a line."""
    file = next((folder / name for name in _NAMES[field] if (folder / name).is_file()), None)
    if file is None:
        return None
    lines = text_of(file).decode("utf-8", "replace").splitlines()
    return tuple(line.strip() for line in lines if line.strip()) or None


CIFAR = Format("cifar", (".bin",), read_cifar, stream_cifar, holds_cifar)
