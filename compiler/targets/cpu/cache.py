"""Compiled code kept between runs: objects by the hash of what they were made from, and small named entries.

A file holds the SHA-256 of its content and the content; one that does not agree is ignored and written anew. Files
appear whole, by renaming. The cache only saves time: a folder that cannot be read or written costs nothing else.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from functools import cache as remembered
from hashlib import sha256
from pathlib import Path

import compiler
from compiler.record import record
from compiler.targets.cpu.machine import Machine

_DIGEST_BYTES = 32
_DEFAULT_LIMIT = 1 << 30
_KEPT_SHARE = 0.75  # of the limit, once it was passed
_HOUR = 3600.0
_OBJECTS, _ENTRIES, _CRASHES = "objects", "entries", "crashes"
_SUBFOLDERS = (_OBJECTS, _ENTRIES, _CRASHES, "parsed")  # the front end keeps parsed files here too
# what else decides an object
_CODE_GENERATION = "level 2, no strength reduction of loops, position-independent, small, lines only where known"


@record
class CacheInfo:
    """What lies in a cache folder."""

    path: Path
    entries: int
    bytes: int


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """`DLC_CACHE_DIR`, or `dlc` in the user's cache folder."""
    if chosen := environment.get("DLC_CACHE_DIR"):
        return Path(chosen).expanduser()
    home = environment.get("XDG_CACHE_HOME")
    return (Path(home) if home and Path(home).is_absolute() else Path.home() / ".cache") / "dlc"


@remembered
def compiler_version() -> str:
    """A hash that changes with any file of the compiler or its grammar, for the names of what depends on them.

    A process keeps that of its start: it goes on with the modules that it has.
    """
    package = os.path.dirname(compiler.__file__)
    digest = sha256()
    for top in (package, os.path.join(os.path.dirname(package), "grammar")):
        for line in sorted(_files_below(top)):
            digest.update(line.encode())
    return digest.hexdigest()


def _files_below(folder: str) -> Iterator[str]:
    """Path, size and time of change of each file that decides what the compiler makes."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files_below(entry.path)
            elif entry.name.endswith((".py", ".dl", ".ll", ".lark", ".toml")):
                status = entry.stat()
                yield f"{entry.path}\0{status.st_size}\0{status.st_mtime_ns}\n"


def object_key(ir: str, machine: Machine, llvm_version: str) -> str:
    """The name of the object code that a module becomes."""
    parts = (_CODE_GENERATION, llvm_version, machine.triple, machine.cpu, machine.features, ir)
    return sha256("\0".join(parts).encode()).hexdigest()


class ObjectCache:
    """A cache in `folder`, or in the user's folder for None, of at most about `limit_bytes`.

    Over the limit, the entries that were not used for longest go.
    """

    def __init__(self, folder: Path | None = None, limit_bytes: int = _DEFAULT_LIMIT) -> None:
        self.folder = default_folder() if folder is None else folder
        self._limit = limit_bytes
        self._trusted: dict[str, bool] = {}
        self._bytes: int | None = None  # counted at the first write
        self._lock = threading.Lock()

    def get_object(self, key: str) -> bytes | None:
        return self._read(_OBJECTS, key)

    def put_object(self, key: str, content: bytes) -> None:
        self._write(_OBJECTS, key, content)

    def get(self, name: str) -> bytes | None:
        """The entry of that name, which may be any text."""
        return self._read(_ENTRIES, sha256(name.encode()).hexdigest())

    def put(self, name: str, content: bytes) -> None:
        self._write(_ENTRIES, sha256(name.encode()).hexdigest(), content)

    def keep_crash(self, key: str, text: str) -> Path | None:
        """Save the module that stopped LLVM; where it lies, or None if it could not be written."""
        path = self.folder / _CRASHES / f"{key[:16]}.ll"
        try:
            self._make_folder(_CRASHES)
            path.write_text(text)
        except OSError:
            return None
        return path

    def info(self) -> CacheInfo:
        sizes = [status.st_size for _, status in self._files()]
        return CacheInfo(self.folder, len(sizes), sum(sizes))

    def clear(self) -> None:
        """Remove every entry, and nothing else that may lie in the folder."""
        for path, _ in list(self._files()):
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._bytes = None

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        for name in _SUBFOLDERS:
            with contextlib.suppress(OSError), os.scandir(self.folder / name) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if entry.is_file(follow_symlinks=False):
                            yield entry.path, entry.stat(follow_symlinks=False)

    def _make_folder(self, name: str) -> Path:
        folder = self.folder / name
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _is_trusted(self, name: str) -> bool:
        """Whether only this user can have written there: what is read will be run."""
        if name not in self._trusted:
            try:
                status = (self.folder / name).lstat()
            except OSError:
                return False
            private = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) == 0
            self._trusted[name] = stat.S_ISDIR(status.st_mode) and private and status.st_uid == os.getuid()
        return self._trusted[name]

    def _read(self, subfolder: str, name: str) -> bytes | None:
        if not self._is_trusted(subfolder):
            return None
        path = self.folder / subfolder / name
        try:
            with path.open("rb") as file:
                stored = file.read()
                age = time.time() - os.fstat(file.fileno()).st_mtime
            content = stored[_DIGEST_BYTES:]
            if sha256(content).digest() != stored[:_DIGEST_BYTES]:
                return None
            if age > _HOUR:  # the time of change serves as the time of last use
                with contextlib.suppress(OSError):
                    os.utime(path)
            return content
        except OSError:
            return None

    def _write(self, subfolder: str, name: str, content: bytes) -> None:
        with contextlib.suppress(OSError):
            folder = self._make_folder(subfolder)
            if not self._is_trusted(subfolder):
                return
            unfinished = folder / f"{name}.{os.getpid()}.{threading.get_ident()}"
            try:
                unfinished.write_bytes(sha256(content).digest() + content)
                unfinished.replace(folder / name)
            finally:
                unfinished.unlink(missing_ok=True)
            self._count(len(content) + _DIGEST_BYTES)

    def _count(self, added: int) -> None:
        with self._lock:
            self._bytes = self.info().bytes if self._bytes is None else self._bytes + added
            if self._bytes > self._limit:
                self._prune()

    def _prune(self) -> None:
        files = sorted(self._files(), key=lambda entry: entry[1].st_mtime_ns)
        total = sum(status.st_size for _, status in files)
        for path, status in files:
            if total <= self._limit * _KEPT_SHARE:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
                total -= status.st_size
        self._bytes = total
