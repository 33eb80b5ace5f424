"""Whether a model and its steps fit into the memory of the machine, before any of it is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from compiler import driver
from compiler.diagnostics import ResourceError
from compiler.driver import Options, Program
from runtime.reporting.units import size

_COPIES = "a copy of all these to go back to"
_CGROUP = Path("/sys/fs/cgroup")
# The files that say how much a container may take, what it has taken, and what of that can be had back.
_LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def expect_room(program: Program, kinds: Sequence[str], options: Options, copies: int = 0) -> None:
    """Raise ResourceError where the tensors of a program, so many copies of them, and steps of `kinds` do not fit."""
    needed, available = driver.memory_needed(program, kinds, options), available_memory()
    tensors = sum(count for what, count in needed.items() if what != driver.VALUES)
    needed[_COPIES] = copies * tensors
    total = sum(needed.values())
    if available is None or total <= available:
        return
    parts = ", ".join(f"{what} {size(count)}" for what, count in needed.items() if count)
    raise ResourceError(
        f"{program.name} needs {size(total)} of memory, and {size(available)} are available: {parts}", _smaller(needed)
    )


def _smaller(needed: Mapping[str, int]) -> str:
    """What to do about the larger half."""
    values = needed[driver.VALUES]
    if 2 * values > sum(needed.values()):
        return "use a smaller batch, with `accumulate` if each update should see as many rows"
    return "use a smaller model, or an optimizer with fewer states"


def available_memory() -> int | None:
    """Bytes that this process can take without the system ending one; None where nothing says it."""
    found = (_of_the_machine(), *(_of_a_container(*files) for files in _LIMITS))
    return min((count for count in found if count is not None), default=None)


def _of_the_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        fields = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    except (OSError, ValueError, IndexError):
        return None
    return fields["MemAvailable"] + fields.get("SwapFree", 0) if "MemAvailable" in fields else None


def _of_a_container(limit: str, taken: str, spare: str) -> int | None:
    try:
        most, used = (int((_CGROUP / name).read_text()) for name in (limit, taken))
        statistics = (_CGROUP / limit).with_name("memory.stat").read_text().splitlines()
        can_be_had_back = sum(int(line.split()[1]) for line in statistics if line.split()[0] == spare)
    except (OSError, ValueError, IndexError):  # there is none, or its limit is the word `max`
        return None
    return most - used + can_be_had_back
