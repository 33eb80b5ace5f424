"""Locks of the operating system on files, which end with the process that has them."""

from __future__ import annotations

import os
from io import FileIO
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

_PLACE = 1 << 30  # of the byte that Windows locks, which nobody reads: behind all that such files hold


def take(file: BinaryIO | FileIO, is_shared: bool = False) -> None:
    """Take the lock of an open file, which lasts until it is closed. Raises BlockingIOError, and OSError.

    The first is raised where another process has it. Several may share it; on Windows one has it even so.
    """
    if fcntl is not None:
        fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return
    import msvcrt

    descriptor = file.fileno()
    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _PLACE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]
    except PermissionError as error:
        raise BlockingIOError(error.errno, "another process has the lock") from error
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)
