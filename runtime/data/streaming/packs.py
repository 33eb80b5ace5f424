"""Rows as programs take them, kept on disk: a file for each input or target of each part, and a head that lists them.

They are kept in the user's cache, by the identity of the files and settings that they were made of. A head appears when
all files are whole. What was not used for a month goes when new ones are made. Behind the rows of a file stand the
CRC-32 of its pieces, by which every piece is checked when it is read; the head has that of these, and a hash of itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
import zlib
from array import array
from collections.abc import Generator, Mapping
from dataclasses import replace
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
_PIECE, _MOST_ROWS = 1 << 15, 1 << 8  # bytes and rows of a piece that has a checksum, unless a row is larger
_AT_ONCE = 8  # pieces that one call of the system reads: they are still in the processor's cache when they are checked
_SUM = np.dtype("<u4")


@record
class PackedArray:
    """An input or target of a part: its file, the element type and shape of a row, and the CRC-32 of the checksums."""

    entry: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    checked: int = 0

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def rows_of_piece(self) -> int:
        """The rows that have one checksum: a power of 2, as runs of rows often are."""
        return min(_MOST_ROWS, 1 << max(0, (_PIECE // max(self.row_bytes, 1)).bit_length() - 1))

    def file_bytes(self, rows: int) -> int:
        return rows * self.row_bytes + -(-rows // self.rows_of_piece) * _SUM.itemsize


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
                digest, _, content = file.read().partition(b"\n")
                with contextlib.suppress(OSError):
                    os.utime(file.fileno())  # the time of change serves as the time of last use
            if digest != _digest(content):
                return None
            pack = _pack_of(self.folder, parse_json(content))
            for part in pack.parts.values():
                for array in part.arrays.values():
                    with self.folder.open(array.entry) as file:
                        if os.fstat(file.fileno()).st_size != array.file_bytes(part.rows):
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
        self._files: dict[str, tuple[BinaryIO, PackedArray, _Sums]] = {}
        self._parts: dict[str, dict[str, PackedArray]] = {}
        self._rows: dict[str, int] = {}
        self._is_finished = False

    def append(self, part: str, arrays: Mapping[str, Array]) -> None:
        """Put rows behind those of a part. Raises OSError."""
        known = self._parts.setdefault(part, {})
        for name, values in arrays.items():
            if name not in known:
                entry = f"{self._key}.{self._token}.{len(self._files)}"
                known[name] = made = PackedArray(entry, values.dtype, values.shape[1:])
                self._files[entry] = self._folder.created(entry), made, _Sums(made.rows_of_piece * made.row_bytes)
            file, packed, sums = self._files[known[name].entry]
            assert (packed.dtype, packed.shape) == (values.dtype, values.shape[1:])
            content = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
            file.write(content)
            sums.add(content)
        self._rows[part] = self._rows.get(part, 0) + len(next(iter(arrays.values())))

    def finish(self, told: JsonObject) -> Pack:
        """The pack, whole. Raises OSError."""
        checked: dict[str, int] = {}
        for entry, (file, _, sums) in self._files.items():
            content = sums.content()
            file.write(content)
            file.close()
            checked[entry] = zlib.crc32(content)
        parts = {
            part: PackedPart(self._rows[part], {n: replace(a, checked=checked[a.entry]) for n, a in arrays.items()})
            for part, arrays in self._parts.items()
        }
        pack = Pack(self._folder, parts, told)
        head = json.dumps(_head_of(pack)).encode()
        self._folder.write(self._key + _HEAD, _digest(head), b"\n", head)
        self._is_finished = True
        return pack

    def leave(self) -> None:
        """Close all files, and remove those of a pack that is not finished."""
        for entry, (file, *_) in self._files.items():
            with contextlib.suppress(OSError):
                file.close()
            if not self._is_finished:
                with contextlib.suppress(OSError):
                    self._folder.remove(entry)


class _Sums:
    """The checksums of the pieces of a file, which comes bit by bit; `piece` is in bytes."""

    def __init__(self, piece: int) -> None:
        self._piece = self._left = piece
        self._sum, self._found = 0, array("I")

    def add(self, content: memoryview) -> None:
        while len(content):
            part = content[: self._left]
            self._sum, self._left = zlib.crc32(part, self._sum), self._left - len(part)
            if not self._left:
                self._close()
            content = content[len(part) :]

    def content(self) -> bytes:
        """All of them, behind the last piece."""
        if self._left < self._piece:
            self._close()
        return np.array(self._found, _SUM).tobytes()

    def _close(self) -> None:
        self._found.append(self._sum)
        self._sum, self._left = 0, self._piece


@record(eq=False)
class RowFile:
    """The open file of an array, whose pieces are checked against `sums` as they are read into memory."""

    folder: TrustedFolder
    packed: PackedArray
    rows: int
    name: str
    file: FileIO
    sums: Array

    def fill(self, first: int, into: Array) -> None:
        """Fill the array with as many rows from number `first` on. Raises DataError."""
        each, begin, end = self.packed.rows_of_piece, first, first + len(into)
        while begin < end:
            whole = end if end == self.rows else end // each * each
            if begin % each == 0 and begin < whole:
                until = min(begin + _AT_ONCE * each, whole)
                self._read(begin, into[begin - first : until - first])
            else:
                until = self._fill_within_piece(begin, into[begin - first :])
            begin = until

    def _fill_within_piece(self, begin: int, into: Array) -> int:
        """Fill the array as far as the piece reaches in which row `begin` lies; the row behind the last filled."""
        each = self.packed.rows_of_piece
        low = begin // each * each
        piece: Array = np.empty((min(each, self.rows - low), *into.shape[1:]), into.dtype)
        self._read(low, piece)
        until = min(begin + len(into), low + len(piece))
        into[: until - begin] = piece[begin - low : until - low]
        return until

    def check(self) -> None:
        """Read all rows, and keep none. Raises DataError."""
        each = self.packed.rows_of_piece
        room: Array = np.empty((min(each, self.rows), *self.packed.shape), self.packed.dtype)
        for begin in range(0, self.rows, each):
            self._read(begin, room[: self.rows - begin])

    def _read(self, begin: int, pieces: Array) -> None:
        """Fill the array, which holds whole pieces, from row `begin` on."""
        content = pieces.reshape(-1).view(np.uint8).data
        filled(self.file, begin * self.packed.row_bytes, content)
        each, row_bytes = self.packed.rows_of_piece, self.packed.row_bytes
        for number, low in enumerate(range(0, len(pieces), each), begin // each):
            if zlib.crc32(content[low * row_bytes : (low + each) * row_bytes]) != self.sums[number]:
                high = min(low + each, len(pieces))
                rows = f"rows {begin + low + 1:,} to {begin + high:,} of `{self.name}`"
                raise broken_pack(self.folder, self.packed, rows)


def opened_rows(folder: TrustedFolder, packed: PackedArray, rows: int, name: str) -> RowFile:
    """The file of an array, to read; the caller closes it. Raises OSError, DataError."""
    file = opened_array(folder, packed)
    found = RowFile(folder, packed, rows, name, file, np.zeros(-(-rows // packed.rows_of_piece), _SUM))
    content = found.sums.view(np.uint8).data
    filled(file, rows * packed.row_bytes, content)
    if zlib.crc32(content) != packed.checked:
        file.close()
        raise broken_pack(folder, packed, f"the checksums of `{name}`")
    return found


def opened_array(folder: TrustedFolder, packed: PackedArray) -> FileIO:
    """The file of an array as bytes; the caller closes it. Raises OSError."""
    with folder.open(packed.entry) as file:
        return FileIO(os.dup(file.fileno()), "rb")


def filled(file: FileIO, offset: int, content: memoryview) -> None:
    """Fill a buffer from a place of a file on; what the file does not have stays as it is. Raises OSError."""
    file.seek(offset)
    while len(content) and (count := file.readinto(content)):
        content = content[count:]


def broken_pack(folder: TrustedFolder, packed: PackedArray, what: str) -> DataError:
    """That rows on disk are not those that were written. Their pack is thrown away, so that it is made anew."""
    fix = "they are thrown away, and the next command makes them anew; `dlc train --resume RUN` goes on then"
    try:
        folder.remove(packed.entry.split(".")[0] + _HEAD)
    except FileNotFoundError:
        pass
    except OSError:
        fix = "`dlc cache clear` throws them away, and they are made anew"
    return DataError(f"{what} are not those that were written", folder.path / packed.entry, fix=fix)


def usual_packs() -> PackCache:
    """The cache in the folder where compiled code is kept, too."""
    return PackCache(default_folder() / "rows")


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _key(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _head_of(pack: Pack) -> JsonObject:
    parts: dict[str, JsonValue] = {
        name: {"rows": part.rows, "arrays": {n: _array_in_head(a) for n, a in part.arrays.items()}}
        for name, part in pack.parts.items()
    }
    return {"parts": parts, "told": pack.told}


def _array_in_head(packed: PackedArray) -> list[JsonValue]:
    return [packed.entry, packed.dtype.str, list(packed.shape), packed.checked]


def _pack_of(folder: TrustedFolder, head: JsonValue) -> Pack:
    """The inverse of `_head_of`. Raises ValueError, TypeError, KeyError or AttributeError for anything else."""
    whole = cast("dict[str, dict[str, dict[str, object]]]", head)
    parts: dict[str, PackedPart] = {}
    for name, part in whole["parts"].items():
        arrays = cast("dict[str, tuple[str, str, list[int], int]]", part["arrays"])
        listed = {n: PackedArray(str(e), np.dtype(d), tuple(map(int, s)), int(c)) for n, (e, d, s, c) in arrays.items()}
        parts[name] = PackedPart(int(str(part["rows"])), listed)
    return Pack(folder, parts, cast("JsonObject", whole["told"]))
