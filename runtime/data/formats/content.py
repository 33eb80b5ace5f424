"""The content of a data file, plain or gzip. Content that exceeds memory is refused while it is unpacked."""

from __future__ import annotations

import glob
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from compiler.errors.diagnostics import DataError
from runtime.support import regular_files
from runtime.support.files import explained

_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20
_MOST_FOR_A_BYTE = 1032  # that deflate can make of one
LONGEST_LINE = 1 << 24  # bytes
_BETWEEN_LOOKS = 1 << 26  # bytes that are unpacked between two looks at the memory
# How often the content, or what is made of it, is in memory on the way to arrays.
_OF_TEXT, _OF_ARRAYS = 5, 2


def files_at(path: Path) -> list[Path]:
    """The file at a path, all files in a folder, or all that fit a path with `*`, in the order of their names."""
    pattern = "*".join(map(glob.escape, str(path).split("*"))) if "*" in str(path) else None
    if pattern is None and not path.is_dir():
        return [path]
    found = sorted(map(Path, glob.glob(pattern))) if pattern is not None else sorted(path.iterdir())
    files = [file for file in found if file.is_file() and not file.name.startswith((".", "_"))]
    if not files:
        raise DataError("no file fits this path", path, fix="check the path; `*` stands for a part of a name")
    return files


def text_of(path: Path) -> bytes:
    """The content of a text, packed only up to a zero byte, which no text has. Raises DataError, ResourceError."""
    return _read(path, _OF_TEXT, lambda piece, _: b"\0" in piece)


def content_of(path: Path, most: Callable[[bytes], int] | None = None) -> bytes:
    """The content of a file of arrays. Raises DataError, and ResourceError where it does not fit in memory.

    `most`: how many bytes there should be, by the beginning of the file. Of what is packed, not much more is read.
    """
    wanted: int | None = None

    def is_enough(piece: bytes, total: int) -> bool:
        nonlocal wanted
        if most is None:
            return False
        if wanted is None:
            wanted = most(piece)
            _expect_possible(path, wanted)
            regular_files.expect_room(path, wanted, _OF_ARRAYS)
        return total > wanted

    return _read(path, _OF_ARRAYS, is_enough)


def _read(path: Path, times: int, is_enough: Callable[[bytes, int], bool]) -> bytes:
    """The whole file, or its unpacked beginning until a piece, with the bytes so far, is enough."""
    with explained(DataError, path), regular_files.opened(path) as file:
        is_packed = file.read(2) == _GZIP
        file.seek(0)
        if not is_packed:
            return regular_files.content_of(file, path, times)
        return _unpacked(file, path, times, is_enough)


def _unpacked(file: BinaryIO, path: Path, times: int, is_enough: Callable[[bytes, int], bool]) -> bytes:
    declared = _declared(file)
    _expect_possible(path, declared)
    regular_files.expect_room(path, declared, times)
    pieces: list[bytes] = []
    total, looked = 0, 0
    for piece in _pieces(file, path):
        pieces.append(piece)
        total += len(piece)
        if is_enough(piece, total):
            break
        if total - looked >= _BETWEEN_LOOKS:  # the length that a file declares may be a lie
            looked = total
            regular_files.expect_room(path, total, times, "so far")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def pieces_of(path: Path) -> Iterator[bytes]:
    """The content of a file, plain or gzip, piece by piece. Raises DataError."""
    with explained(DataError, path), regular_files.opened(path) as file:
        is_packed = file.read(2) == _GZIP
        file.seek(0)
        yield from _pieces(file, path) if is_packed else iter(lambda: file.read(_PIECE), b"")


def length_of(path: Path, most: int | None = None) -> int:
    """How many bytes the content of a file has. Raises DataError.

    What is packed is unpacked for that, until there are more than `most`.
    """
    with explained(DataError, path), regular_files.opened(path) as file:
        if file.read(2) != _GZIP:
            return os.fstat(file.fileno()).st_size
    total = 0
    for piece in pieces_of(path):
        total += len(piece)
        if most is not None and total > most:
            break
    return total


def stretches_of(path: Path, start: int, each: int) -> Iterator[bytes]:
    """What stands behind the first `start` bytes of the content, `each` bytes at a time; the last are what is left."""
    rest, skipped = b"", start
    for piece in pieces_of(path):
        rest += piece[skipped:]
        skipped = max(skipped - len(piece), 0)
        for first in range(0, len(rest) - each + 1, each):
            yield rest[first : first + each]
        rest = rest[len(rest) // each * each :]
    if rest:
        yield rest


def line_blocks_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a text, a piece at a time, with the number of the first; quotes are closed at the end of each.

    Raises DataError for a line of more than `LONGEST_LINE` bytes.
    """
    first, rest = 1, b""
    for piece in pieces_of(path):
        rest += piece
        end = rest.rfind(b"\n") + 1
        if (not end and len(rest) > LONGEST_LINE) or len(rest) - end > LONGEST_LINE:
            message = f"a line of more than {LONGEST_LINE:,} bytes"
            raise DataError(message, path, first + rest.count(b"\n"), "check that this is a text, row by row")
        if end and (rest.count(b'"', 0, end) % 2 == 0 or end > LONGEST_LINE):
            yield first, rest[:end]
            first += rest.count(b"\n", 0, end)
            rest = rest[end:]
    if rest:
        yield first, rest


def _expect_possible(path: Path, declared: int) -> None:
    size = path.stat().st_size
    if declared > _MOST_FOR_A_BYTE * size:
        message = f"it declares {declared:,} bytes, which a file of {size:,} cannot hold"
        raise DataError(message, path, fix="fetch the file again")


def _declared(file: BinaryIO) -> int:
    """How long the last part is when it is unpacked, modulo 2³², as the end of the file says it (RFC 1952)."""
    file.seek(-4, os.SEEK_END)
    declared = int.from_bytes(file.read(4), "little")
    file.seek(0)
    return declared


def _pieces(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """A gzip file, unpacked. It may have several members, one after the other; zero bytes may pad the end."""
    unpacker, at_start = zlib.decompressobj(wbits=31), True
    try:
        while raw := file.read(_PIECE):
            while raw and (not at_start or (raw := raw.lstrip(b"\0"))):
                at_start = False
                if piece := unpacker.decompress(raw, _PIECE):
                    yield piece
                raw = unpacker.unconsumed_tail
                if unpacker.eof:
                    raw = unpacker.unused_data
                    unpacker, at_start = zlib.decompressobj(wbits=31), True
        while not at_start and not unpacker.eof and (piece := unpacker.decompress(b"", _PIECE)):
            yield piece
    except zlib.error as error:
        raise DataError(f"the gzip data is damaged ({error})", path, fix="fetch the file again") from error
    if not at_start and not unpacker.eof:
        raise DataError("the gzip data ends too early: the file is truncated", path, fix="fetch the file again")
