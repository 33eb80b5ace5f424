"""A program for a target that has kernels: its execution plan, and the nests and the code of its kernels."""

from __future__ import annotations

from compiler.nest.ir import Nest
from compiler.schedule.ir import Instance, Schedule
from compiler.support.record import record
from compiler.targets.manifest import Manifest


@record
class Lowered:
    """A manifest with what was compiled for it: text and instances of each kernel by symbol; where asked, its nest, and
    as text the `tiles` that it is cut into.

    `firsts` has the first argument of each of the instances' calls, by which its line in the execution plan is known;
    `plan` is what was lowered.
    """

    manifest: Manifest
    texts: dict[str, str]
    nests: dict[str, Nest]
    tiles: dict[str, str]
    instances: tuple[tuple[str, Instance], ...]
    firsts: tuple[int, ...]
    plan: Schedule

    def call_of(self, line: int) -> tuple[str, Instance]:
        """The symbol and the instance of a line of the execution plan that is no mark."""
        return self.instances[self.firsts.index(self.manifest.entries[line].first_argument)]
