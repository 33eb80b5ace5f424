"""The content of a large file goes to the disk past the system's cache of pages, and its zeros take no room there.

Pages of the cache would be found, filled and forced to the disk one by one, which takes longer than the disk does.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from compiler.support.open_flags import flags

LARGE = 1 << 25  # bytes from which on this is worth while
_BLOCK = 1 << 22  # bytes that are written at once: a multiple of what any disk writes
_ZEROS = 64  # bytes of a block that are looked at first


def write_large(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a new file and force it to the disk. Raises OSError; a partial file may be left behind."""
    how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags("O_CLOEXEC")
    descriptor = os.open(path, how, 0o666)
    try:
        set_direct(descriptor, True)
        _write_blocks(descriptor, mmap.mmap(-1, _BLOCK), pieces)  # a block at a page, as such writes need
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_direct(descriptor: int, is_direct: bool) -> None:
    """Have writes go past the cache of pages, or through it; through it where the system knows nothing else."""
    if not hasattr(os, "O_DIRECT"):
        return
    import fcntl  # which not every system has

    now = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    with suppress(OSError):  # a file system may refuse it
        fcntl.fcntl(descriptor, fcntl.F_SETFL, now | os.O_DIRECT if is_direct else now & ~os.O_DIRECT)


def _write_blocks(descriptor: int, block: mmap.mmap, pieces: Iterable[bytes | memoryview]) -> None:
    zeros = bytes(_BLOCK)
    filled = size = 0
    for piece in pieces:
        size += len(piece)
        place = 0
        while place < len(piece):
            taken = min(len(piece) - place, _BLOCK - filled)
            block[filled : filled + taken] = piece[place : place + taken]
            filled, place = filled + taken, place + taken
            if filled == _BLOCK:
                _put(descriptor, block, zeros)
                filled = 0
    set_direct(descriptor, False)  # a rest is no multiple
    _write_all(descriptor, memoryview(block[:filled]))
    os.ftruncate(descriptor, size)  # there may be zeros at the end


def _put(descriptor: int, block: mmap.mmap, zeros: bytes) -> None:
    """Write a block, or leave its place out where it has only zeros: nothing takes room on the disk then."""
    if block[:_ZEROS] == zeros[:_ZEROS] and block[:] == zeros:
        os.lseek(descriptor, _BLOCK, os.SEEK_CUR)
        return
    _write_all(descriptor, memoryview(block))


def _write_all(descriptor: int, content: memoryview) -> None:
    while content:
        try:
            written = os.write(descriptor, content)
        except OSError:
            if not is_direct(descriptor):
                raise
            written = 0
        if written < len(content):
            set_direct(descriptor, False)  # what is refused, or left, may not lie as such a write needs
        content = content[written:]


def is_direct(descriptor: int) -> bool:
    """Whether writes go past the cache of pages."""
    if not hasattr(os, "O_DIRECT"):
        return False
    import fcntl  # which not every system has

    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)
