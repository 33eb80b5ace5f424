"""The processors and cores that this process may use, by affinity mask, quota of the control group, and siblings.

A core may hold two hardware threads or more, which share its arithmetic. A program that keeps it busy with one gains
nothing by the other, and loses the cache that they share.
"""

from __future__ import annotations

import os
from pathlib import Path

SYSTEM = Path("/")


def usable_processors(system: Path = SYSTEM) -> int:
    """Hardware threads for work of many small jobs: those of the affinity mask, within the quota; at least 1."""
    return _within_quota(len(_allowed()), system)


def usable_cores(system: Path = SYSTEM) -> int:
    """Threads for one program: one for each core of which the mask has a hardware thread, within the quota."""
    return _within_quota(len(cores_of(_allowed(), system)), system)


def cores_of(processors: set[int], system: Path = SYSTEM) -> set[frozenset[int]]:
    """The cores that have these hardware threads, each as all that it has; where the system does not tell, one each."""
    return {_siblings(number, system) or frozenset((number,)) for number in processors}


def _allowed() -> set[int]:
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _siblings(number: int, system: Path) -> frozenset[int] | None:
    """The hardware threads of a core, by one of them."""
    folder = system / f"sys/devices/system/cpu/cpu{number}/topology"
    for name in ("core_cpus_list", "thread_siblings_list"):  # the second is the older name
        try:
            found = _numbers((folder / name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if number in found:
            return frozenset(found)
    return None


def _numbers(text: str) -> set[int]:
    """The numbers in a list such as `0-3,8`."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _within_quota(count: int, system: Path) -> int:
    return max(1, min(count, _quota(system) or count))


def _quota(system: Path) -> int | None:
    """Whole processors that the control groups of this process grant (version 2, then 1); None without a limit.

    The group's own folder counts, and all above it; in a container, often only the topmost is there to be seen.
    """
    grants: list[float] = []
    for folder in _groups(system, "", "sys/fs/cgroup"):
        try:
            limit, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            if limit != "max":
                grants.append(int(limit) / int(period))
        except (OSError, ValueError):
            continue
    for folder in _groups(system, "cpu", "sys/fs/cgroup/cpu"):
        try:
            limit = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
            if int(limit) > 0:
                grants.append(int(limit) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return max(1, round(min(grants))) if grants else None


def _groups(system: Path, controller: str, root: str) -> list[Path]:
    """The folders of this process's control group of a controller (none: version 2), from its own up to the root."""
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    own = "/"
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controller in controllers.split(","):
            own = path
    base = system / root
    folder = base / own.strip("/")
    found = [folder]
    while folder != base and base in folder.parents:
        folder = folder.parent
        found.append(folder)
    return found
