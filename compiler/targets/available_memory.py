"""Available memory, checked before it is taken: of the machine, the control group and the limits of the process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compiler.errors.diagnostics import ResourceError

_CGROUP = Path("/sys/fs/cgroup")
# The files that say how much a container may take, what it has taken, and what of that can be had back.
_LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def expect_memory(needing: str, needed: Mapping[str, int], fix: str) -> None:
    """Raise ResourceError where not so many bytes are there: once they were used, the system would end a process."""
    available = available_memory()
    if available is not None and sum(needed.values()) > available:
        raise ResourceError(needing, needed, available, fix)


def available_memory() -> int | None:
    """Bytes that this process can take without the system ending one; None where nothing says it."""
    found = (_of_the_machine(), _of_the_process(), *(_of_a_container(*files) for files in _LIMITS))
    return min((count for count in found if count is not None), default=None)


def _of_the_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        fields = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    except (OSError, ValueError, IndexError):
        return None
    return fields["MemAvailable"] + fields.get("SwapFree", 0) if "MemAvailable" in fields else None


def _of_the_process() -> int | None:
    """The bytes that `ulimit -v` leaves."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        return None
    try:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None
    return max(most - taken, 0)


def _of_a_container(limit: str, taken: str, spare: str) -> int | None:
    try:
        most, used = (int((_CGROUP / name).read_text()) for name in (limit, taken))
        statistics = (_CGROUP / limit).with_name("memory.stat").read_text().splitlines()
        can_be_had_back = sum(int(line.split()[1]) for line in statistics if line.split()[0] == spare)
    except (OSError, ValueError, IndexError):  # there is none, or its limit is the word `max`
        return None
    return most - used + can_be_had_back
