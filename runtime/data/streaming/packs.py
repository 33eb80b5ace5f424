"""Rows as programs take them, kept on disk: a file for each input or target of each part, and a head that lists them.

They are kept in the user's cache, by the identity of the files and settings that they were made of. A head appears when
all files are whole. What was not used for a month goes when new ones are made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Generator, Mapping
from io import FileIO
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.support.cache import default_folder
from compiler.support.record import record
from compiler.support.trusted_folder import TrustedFolder
from runtime.data.specs import Array
from runtime.support import locks
from runtime.support.files import JsonObject, JsonValue, explain, parse_json

_HEAD, _LOCK = ".head", ".lock"
_UNUSED_SECONDS, _LEFT_SECONDS = 30 * 24 * 3600, 24 * 3600
_BETWEEN_LOOKS = 0.1  # seconds, while another process makes the same pack


@record
class PackedArray:
    """An input or target of a part: its file, and the element type and shape of a row."""

    entry: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


@record
class PackedPart:
    rows: int
    arrays: Mapping[str, PackedArray]


@record
class Pack:
    """The parts by their names, and whatever was told of them when they were made."""

    folder: TrustedFolder
    parts: Mapping[str, PackedPart]
    told: JsonObject

    @property
    def bytes(self) -> int:
        return sum(part.rows * array.row_bytes for part in self.parts.values() for array in part.arrays.values())


class PackCache:
    """All packs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = TrustedFolder(folder)

    def get(self, name: str) -> Pack | None:
        """The pack of that name, of any length, where it is whole."""
        key = _key(name)
        try:
            with self.folder.open(key + _HEAD) as file:
                head = parse_json(file.read())
                with contextlib.suppress(OSError):
                    os.utime(file.fileno())  # the time of change serves as the time of last use
            pack = _pack_of(self.folder, head)
            for part in pack.parts.values():
                for array in part.arrays.values():
                    with self.folder.open(array.entry) as file:
                        if os.fstat(file.fileno()).st_size != part.rows * array.row_bytes:
                            return None
            return pack
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    @contextlib.contextmanager
    def making(self, name: str) -> Generator[PackWriter]:
        """A new pack of that name, which no other process makes meanwhile. Raises DataError where it cannot be kept."""
        key = _key(name)
        try:
            with self._locked(key):
                self._prune()
                writer = PackWriter(self.folder, key)
                try:
                    yield writer
                finally:
                    writer.leave()
        except OSError as error:
            if error.errno is None:
                raise
            message, usual = explain(error)
            fix = f"{usual}; DLC_CACHE_DIR names another folder, and `dlc cache clear` empties it"
            raise DataError(f"the rows cannot be kept there: {message}", self.folder.path, fix=fix) from error

    def info(self) -> tuple[int, int]:
        """How many packs there are, and the bytes of all their files."""
        found = self.folder.files()
        return sum(name.endswith(_HEAD) for name, _ in found), sum(status.st_size for _, status in found)

    def clear(self) -> None:
        for entry, _ in self.folder.files():
            with contextlib.suppress(OSError):
                self.folder.remove(entry)

    @contextlib.contextmanager
    def _locked(self, key: str) -> Generator[None]:
        """Alone with a name: another process that makes it is waited for."""
        entry = key + _LOCK
        with contextlib.suppress(FileExistsError):
            self.folder.created(entry).close()
        with self.folder.open(entry) as file:
            while True:
                try:
                    locks.take(file)
                    break
                except BlockingIOError:
                    time.sleep(_BETWEEN_LOOKS)
            yield

    def _prune(self) -> None:
        """Remove what was not used for long, and sooner what a process left that was killed."""
        found, now = dict(self.folder.files()), time.time()
        used = {name.removesuffix(_HEAD): status.st_mtime for name, status in found.items() if name.endswith(_HEAD)}
        for name, status in found.items():
            head = used.get(name.split(".")[0])
            if now - (status.st_mtime if head is None else head) > (_LEFT_SECONDS if head is None else _UNUSED_SECONDS):
                with contextlib.suppress(OSError):
                    self.folder.remove(name)


class PackWriter:
    """Writes the files of a pack. Without `finish`, nothing of it stays."""

    def __init__(self, folder: TrustedFolder, key: str) -> None:
        self._folder, self._key, self._token = folder, key, os.urandom(8).hex()
        self._files: dict[str, tuple[BinaryIO, PackedArray]] = {}
        self._parts: dict[str, dict[str, PackedArray]] = {}
        self._rows: dict[str, int] = {}
        self._is_finished = False

    def append(self, part: str, arrays: Mapping[str, Array]) -> None:
        """Put rows behind those of a part. Raises OSError."""
        known = self._parts.setdefault(part, {})
        for name, values in arrays.items():
            if name not in known:
                entry = f"{self._key}.{self._token}.{len(self._files)}"
                known[name] = PackedArray(entry, values.dtype, values.shape[1:])
                self._files[entry] = self._folder.created(entry), known[name]
            file, array = self._files[known[name].entry]
            assert (array.dtype, array.shape) == (values.dtype, values.shape[1:])
            file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        self._rows[part] = self._rows.get(part, 0) + len(next(iter(arrays.values())))

    def finish(self, told: JsonObject) -> Pack:
        """The pack, whole. Raises OSError."""
        for file, _ in self._files.values():
            file.close()
        parts = {name: PackedPart(self._rows[name], arrays) for name, arrays in self._parts.items()}
        pack = Pack(self._folder, parts, told)
        self._folder.write(self._key + _HEAD, json.dumps(_head_of(pack)).encode())
        self._is_finished = True
        return pack

    def leave(self) -> None:
        """Close all files, and remove those of a pack that is not finished."""
        for entry, (file, _) in self._files.items():
            with contextlib.suppress(OSError):
                file.close()
            if not self._is_finished:
                with contextlib.suppress(OSError):
                    self._folder.remove(entry)


def usual_packs() -> PackCache:
    """The cache in the folder where compiled code is kept, too."""
    return PackCache(default_folder() / "rows")


def opened_array(folder: TrustedFolder, array: PackedArray) -> FileIO:
    """The file of an array, to read; the caller closes it. Raises OSError."""
    with folder.open(array.entry) as file:
        return FileIO(os.dup(file.fileno()), "rb")


def _key(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _head_of(pack: Pack) -> JsonObject:
    parts: dict[str, JsonValue] = {
        name: {"rows": part.rows, "arrays": {n: [a.entry, a.dtype.str, list(a.shape)] for n, a in part.arrays.items()}}
        for name, part in pack.parts.items()
    }
    return {"parts": parts, "told": pack.told}


def _pack_of(folder: TrustedFolder, head: JsonValue) -> Pack:
    """The inverse of `_head_of`. Raises ValueError, TypeError, KeyError or AttributeError for anything else."""
    whole = cast("dict[str, dict[str, dict[str, object]]]", head)
    parts: dict[str, PackedPart] = {}
    for name, part in whole["parts"].items():
        arrays = cast("dict[str, tuple[str, str, list[int]]]", part["arrays"])
        listed = {n: PackedArray(str(e), np.dtype(d), tuple(map(int, s))) for n, (e, d, s) in arrays.items()}
        parts[name] = PackedPart(int(str(part["rows"])), listed)
    return Pack(folder, parts, cast("JsonObject", whole["told"]))
