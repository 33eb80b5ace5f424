"""The lock of a run: one process writes at a time, the others are told which, and a dead one's lock is taken over.

The lock itself is the operating system's, so it ends with its process. The file holds who has it, and is emptied when
the run is closed: a name there while nobody holds the lock is that of a process that was killed.
"""

from __future__ import annotations

import fcntl
import os
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from compiler.errors.diagnostics import CheckpointError
from compiler.support.record import record
from runtime.support import regular_files
from runtime.support.files import json_bytes, parse_json

LOCK = "lock"


@record
class Holder:
    """A process that writes to a run, or did."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since.replace('T', ' ')}"

    @property
    def is_here(self) -> bool:
        return self.host == os.uname().nodename


class RunLock:
    """A lock that is held. `before` is the process that died with it, if one did."""

    def __init__(self, file: BinaryIO, before: Holder | None) -> None:
        self._file, self.before = file, before

    @property
    def note(self) -> str | None:
        """A remark for the user where the lock was taken over."""
        if self.before is None:
            return None
        caution = "" if self.before.is_here else f"; make sure that it no longer runs on {self.before.host}"
        return f"the run was in use by {self.before}, which ended without closing it; its lock is taken over{caution}"

    def release(self) -> None:
        try:
            self._file.truncate(0)
        finally:
            self._file.close()


def lock_run(folder: Path) -> RunLock:
    """The lock of a run. Raises CheckpointError, which names the holder, where it is taken, and OSError."""
    file = regular_files.appended(folder / LOCK)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _holder_in(file)
        file.close()
        fix = f"wait until it ends, or stop it: kill {holder.pid}" if holder else "wait until it ends, or stop it"
        raise CheckpointError(f"the run is in use by {holder or 'another process'}", folder, fix) from error
    except OSError:
        file.close()
        raise
    before = _holder_in(file)
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    file.truncate(0)
    file.write(json_bytes({"pid": os.getpid(), "host": os.uname().nodename, "since": now}))
    return RunLock(file, before)


def is_in_use(folder: Path) -> bool:
    """Whether a process writes to the run now."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock was ever taken here, or the file system has none
        return False
    return False


def _holder_in(file: BinaryIO) -> Holder | None:
    file.seek(0)
    try:
        match parse_json(file.read(1000)):
            case {"pid": int(pid), "host": str(host), "since": str(since)}:
                return Holder(pid, host, since)
            case _:
                return None
    except ValueError:
        return None
