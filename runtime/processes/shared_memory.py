"""Memory that processes of one machine see of each other: files without a name, which end with whoever has them open.

A process opens those of others through `/proc`. Where that is refused, or there is no such file, nobody sees anything.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress

import numpy as np

from compiler.driver import Array
from compiler.support.record import record
from compiler.targets.available_memory import available_memory


class NotSharedError(Exception):
    """The reason why memory is not seen by others."""


@record
class Offer:
    """Where others find memory: a file of a process, by its number there, and which one it is."""

    process: int
    descriptor: int
    identity: tuple[int, int]
    size: int


def offered(size: int) -> Offer:
    """So many bytes of zeros for others. Raises NotSharedError. The file is to be closed when they have opened it."""
    if not hasattr(os, "memfd_create"):
        raise NotSharedError("this system has no files in memory")
    available = available_memory()
    if available is not None and size > available:  # the system would end processes, not refuse it
        raise NotSharedError(f"{size >> 20} MiB of memory, where {available >> 20} are left")
    try:
        descriptor = os.memfd_create("dlc")
    except OSError as error:
        raise NotSharedError(f"a file in memory: {error.strerror}") from error
    try:
        os.posix_fallocate(descriptor, 0, size)  # now: a page that is missing later ends the process
    except OSError as error:
        os.close(descriptor)
        raise NotSharedError(f"a file of {size >> 20} MiB in memory: {error.strerror}") from error
    return Offer(os.getpid(), descriptor, _identity_of(descriptor), size)


def opened(offer: Offer | str) -> Array:
    """The bytes that a process offers, which else says why it does not. Raises NotSharedError."""
    if isinstance(offer, str):
        raise NotSharedError(offer)
    name = f"/proc/{offer.process}/fd/{offer.descriptor}"
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NotSharedError(f"{name}: {error.strerror}") from error
    try:
        if _identity_of(descriptor) != offer.identity:  # the number is that of another process here
            raise NotSharedError(f"{name}: process {offer.process} is another one here")
        mapped = mmap.mmap(descriptor, offer.size)
    except (OSError, ValueError) as error:
        raise NotSharedError(f"{name}: {error}") from error
    finally:
        os.close(descriptor)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system may have no large pages to give
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, np.uint8)


def _identity_of(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
