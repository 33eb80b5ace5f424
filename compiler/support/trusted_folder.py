"""A folder of a cache: files are read and written there only where nobody but this user, or root, can have put them.

The content of a cache is run, or believed, without a second look. So each access walks from the root folder down by
file descriptors, checks owner and mode of every folder and link on the way and of the file itself, and reads what was
checked: nothing is looked up twice, and nothing is remembered. Every kind of entry goes through here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO

_FOLDER = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # to open a FIFO must not wait
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_MOST_LINKS = 40  # as Linux follows


class TrustedFolder:
    """Every method looks at the disk anew. A folder that others may write raises PermissionError, with the reason."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def open(self, name: str) -> Generator[BinaryIO]:
        """A file in the folder, to read. Raises OSError."""
        with self._descriptor() as folder, os.fdopen(self._opened(name, folder), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a file", str(self.path / name))
            _expect_ours(status, file.fileno(), self.path / name)
            yield file

    def _opened(self, name: str, folder: int) -> int:
        try:
            return os.open(name, _FILE, dir_fd=folder)
        except OSError as error:
            reason = "this is a link" if error.errno == errno.ELOOP else error.strerror
            raise OSError(error.errno, reason, str(self.path / name)) from None

    def write(self, name: str, *pieces: bytes | memoryview) -> None:
        """A file with that content, whole or not at all. The folder is made where there is none. Raises OSError."""
        with self._descriptor(make=True) as folder:
            unfinished = f"{name}.{os.urandom(8).hex()}"
            try:
                with os.fdopen(os.open(unfinished, _NEW, 0o600, dir_fd=folder), "wb") as file:
                    file.writelines(pieces)
                os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(unfinished, dir_fd=folder)
                raise

    def files(self) -> list[tuple[str, os.stat_result]]:
        """Name and status of each file in the folder; none where it cannot be used."""
        found: list[tuple[str, os.stat_result]] = []
        with contextlib.suppress(OSError), self._descriptor() as folder, _listed(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another process removes entries too
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found.append((entry.name, status))
        return found

    def remove(self, name: str) -> None:
        """Raises OSError."""
        with self._descriptor() as folder:
            os.unlink(name, dir_fd=folder)

    def why_unused(self) -> str:
        """Why nothing is read or written here, as a message with the place; empty where the folder is used."""
        try:
            with self._descriptor():
                return ""
        except FileNotFoundError:
            return ""  # it is made when something is written
        except OSError as error:
            return f"{error.filename}: {error.strerror}"

    @contextlib.contextmanager
    def _descriptor(self, make: bool = False) -> Generator[int]:
        """The folder, checked with all above it."""
        held = [os.open("/", _FOLDER)]
        try:
            self._walk(held, make)
            yield held[0]
        finally:
            os.close(held[0])

    def _walk(self, held: list[int], make: bool) -> None:
        """Put the descriptor of the folder in the place of that of `/`."""
        waiting = [*reversed(Path.cwd().joinpath(self.path).parts[1:])]
        place, links = Path("/"), 0
        status = os.fstat(held[0])
        while waiting:
            _expect_ours(status, held[0], place, sticky_is_enough=True)
            name = waiting.pop()
            below = _entered(name, held[0], place, make)
            status = os.fstat(below)
            if not stat.S_ISLNK(status.st_mode):
                os.close(held[0])
                held[0], place = below, place / name
                if not stat.S_ISDIR(status.st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, "this is not a folder", str(place))
                continue
            try:
                # who may write the folder with a link decides where it leads, and in a sticky one its owner
                _expect_ours(status, below, place / name)
                target = Path(os.readlink("", dir_fd=below))
            finally:
                os.close(below)
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, "too many links", str(self.path))
            waiting += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            if target.is_absolute():
                top = os.open("/", _FOLDER)
                os.close(held[0])
                held[0], place = top, Path("/")
            status = os.fstat(held[0])
        _expect_ours(status, held[0], place)


def _entered(name: str, folder: int, place: Path, make: bool) -> int:
    """The descriptor of a folder or link in `folder`; a missing folder is made where that is asked for."""
    try:
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=folder)
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError as error:
        error.filename = str(place / name)
        raise


@contextlib.contextmanager
def _listed(folder: int) -> Generator[Iterator[os.DirEntry[str]]]:
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)


def _expect_ours(status: os.stat_result, descriptor: int, place: Path, sticky_is_enough: bool = False) -> None:
    """Raises PermissionError unless only this user and root may change what was opened.

    `sticky_is_enough`: others may add to a folder above, such as `/tmp`, but not touch what is ours in it.
    """
    mode, problem = status.st_mode, ""
    if status.st_uid not in (0, os.geteuid()):
        problem = f"belongs to another user ({status.st_uid})"
    elif stat.S_ISLNK(mode) or (sticky_is_enough and mode & stat.S_ISVTX):
        pass
    elif mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not _is_alone_in(status.st_gid, descriptor)):
        problem = f"others may write there (mode {stat.S_IMODE(mode):o})"
    if problem:
        raise PermissionError(errno.EPERM, problem, str(place))


def _is_alone_in(group: int, descriptor: int) -> bool:
    """Whether a group is the user's own, as many systems give each user one, and no list of access adds others."""
    import grp  # seldom needed
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid())
        found = grp.getgrgid(group)
    except KeyError:
        return False
    if (user.pw_uid, user.pw_name) != (found.gr_gid, found.gr_name) or set(found.gr_mem) - {user.pw_name}:
        return False
    try:
        return not os.getxattr(f"/proc/self/fd/{descriptor}", "system.posix_acl_access")
    except OSError as error:
        return error.errno in (errno.ENODATA, errno.ENOTSUP)
