"""Arrays mapped from files: where a file can no longer be read, the process ends with a message.

A page that the disk does not give, or that a shortened file no longer has, raises SIGBUS in the instruction that reads
it, in a kernel as a rule. There is no value to go on with, and an exception cannot leave a kernel.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from typing import BinaryIO

import numpy as np

from compiler.driver import Array

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)
_mapped: list[Path] = []


def mapped(file: BinaryIO, path: Path, offset: int, shape: tuple[int, ...]) -> Array:
    """The u8 array of `shape` that lies in an open file, found at `path`, behind `offset` bytes.

    Raises OSError, ValueError.
    """
    array: Array = np.memmap(file, np.uint8, "r", offset, shape)
    if not _mapped:
        _signal = ctypes.CDLL(None).signal
        _signal.argtypes, _signal.restype = [ctypes.c_int, _HANDLER], ctypes.c_void_p
        # Not the `signal` of Python: its handlers run between instructions of Python, and this one never ends.
        _signal(signal.SIGBUS, _end)
    _mapped.append(path)
    return array


@_HANDLER
def _end(number: int) -> None:
    del number
    files = ", ".join(sorted({str(path) for path in _mapped}))
    message = f"error: {files}: this can no longer be read: the disk fails, or the file was cut short\n"
    fix = "hint: `dlc cache clear` removes it, and `dlc train --resume RUN` goes on from the last checkpoint\n"
    os.write(2, (message + fix).encode("utf-8", "replace"))
    os._exit(1)
