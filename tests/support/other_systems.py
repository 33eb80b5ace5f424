"""Takes from this process what another system has not, then runs `dlc`: `python other_systems.py SYSTEM WORD ...`.

Further commands follow behind the word `then`; the first that fails is the last.

`windows` has no owners, links or flags of files as POSIX has them, opens no folders, and locks by `msvcrt`; `macos` has
neither descriptors of paths, nor a mask of processors, nor `/proc`. With `imports`, every module is imported instead.
"""

from __future__ import annotations

import asyncio
import builtins
import errno
import fcntl
import importlib
import io
import mmap
import multiprocessing.connection
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

# They look at what there is when they are imported.
BEFORE = (asyncio, multiprocessing.connection, np, shutil, subprocess, tempfile)
MISSING: dict[str, dict[Any, tuple[str, ...]]] = {
    "windows": {
        os: (
            *(
                "O_PATH",
                "O_NOFOLLOW",
                "O_NONBLOCK",
                "O_CLOEXEC",
                "O_NOCTTY",
                "O_DIRECTORY",
                "geteuid",
                "getuid",
                "uname",
            ),
            *("getxattr", "sched_getaffinity", "sysconf", "set_blocking", "fchmod", "fork", "getpgid", "statvfs"),
        ),
        mmap: ("MAP_PRIVATE", "MAP_ANONYMOUS", "MAP_SHARED", "MADV_HUGEPAGE"),
        signal: ("SIGHUP", "SIGBUS", "SIGALRM", "pthread_kill", "SIGUSR1"),
    },
    "macos": {os: ("O_PATH", "getxattr", "sched_getaffinity"), mmap: ("MADV_HUGEPAGE",), signal: ()},
}
MODULES = {"windows": ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"), "macos": ()}


class Locks(ModuleType):
    """`msvcrt`, by locks of this system: of one byte at the place of the file, refused with EACCES."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__("msvcrt")

    @staticmethod
    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (Locks.LK_NBLCK, 1)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) >= 1 << 30
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error


class Anonymous(mmap.mmap):
    """Windows names what the second number is of, and takes no flags."""

    def __new__(cls, number: int, length: int, *rest: object, **named: object) -> Any:
        assert not rest
        assert "flags" not in named
        return super().__new__(cls, number, length)


def take_away(system: str) -> None:
    """Leave in this process what the system has."""
    for module, names in MISSING[system].items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for name in MODULES[system]:
        sys.modules[name] = None  # type: ignore[assignment]
    _hide("/proc", "/sys")
    if system == "windows":
        signal.Signals._member_map_["SIGBREAK"] = signal.SIGUSR2  # type: ignore[attr-defined]
        sys.modules["msvcrt"] = Locks()
        mmap.mmap = Anonymous  # type: ignore[misc]
        shutil._use_fd_functions = False  # type: ignore[attr-defined]  # as there, where no folder is opened
        _refuse_folders()


def _hide(*places: str) -> None:
    """No file below these folders can be opened."""
    plain = io.open

    def opened(file: Any, *rest: Any, **named: Any) -> Any:
        if isinstance(file, str | os.PathLike) and str(file).startswith(places):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
        return plain(file, *rest, **named)

    io.open = builtins.open = opened


def _refuse_folders() -> None:
    plain = os.open

    def opened(path: Any, how: int, *rest: Any, **named: Any) -> int:
        assert named.get("dir_fd") is None
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return plain(path, how, *rest, **named)

    os.open = opened


def import_all() -> None:
    """Import each module of the product; those that need an extra may lack it."""
    root = Path(__file__).resolve().parents[2]
    missing = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty")
    for top in ("compiler", "runtime"):
        for found in pkgutil.walk_packages([str(root / top)], f"{top}."):
            if found.name.endswith((".__main__", ".served_model", "codegen_process")):
                continue  # what another program is made of
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                if error.name in missing:
                    raise


if __name__ == "__main__":
    importlib.import_module("numpy.testing")
    take_away(sys.argv[1])
    if sys.argv[2:] == ["imports"]:
        import_all()
        sys.exit(0)
    from runtime.cli.main import main

    for is_word, words in groupby(sys.argv[2:], lambda word: word != "then"):
        if is_word and (code := main([*words])):
            sys.exit(code)
