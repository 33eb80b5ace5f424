"""The environment of a run: versions, processor, threads and the command line."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from runtime.support.files import JsonValue

_PACKAGES = ("dlc", "numpy", "llvmlite", "lark", "networkx", "safetensors")


def environment(command_line: Sequence[str], threads: int, tuning: Mapping[str, float]) -> dict[str, JsonValue]:
    """For `environment.json`. `threads` is the number that computed; the processors are those this process may use.

    `tuning` has the numbers that are not the usual ones: they decide no bit, and how fast the run is.
    """
    return {
        "command_line": list(command_line),
        "folder": str(Path.cwd()),
        "python": platform.python_version(),
        "packages": {name: _version_of(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_name(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "tuning": tuning,
    }


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cpu_name() -> str:
    """The name that the processor gives itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
