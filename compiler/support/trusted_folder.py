"""A folder of a cache: files are read and written there only where nobody but this user, or root, can have put them.

The content of a cache is run, or believed, without a second look. So each access walks from the root folder down,
checks owner and mode of every folder and link on the way and of the file itself, and reads what was checked; nothing is
remembered. Every kind of entry goes through here. Linux walks by descriptors, where nothing is looked up twice. Other
systems walk by paths, in which nobody else can change a name behind the check, since its folder was checked before. A
system without owners of files has a cache in the user's own folder alone, which its rights of access keep from others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

from compiler.support.open_flags import flags

_FOLDER = flags("O_PATH", "O_NOFOLLOW", "O_CLOEXEC")
_FILE = flags("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK")  # to open a FIFO must not wait
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags("O_CLOEXEC")
_NEW_TO_READ = os.O_RDWR | os.O_CREAT | os.O_EXCL | flags("O_CLOEXEC")
_MOST_LINKS = 40  # as Linux follows
HAS_DESCRIPTORS = hasattr(os, "O_PATH")
HAS_OWNERS = hasattr(os, "geteuid")


class _ByDescriptor:
    """A folder or a link that is held open. Close it."""

    def __init__(self, path: Path, number: int | None = None) -> None:
        self.path, self._number = path, os.open(path, _FOLDER) if number is None else number

    @property
    def status(self) -> os.stat_result:
        return os.fstat(self._number)

    @property
    def target(self) -> Path:
        return Path(os.readlink("", dir_fd=self._number))

    @property
    def open_path(self) -> Path:
        """A path to what is open."""
        return _open_path(self._number)

    def below(self, name: str) -> _ByDescriptor:
        return _ByDescriptor(self.path / name, os.open(name, _FOLDER, dir_fd=self._number))

    def make(self, name: str) -> None:
        os.mkdir(name, 0o700, dir_fd=self._number)

    def opened(self, name: str, how: int) -> int:
        return os.open(name, how, 0o600, dir_fd=self._number)

    def rename(self, name: str, other: str) -> None:
        os.replace(name, other, src_dir_fd=self._number, dst_dir_fd=self._number)

    def unlink(self, name: str) -> None:
        os.unlink(name, dir_fd=self._number)

    @contextlib.contextmanager
    def entries(self) -> Generator[Iterator[os.DirEntry[str]]]:
        descriptor = os.open(".", flags("O_DIRECTORY", "O_CLOEXEC"), dir_fd=self._number)
        try:
            with os.scandir(descriptor) as found:
                yield found
        finally:
            os.close(descriptor)

    def close(self) -> None:
        os.close(self._number)


class _ByPath:
    """A folder or a link by its name."""

    def __init__(self, path: Path) -> None:
        self.path, self.status = path, os.lstat(path)

    @property
    def target(self) -> Path:
        return self.path.readlink()

    @property
    def open_path(self) -> Path:
        return self.path

    def below(self, name: str) -> _ByPath:
        return _ByPath(self.path / name)

    def make(self, name: str) -> None:
        os.mkdir(self.path / name, 0o700)

    def opened(self, name: str, how: int) -> int:
        return os.open(self.path / name, how, 0o600)

    def rename(self, name: str, other: str) -> None:
        os.replace(self.path / name, self.path / other)

    def unlink(self, name: str) -> None:
        os.unlink(self.path / name)

    def entries(self) -> contextlib.AbstractContextManager[Iterator[os.DirEntry[str]]]:
        return os.scandir(self.path)

    def close(self) -> None:
        pass


_Place: TypeAlias = "_ByDescriptor | _ByPath"


class TrustedFolder:
    """Every method looks at the disk anew. A folder that others may write raises PermissionError, with the reason."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def open(self, name: str) -> Generator[BinaryIO]:
        """A file in the folder, to read. Raises OSError."""
        with self._checked() as folder, os.fdopen(self._opened(name, folder), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a file", str(self.path / name))
            open_path = _open_path(file.fileno()) if HAS_DESCRIPTORS else self.path / name
            _expect_ours(status, open_path, self.path / name)
            yield file

    def _opened(self, name: str, folder: _Place) -> int:
        try:
            return folder.opened(name, _FILE)
        except OSError as error:
            reason = "this is a link" if error.errno == errno.ELOOP else error.strerror
            raise OSError(error.errno, reason, str(self.path / name)) from None

    def write(self, name: str, *pieces: bytes | memoryview) -> None:
        """A file with that content, whole or not at all. The folder is made where there is none. Raises OSError."""
        with self._checked(make=True) as folder:
            unfinished = f"{name}.{os.urandom(8).hex()}"
            try:
                with os.fdopen(folder.opened(unfinished, _NEW), "wb") as file:
                    file.writelines(pieces)
                folder.rename(unfinished, name)
            except BaseException:
                with contextlib.suppress(OSError):
                    folder.unlink(unfinished)
                raise

    def created(self, name: str) -> BinaryIO:
        """A new file in the folder, to write and to read, which is made where there is none. Raises OSError."""
        with self._checked(make=True) as folder:
            return os.fdopen(folder.opened(name, _NEW_TO_READ), "w+b")

    def files(self) -> list[tuple[str, os.stat_result]]:
        """Name and status of each file in the folder; none where it cannot be used."""
        found: list[tuple[str, os.stat_result]] = []
        with contextlib.suppress(OSError), self._checked() as folder, folder.entries() as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another process removes entries too
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found.append((entry.name, status))
        return found

    def remove(self, name: str) -> None:
        """Raises OSError."""
        with self._checked() as folder:
            folder.unlink(name)

    def why_unused(self) -> str:
        """Why nothing is read or written here, as a message with the place; empty where the folder is used."""
        try:
            with self._checked():
                return ""
        except FileNotFoundError:
            return ""  # it is made when something is written
        except OSError as error:
            return f"{error.filename}: {error.strerror}"

    @contextlib.contextmanager
    def _checked(self, make: bool = False) -> Generator[_Place]:
        """The folder, checked with all above it."""
        path = Path.cwd().joinpath(self.path)
        held: list[_Place] = [_top(path)]
        try:
            self._walk(held, path, make)
            yield held[0]
        finally:
            held[0].close()

    def _walk(self, held: list[_Place], path: Path, make: bool) -> None:
        """Put the folder in the place of the one above all."""
        waiting, links = [*reversed(path.parts[1:])], 0
        while waiting:
            _expect_ours(held[0].status, held[0].open_path, held[0].path, sticky_is_enough=True)
            below = _entered(waiting.pop(), held[0], make)
            status = below.status
            if not stat.S_ISLNK(status.st_mode):
                held[0].close()
                held[0] = below
                if not stat.S_ISDIR(status.st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, "this is not a folder", str(below.path))
                continue
            try:
                # who may write the folder with a link decides where it leads, and in a sticky one its owner
                _expect_ours(status, below.open_path, below.path)
                target = below.target
            finally:
                below.close()
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, "too many links", str(self.path))
            waiting += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            if target.is_absolute():
                top = _top(target)
                held[0].close()
                held[0] = top
        _expect_ours(held[0].status, held[0].open_path, held[0].path)


def _top(path: Path) -> _Place:
    """The folder above all in an absolute path."""
    return _ByDescriptor(Path(path.anchor)) if HAS_DESCRIPTORS else _ByPath(Path(path.anchor))


def _entered(name: str, folder: _Place, make: bool) -> _Place:
    """A folder or link in a folder; a missing folder is made where that is asked for."""
    try:
        if make:
            with contextlib.suppress(FileExistsError):
                folder.make(name)
        return folder.below(name)
    except OSError as error:
        error.filename = str(folder.path / name)
        raise


def _open_path(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}")


def _expect_ours(status: os.stat_result, open_path: Path, place: Path, sticky_is_enough: bool = False) -> None:
    """Raises PermissionError unless only this user and root may change what was opened.

    `sticky_is_enough`: others may add to a folder above, such as `/tmp`, but not touch what is ours in it.
    """
    mode, problem = status.st_mode, ""
    if not HAS_OWNERS:
        if not sticky_is_enough and Path.home() not in place.parents:
            problem = "this system tells no owners, and the folder is not below the user's own"
    elif status.st_uid not in (0, os.geteuid()):
        problem = f"belongs to another user ({status.st_uid})"
    elif stat.S_ISLNK(mode) or (sticky_is_enough and mode & stat.S_ISVTX):
        pass
    elif mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not _is_alone_in(status.st_gid, open_path)):
        problem = f"others may write there (mode {stat.S_IMODE(mode):o})"
    if problem:
        raise PermissionError(errno.EPERM, problem, str(place))


def _is_alone_in(group: int, open_path: Path) -> bool:
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
    if not hasattr(os, "getxattr"):
        return False  # nothing tells of a list
    try:
        return not os.getxattr(open_path, "system.posix_acl_access")
    except OSError as error:
        return error.errno in (errno.ENODATA, errno.ENOTSUP)
