"""A pass over the loops of a kernel, and all of a list one behind the other, with a check behind each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from compiler.errors.diagnostics import CompilerBug
from compiler.support.record import record

Loops = TypeVar("Loops")  # the form that a pass rewrites
Given = TypeVar("Given")  # what decides beside it


@record
class KernelPass(Generic[Loops, Given]):
    """A decision on the loops of a kernel, with the reason why it makes them faster."""

    run: Callable[[Loops, Given], Loops]
    reason: str

    @property
    def name(self) -> str:
        return self.run.__name__


def after_all(passes: Iterable[KernelPass[Loops, Given]], loops: Loops, given: Given) -> Loops:
    """The loops behind all passes."""
    for each in passes:
        loops = each.run(loops, given)
    return loops


def verified(
    passes: Iterable[KernelPass[Loops, Given]],
    loops: Loops,
    given: Given,
    faults_of: Callable[[Loops], list[str]],
    printed: Callable[[Loops], str],
) -> str:
    """The loops behind all passes as text, checked behind each. Raises CompilerBug."""
    for each in passes:
        loops = each.run(loops, given)
        for fault in faults_of(loops):
            raise CompilerBug(f"{each.name}: {fault}", printed(loops))
    return printed(loops)
