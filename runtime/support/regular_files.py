"""The content of files that others may have made: regular files no larger than memory; a guess at files of no model."""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from compiler.errors.diagnostics import UsageError
from compiler.support.open_flags import flags
from compiler.targets.available_memory import expect_memory

_SMALL = 1 << 24  # bytes that need no look at the memory


def opened(path: Path) -> BinaryIO:
    """A file to read; to wait for a pipe, or to read a device that never ends, is refused. Raises OSError."""
    descriptor = os.open(path, flags("O_NONBLOCK", "O_CLOEXEC"))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "this is no regular file: a pipe, a socket or a device", str(path))


def appended(path: Path) -> FileIO:
    """A file to read and to write at its end, made where there is none; never one that a link leads to. Raises OSError.

    A run folder may come from others, and what it is written to must lie in it.
    """
    how = os.O_RDWR | os.O_APPEND | os.O_CREAT | flags("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")
    descriptor = os.open(path, how, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "this is no regular file: a pipe, a socket or a device", str(path))
    return FileIO(descriptor, "ab+")


def content(path: Path, times: int = 1) -> bytes:
    """All bytes of a file. Raises OSError, and ResourceError where they do not fit in memory `times` over."""
    with opened(path) as file:
        return content_of(file, path, times)


def content_of(file: BinaryIO, path: Path, times: int) -> bytes:
    """The rest of an opened file, no more than it had when it was looked at. Raises as `content`."""
    size = os.fstat(file.fileno()).st_size - file.tell()
    expect_room(path, size, times)
    return file.read(max(size, 0))


def expect_room(path: Path, size: int, times: int, so_far: str = "") -> None:
    """Raise ResourceError where so many bytes of a file do not fit in memory `times` over."""
    if size * times > _SMALL:
        needed = {f"its content {so_far}".rstrip(): size, "its copies on the way to arrays": (times - 1) * size}
        fix = "read data in blocks (`stream = 65536` in `train`), use less of it, or a machine with more memory"
        expect_memory(f"reading {path}", needed, fix)


_WEIGHTS = ".safetensors"
_BEGINNING = 1 << 16  # bytes of a file, which may be large


def expect_model(path: Path) -> None:
    """Raise UsageError for a file that is neither called `.dl` nor begins like a model file. Raises OSError."""
    if path.suffix == ".dl":
        return
    with path.open("rb") as file:
        text = file.read(_BEGINNING).decode("utf-8-sig", "replace")
    from compiler.syntax.declarations import begins_with_declaration  # the lexer, which a model file does without

    if not begins_with_declaration(text):
        raise UsageError(f"{path} is no model file", _meant(path))


def _meant(path: Path) -> str:
    run = next((folder for folder in path.parents if (folder / "run.json").is_file()), None)
    if run is not None:
        return f"it is a part of the run {run}: name the run, where a command takes one, or the model file"
    model = next(iter(sorted(path.parent.glob("*.dl"))), "model.dl")
    if path.suffix == _WEIGHTS:
        return f"weights go with a model file: dlc eval {model} --weights {path}"
    return f"name the model file (.dl); where this is its data: dlc train {model} --data {path}"
