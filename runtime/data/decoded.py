"""Decoded images kept between runs: one file for each set of images, in the user's cache folder.

A file is the SHA-256 of the rest, the length of a header, the header (JSON), and the array. Files appear whole, by
renaming; one that does not agree with its hash, or that another user may have written, is ignored. Over the limit,
what was not used for longest goes.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import signal
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import IO

import numpy as np

from compiler.driver import Array
from compiler.support.cache import default_folder
from compiler.support.record import record
from compiler.support.trusted_folder import TrustedFolder
from runtime.support.files import JsonObject, parse_json

_LIMIT = 4 << 30
_KEPT_SHARE = 0.75  # of the limit, once it was passed
_DIGEST, _ALIGNMENT, _PIECE = 32, 64, 1 << 24


@record
class DecodedCache:
    """`limit_bytes` bounds all files together; a larger array is not kept."""

    folder: Path
    limit_bytes: int = _LIMIT

    def get(self, name: str) -> tuple[Array, JsonObject] | None:
        """The array kept under a name of any length, mapped into memory, and the notes kept with it."""
        entry = _entry(name)
        try:
            with self._files.open(entry) as file:
                digest = file.read(_DIGEST)
                length = int.from_bytes(file.read(8), "little")
                header = parse_json(file.read(length)) if length < 1 << 30 else None
                whole = hashlib.sha256()
                file.seek(_DIGEST)
                while piece := file.read(_PIECE):
                    whole.update(piece)
                if whole.digest() != digest or not isinstance(header, Mapping):
                    return None
                with contextlib.suppress(OSError):
                    os.utime(file.fileno())  # the time of change serves as the time of last use
                shape = tuple(json.loads(str(header["shape"])))
                array = mapped(file, self.folder / entry, _aligned(_DIGEST + 8 + length), shape)
            notes = header.get("notes")
            return (array, notes) if isinstance(notes, Mapping) else None
        except (OSError, ValueError):
            return None

    def put(self, name: str, array: Array, notes: JsonObject) -> None:
        """Keep an array of u8, if it can be written."""
        if array.nbytes > self.limit_bytes:
            return
        header = json.dumps({"shape": json.dumps(array.shape), "notes": dict(notes)}).encode()
        start = _aligned(_DIGEST + 8 + len(header))
        head = len(header).to_bytes(8, "little") + header
        head += b"\0" * (start - _DIGEST - len(head))
        data = np.ascontiguousarray(array).reshape(-1).data
        digest = hashlib.sha256(head)
        digest.update(data)
        with contextlib.suppress(OSError):
            self._files.write(_entry(name), digest.digest(), head, data)
            self._prune()

    def info(self) -> tuple[int, int]:
        """How many files there are, and their bytes."""
        sizes = [status.st_size for _, status in self._files.files()]
        return len(sizes), sum(sizes)

    def clear(self) -> None:
        for entry, _ in self._files.files():
            with contextlib.suppress(OSError):
                self._files.remove(entry)

    @property
    def _files(self) -> TrustedFolder:
        return TrustedFolder(self.folder)

    def _prune(self) -> None:
        files = sorted(self._files.files(), key=lambda entry: entry[1].st_mtime_ns)
        total = sum(status.st_size for _, status in files)
        if total <= self.limit_bytes:
            return
        for entry, status in files[:-1]:  # the last is the one just written
            if total <= self.limit_bytes * _KEPT_SHARE:
                return
            with contextlib.suppress(OSError):
                self._files.remove(entry)
                total -= status.st_size


def usual_cache() -> DecodedCache:
    """The cache in the folder where compiled code is kept, too."""
    return DecodedCache(default_folder() / "images")


def _entry(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)
_mapped: list[Path] = []


def mapped(file: IO[bytes] | FileIO, path: Path, offset: int, shape: tuple[int, ...]) -> Array:
    """The u8 array of `shape` that lies in an open file, found at `path`, behind `offset` bytes.

    Raises OSError, ValueError.
    """
    array: Array = np.memmap(file, np.uint8, "r", offset, shape)
    if not _mapped and hasattr(signal, "SIGBUS"):  # Windows raises an error of its own
        _signal = ctypes.CDLL(None).signal
        _signal.argtypes, _signal.restype = [ctypes.c_int, _HANDLER], ctypes.c_void_p
        # Not the `signal` of Python: its handlers run between instructions of Python, and this one never ends.
        _signal(signal.SIGBUS, _end)
    _mapped.append(path)
    return array


@_HANDLER
def _end(number: int) -> None:
    del number
    files = ", ".join(sorted({str(path) for path in _mapped}))
    message = f"error: {files}: this can no longer be read: the disk fails, or the file was cut short\n"
    fix = "hint: put it back, or where it is of the cache, `dlc cache clear`; `dlc train --resume RUN` goes on then\n"
    os.write(2, (message + fix).encode("utf-8", "replace"))
    os._exit(1)
