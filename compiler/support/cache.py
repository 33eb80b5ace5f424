"""Compiled code kept between runs: objects and syntax by the hash of their sources, and small named entries.

A file holds the SHA-256 of its content and the content; one that does not agree is ignored and written anew. Files
appear whole, by renaming. The cache only saves time: a folder that cannot be read or written, or that others may
write, costs nothing else.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from functools import cache as remembered
from hashlib import sha256
from pathlib import Path

import compiler
from compiler.support.record import record
from compiler.support.trusted_folder import TrustedFolder

_DIGEST_BYTES = 32
_DEFAULT_LIMIT = 1 << 30
_KEPT_SHARE = 0.75  # of the limit, once it was passed
_HOUR = 3600.0
_SUBFOLDERS = _OBJECTS, _ENTRIES, _PARSED, _CRASHES = "objects", "entries", "parsed", "crashes"


@record
class CacheInfo:
    """The content of a cache folder; `why_unused` is empty where it is read and written."""

    path: Path
    entries: int
    bytes: int
    why_unused: str


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """`DLC_CACHE_DIR`, or `dlc` in the user's cache folder, which Windows calls `LOCALAPPDATA`."""
    if chosen := environment.get("DLC_CACHE_DIR"):
        return Path(chosen).expanduser()
    home = environment.get("XDG_CACHE_HOME") or environment.get("LOCALAPPDATA")
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
    """Path, size and time of change of each file that decides the results of the compiler."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files_below(entry.path)
            elif entry.name.endswith((".py", ".dl", ".ll", ".lark", ".toml", ".json")):
                status = entry.stat()
                yield f"{entry.path}\0{status.st_size}\0{status.st_mtime_ns}\n"


class ObjectCache:
    """A cache in `folder`, or in the user's folder for None, of at most about `limit_bytes`.

    Over the limit, the entries that were not used for longest go.
    """

    def __init__(self, folder: Path | None = None, limit_bytes: int = _DEFAULT_LIMIT) -> None:
        self.folder = default_folder() if folder is None else folder
        self._limit = limit_bytes
        self._bytes: int | None = None  # counted at the first write
        self._lock = threading.Lock()

    def get_object(self, key: str) -> bytes | None:
        return self._read(_OBJECTS, key)

    def put_object(self, key: str, content: bytes) -> None:
        self._write(_OBJECTS, key, content)

    def get_parsed(self, key: str) -> bytes | None:
        return self._read(_PARSED, key)

    def put_parsed(self, key: str, content: bytes) -> None:
        self._write(_PARSED, key, content)

    def get(self, name: str) -> bytes | None:
        """The entry of that name, which may be any text."""
        return self._read(_ENTRIES, sha256(name.encode()).hexdigest())

    def put(self, name: str, content: bytes) -> None:
        self._write(_ENTRIES, sha256(name.encode()).hexdigest(), content)

    def keep_crash(self, key: str, text: str) -> Path | None:
        """Save the module that stopped LLVM; where it lies, or None if it could not be written."""
        name = f"{key[:16]}.ll"
        try:
            self._subfolder(_CRASHES).write(name, text.encode())
        except OSError:
            return None
        return self.folder / _CRASHES / name

    def info(self) -> CacheInfo:
        sizes = [status.st_size for _, _, status in self._files()]
        folders = (TrustedFolder(self.folder), *map(self._subfolder, _SUBFOLDERS))
        why_unused = next(filter(None, (folder.why_unused() for folder in folders)), "")
        return CacheInfo(self.folder, len(sizes), sum(sizes), why_unused)

    def clear(self) -> None:
        """Remove every entry, and nothing else that may lie in the folder."""
        for folder, name, _ in list(self._files()):
            with contextlib.suppress(OSError):
                folder.remove(name)
        self._bytes = None

    def _subfolder(self, name: str) -> TrustedFolder:
        return TrustedFolder(self.folder / name)

    def _files(self) -> Iterator[tuple[TrustedFolder, str, os.stat_result]]:
        for folder in map(self._subfolder, _SUBFOLDERS):
            for name, status in folder.files():
                yield folder, name, status

    def _read(self, subfolder: str, name: str) -> bytes | None:
        try:
            with self._subfolder(subfolder).open(name) as file:
                stored = file.read()
                content = stored[_DIGEST_BYTES:]
                if sha256(content).digest() != stored[:_DIGEST_BYTES]:
                    return None
                if time.time() - os.fstat(file.fileno()).st_mtime > _HOUR:
                    with contextlib.suppress(OSError):
                        os.utime(file.fileno())  # the time of change serves as the time of last use
            return content
        except OSError:
            return None

    def _write(self, subfolder: str, name: str, content: bytes) -> None:
        with contextlib.suppress(OSError):
            self._subfolder(subfolder).write(name, sha256(content).digest(), content)
            self._count(len(content) + _DIGEST_BYTES)

    def _count(self, added: int) -> None:
        with self._lock:
            self._bytes = self.info().bytes if self._bytes is None else self._bytes + added
            if self._bytes > self._limit:
                self._prune()

    def _prune(self) -> None:
        files = sorted(self._files(), key=lambda entry: entry[2].st_mtime_ns)
        total = sum(status.st_size for _, _, status in files)
        for folder, name, status in files:
            if total <= self._limit * _KEPT_SHARE:
                break
            with contextlib.suppress(OSError):
                folder.remove(name)
                total -= status.st_size
        self._bytes = total
