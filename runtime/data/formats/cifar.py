"""The binary batches of CIFAR: a folder of them, or one file, becomes fields `image` u8[3, 32, 32] and `label` u8.

A record is a byte of label and three planes of 32 × 32 bytes; those of CIFAR-100 begin with a byte more, the coarse
label, which becomes the field `coarse`. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compiler.errors.diagnostics import DataError
from runtime.data.dataset import Dataset, Field
from runtime.data.formats.content import content_of, text_of
from runtime.data.formats.format import Format, SourceRequest
from runtime.data.specs import Array
from runtime.support.files import explained, fingerprints

_PIXELS = 3 * 32 * 32
_LABELS = {_PIXELS + 1: ("label",), _PIXELS + 2: ("coarse", "label")}
_NAMES = {"label": ("batches.meta.txt", "fine_label_names.txt"), "coarse": ("coarse_label_names.txt",)}
_EXPECTED = "data_batch_1.bin and test_batch.bin, or train.bin and test.bin, with or without .gz"


def read_cifar(request: SourceRequest) -> Dataset:
    """Files whose names begin with `test` are the test part, all others the training part, in the order of names."""
    if not request.path.is_dir():
        files, test = [request.path], []
        folder = request.path.parent
    else:
        folder = request.path
        files, test = _files_of(folder)
        if not files and not request.is_training:
            files, test = test, []
        if not files:
            raise DataError("no CIFAR batches to train on in this folder", folder, fix=f"put there {_EXPECTED}")
    fields = _fields(files, folder)
    tested = _fields(test, folder) if test else None
    return Dataset("cifar", request.path, fields, tested, fingerprints=fingerprints((*files, *test)))


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
    parts = [_records(file) for file in files]
    if len({part.shape[1] for part in parts}) > 1:
        raise DataError("batches of CIFAR-10 and of CIFAR-100 in one folder", folder, fix="give each its own folder")
    records = parts[0] if len(parts) == 1 else np.concatenate(parts)
    place = files[0] if len(files) == 1 else folder
    labels = _LABELS[records.shape[1]]
    images: Array = np.ascontiguousarray(records[:, len(labels) :]).reshape(-1, 3, 32, 32)
    fields = {"image": Field(images, place)}
    for position, name in enumerate(labels):
        fields[name] = Field(np.ascontiguousarray(records[:, position]), place, classes=_names(folder, name))
    return fields


def _records(file: Path) -> Array:
    content = content_of(file)
    size = next((size for size in _LABELS if content and len(content) % size == 0), None)
    if size is None:
        raise DataError(
            f"a file of CIFAR holds records of {' or '.join(map(str, _LABELS))} bytes, but this has {len(content)}",
            file,
            fix="fetch the file again: the binary version, not the one for Python",
        )
    return np.frombuffer(content, np.uint8).reshape(-1, size)


def _names(folder: Path, field: str) -> tuple[str, ...] | None:
    """The names of the classes, where the folder has them: one a line."""
    file = next((folder / name for name in _NAMES[field] if (folder / name).is_file()), None)
    if file is None:
        return None
    lines = text_of(file).decode("utf-8", "replace").splitlines()
    return tuple(line.strip() for line in lines if line.strip()) or None


CIFAR = Format("cifar", (".bin",), read_cifar, holds_cifar)
