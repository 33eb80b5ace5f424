"""Whether a model and its steps fit into the memory of the machine, before any of it is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from compiler import driver
from compiler.driver import Options, Program
from compiler.programs.kinds import GraphKind

_COPIES = "a copy of all these to go back to"


def expect_room(program: Program, kinds: Sequence[GraphKind], options: Options, copies: int = 0) -> None:
    """Raise ResourceError where the tensors of a program, so many copies of them, and steps of `kinds` do not fit."""
    needed = driver.memory_needed(program, kinds, options)
    tensors = sum(count for what, count in needed.items() if what != driver.VALUES)
    needed[_COPIES] = copies * tensors
    driver.expect_memory(program.name, needed, _smaller(needed))


def expect_room_for_weights(program: Program, options: Options) -> None:
    """Raise ResourceError where parameters and states do not fit; those of an optimizer stay untouched."""
    needed = driver.memory_needed(program, (), options)
    del needed[driver.OPTIMIZER_STATES]
    driver.expect_memory(program.name, needed, "use a smaller model")


def expect_room_to_read(path: Path, size: int) -> None:
    """Raise ResourceError where a file of so many bytes, and a copy of what it holds, do not fit."""
    driver.expect_memory(f"reading {path}", {"the file": size, "its tensors": size}, "")


def _smaller(needed: Mapping[str, int]) -> str:
    """What to do about the larger half."""
    values = needed[driver.VALUES]
    if 2 * values > sum(needed.values()):
        return "use a smaller batch, with `accumulate` if each update should see as many rows"
    return "use a smaller model, or an optimizer with fewer states"
