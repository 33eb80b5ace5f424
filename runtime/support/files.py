"""Files written whole or not at all, fingerprints of content, and words for what the system or a library lacks."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from compiler.errors.diagnostics import CheckpointError, DataError, UsageError
from compiler.support.harmless import STEERING
from compiler.support.open_flags import flags
from runtime.support.large_files import LARGE, write_large

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | JsonObject | None"
JsonObject: TypeAlias = Mapping[str, JsonValue]

_WHOLE_HASH_LIMIT = 1 << 30
_SAMPLE = 1 << 24
_MOST_LEVELS = 64
# A file cannot be written because of the path that was given for it, and not of the disk.
_OF_THE_PATH = (errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)


def write_bytes(path: Path, *pieces: bytes | memoryview) -> None:
    """Write a new file and force it to the disk. Raises OSError; a partial file may be left behind."""
    if sum(len(piece) for piece in pieces) >= LARGE:
        write_large(path, pieces)
        return
    with path.open("wb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, *content: bytes | memoryview, mode: int | None = None) -> None:
    """Put `content` at `path` in one step: readers see the old file or the new one. Raises OSError."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        write_bytes(temporary, *content)
        if mode is not None:
            temporary.chmod(mode)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):  # a file system that is read-only refuses this, too
            temporary.unlink()
        error.filename = str(path)
        raise
    sync_folder(path.parent)


def write_output(path: Path, content: bytes) -> None:
    """Write an output of a command at a path of its command line, whole or not at all; into a device or a pipe there.

    Raises UsageError where no file can be at such a path, and OSError where the disk is at fault.
    """
    try:
        if _is_stream(path):
            _write_into(path, content)
        else:
            replace_file(path, content)
    except OSError as error:
        error.filename = str(path)
        raise _unwritable(error) from error


def _is_stream(path: Path) -> bool:
    """Whether a path such as `/dev/stdout` leads to what takes bytes, and must not be replaced by a file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode)


def _write_into(path: Path, content: bytes) -> None:
    """Raises OSError, also where nobody reads from a pipe: to wait for a reader could take forever."""
    descriptor = os.open(path, os.O_WRONLY | flags("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC"))
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _unwritable(error: OSError) -> OSError | UsageError:
    """The error to raise where the file of a command line cannot be written."""
    if error.errno not in _OF_THE_PATH:
        return error
    message, fix = explain(error)
    if error.errno == errno.ENOENT:
        message, fix = f"there is no folder {Path(error.filename).parent}", "make it, or choose another path"
    return UsageError(f"{error.filename}: {message}", fix)


def rewrite_file(path: Path, content: bytes) -> None:
    """Other content for a file of the user, whole or not at all; its mode stays, and a link to it. Raises OSError."""
    target = path.resolve()
    replace_file(target, content, mode=stat.S_IMODE(target.stat().st_mode))


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk, after a file in it was created, renamed or removed."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows, which opens no folders, and writes names by itself
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and overlay file systems cannot sync a folder; the files themselves are safe.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def json_bytes(value: JsonValue) -> bytes:
    """Readable JSON text of a settings file. Floats keep every bit; NaN and infinities are written as Python does."""
    return (json_text(value, indent=2) + "\n").encode()


def json_text(value: object, indent: int | None = None) -> str:
    """JSON with letters of all scripts as they are, and what could steer the terminal of a reader as `\\u009b`."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def finite(value: float) -> float | None:
    """A number as strict JSON has it: null where it is NaN or infinite."""
    return value if math.isfinite(value) else None


def parse_json(content: bytes) -> JsonValue:
    """The value of JSON text. Raises ValueError for anything else, and for a nesting above 64 levels.

    What shows, compares or checks a value goes down level by level, and the stack must hold that.
    """
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if content.count(b"[") + content.count(b"{") > _MOST_LEVELS:
        _expect_levels(value)
    return value


def _expect_levels(value: JsonValue) -> None:
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [inner for one in level for inner in _inside(one) if isinstance(inner, list | dict)]
        if not level:
            return
    raise ValueError("nested too deeply")


def _inside(value: JsonValue) -> Iterable[JsonValue]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's whole content, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """`sha256:…` of the content; above 1 GiB `sha256-sampled:…` of the size and of 64 stretches of 16 MiB."""
    size = path.stat().st_size
    if size <= _WHOLE_HASH_LIMIT:
        return f"sha256:{sha256_of(path)}"
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for part in range(64):
            file.seek((size - _SAMPLE) * part // 63)
            digest.update(file.read(_SAMPLE))
    return f"sha256-sampled:{digest.hexdigest()}"


def fingerprint_of_all(paths: Sequence[Path]) -> str:
    """`sha256:…` of the fingerprints of all files and of their names in the folder that has them all."""
    folder, digest = os.path.commonpath([path.parent for path in paths]), hashlib.sha256()
    for path in paths:
        name = os.path.relpath(path, folder)
        digest.update(f"{name}\0{fingerprint(path)}\0".encode("utf-8", "surrogatepass"))
    return f"sha256:{digest.hexdigest()}"


def fingerprints(paths: Iterable[Path]) -> dict[str, str]:
    """The fingerprint of each file, by its name; by its path in the folder that has them all, where a name repeats."""
    files = list(dict.fromkeys(paths))
    if len({path.name for path in files}) == len(files):
        return {path.name: fingerprint(path) for path in files}
    folder = os.path.commonpath([path.parent for path in files])
    return {os.path.relpath(path, folder): fingerprint(path) for path in files}


@contextmanager
def explained(
    kind: type[DataError] | type[CheckpointError], place: Path, begin: str = "", fix: str | None = None
) -> Generator[None]:
    """An operating-system error within becomes one of this kind about `place`; `fix` stands for the usual advice."""
    try:
        yield
    except OSError as error:
        message, usual = explain(error)
        raise kind(begin + message, place, fix=usual if fix is None else fix) from error


def file_identity(file: Path) -> list[str | int]:
    """The place, size and time of a file, which tell it from one that was changed. Raises DataError."""
    with explained(DataError, file):
        status = file.stat()
    return [str(file.absolute()), status.st_size, status.st_mtime_ns]


def explain(error: OSError) -> tuple[str, str]:
    """An operating-system error in the user's words, and the remedy."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "the disk is full", "free some space"
        case errno.EROFS:
            return "the file system is read-only", "choose another place"
        case errno.EACCES | errno.EPERM:
            return "no permission", "check the permissions of the file and its folder, or choose another place"
        case errno.ENOENT:
            return "there is no such file", "check the path"
        case errno.EEXIST:
            return "a file of this name is there already", "choose another name"
        case errno.EISDIR:
            return "this is a folder", "name a file"
        case errno.ENOTDIR:
            return "a part of the path is not a folder", "check the path"
        case errno.ENAMETOOLONG:
            return "the path is too long", "choose a shorter path"
        case errno.ELOOP:
            return "this is a link, or leads in a circle", "put the file itself there"
        case errno.ENXIO:
            return "nobody reads from this pipe", "name a file, or start the reader first"
        case errno.ENOMEM:
            return "there is not enough memory", "use a smaller model or batch, or raise the limit (ulimit -v)"
        case errno.EBADF:
            return "this is closed", "give it a file or a pipe to write to"
        case None if "map segment" in str(error) or "allocate" in str(error):  # of the loader of libraries
            return f"there is not enough memory: {error}", "raise the limit (ulimit -v)"
        case _:
            reason = error.strerror or str(error)
            return reason[:1].lower() + reason[1:], "check the disk and the path"


def missing(library: str, extra: str, purpose: str) -> UsageError:
    """The error where `import library` failed."""
    return UsageError(f"{purpose} needs {library}, which is not installed", f"pip install 'dlc[{extra}]'")
