"""Large files have the bytes of their pieces wherever these begin and end, and zeros take no room on the disk."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.support import large_files
from runtime.support.files import replace_file
from runtime.support.large_files import LARGE, write_large

BLOCK = 1 << 22
_write = os.write


def noise(size: int) -> bytes:
    return np.random.default_rng(size).integers(1, 256, size, np.uint8).tobytes()


CASES = {
    "nothing": [],
    "empty pieces": [b"", b"a", b""],
    "one block": [noise(BLOCK)],
    "less than a block": [noise(5000)],
    "pieces across blocks": [noise(7), noise(BLOCK - 3), noise(2 * BLOCK + 1), b"end"],
    "zeros between": [noise(100), bytes(3 * BLOCK), noise(100)],
    "zeros at the end": [noise(BLOCK), bytes(2 * BLOCK)],
    "zeros at the end, and a rest": [noise(BLOCK), bytes(2 * BLOCK + 11)],
    "zeros but for the last byte of a block": [bytes(BLOCK - 1) + b"x", bytes(BLOCK)],
    "zeros alone": [bytes(BLOCK)],
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_has_the_bytes_of_its_pieces(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"older and to be gone")
    write_large(tmp_path / "file", [memoryview(piece) for piece in CASES[name]])
    assert (tmp_path / "file").read_bytes() == b"".join(CASES[name])


def refused_when_direct(descriptor: int, content: memoryview) -> int:
    """As of a file system that takes the flag and then no such write."""
    if large_files.is_direct(descriptor):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return _write(descriptor, content)


def in_part(descriptor: int, content: memoryview) -> int:
    """As of a system that writes less than it is given, to an odd place."""
    return _write(descriptor, content[: len(content) // 2 + 1] if len(content) > 1 else content)


@pytest.mark.parametrize("write", [refused_when_direct, in_part])
def test_writes_that_are_refused_or_cut_short_are_made_up(
    write: Callable[[int, memoryview], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", write)
    pieces = CASES["pieces across blocks"]
    write_large(tmp_path / "file", pieces)
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


def test_blocks_of_zeros_take_no_room(tmp_path: Path) -> None:
    write_large(tmp_path / "file", [noise(BLOCK), bytes(8 * BLOCK), noise(BLOCK)])
    assert (tmp_path / "file").stat().st_size == 10 * BLOCK
    assert (tmp_path / "file").stat().st_blocks * 512 < 4 * BLOCK


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, content: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "file").write_bytes(b"before")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        replace_file(tmp_path / "file", noise(LARGE))
    assert caught.value.filename == str(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"before"
