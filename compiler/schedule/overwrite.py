"""Lets a kernel write over a large value that it is the last to read: no fresh memory, and the cache has it already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from compiler.graph.ir import Value
from compiler.loops.ir import Load, StagedKernel, Store
from compiler.schedule.access import count
from compiler.schedule.fuse import Fuser, Group, node_key
from compiler.schedule.to_loops import Lowered
from compiler.types import BatchExtent, elements

LARGE = 1 << 18  # bytes at the nominal batch, from which another barrier costs less than fresh memory


@dataclass(slots=True)
class Overwriting:
    """What is decided for a schedule: `order` has its groups by number, `fits` says what a group may write over."""

    fuser: Fuser
    order: Mapping[int, int]
    needed: set[int]
    fixed: set[int]  # values whose place is decided
    batch: int
    fits: Callable[[Group, Value, Value], bool]

    def run(self, groups: Sequence[Group]) -> dict[Value, tuple[Value, list[tuple[Group, Group]]]]:
        """For each result the value that it is written over, and which groups must stay before which."""
        found: dict[Value, tuple[Value, list[tuple[Group, Group]]]] = {}
        for group in sorted(groups, key=lambda g: self.order[g.number]):
            for node in group.nodes:
                result = node.results[0]
                if result.index in self.needed and result.index not in self.fixed and self.is_large(result):
                    target = next((v for v in self.read_last(group) if self.fits_over(group, v, result)), None)
                    if target is not None:
                        self.fixed.add(target.index)
                        found[result] = target, [(other, group) for other in self.others(group, target)]
        return found

    def read_last(self, group: Group) -> list[Value]:
        """The large values that others make and nothing reads behind this group."""
        sources = {k.source.index: k.source for n in group.nodes for k in self.fuser.node_links[node_key(n)]}
        return [
            value
            for value in sources.values()
            if self.is_large(value)
            and self.fuser.home.get(value.index, group) is not group
            and all(self.order[other.number] < self.order[group.number] for other in self.others(group, value))
        ]

    def others(self, group: Group, value: Value) -> list[Group]:
        """The other groups that read a value."""
        readers = [self.fuser.home[node_key(node)] for node in self.fuser.readers.get(value.index, ())]
        return list({other.number: other for other in readers if other is not group}.values())

    def fits_over(self, group: Group, target: Value, result: Value) -> bool:
        is_alike = elements(target.type.shape) == elements(result.type.shape) and target.type.dtype is result.type.dtype
        return is_alike and target.index not in self.fixed and self.fits(group, target, result)

    def is_large(self, value: Value) -> bool:
        size = elements(value.type.shape)
        return count(size) * (self.batch if isinstance(size, BatchExtent) else 1) * value.type.dtype.size >= LARGE


def is_read_behind(lowered: Lowered, old: Value, new: Value) -> bool:
    """Whether a kernel loads `old` in a later stage than the first in which it stores `new`."""
    assert isinstance(lowered.kernel, StagedKernel)
    stages = lowered.kernel.stages
    loads, stores = (
        [
            number
            for number, stage in enumerate(stages)
            for instruction in (*stage.body, *stage.after)
            if isinstance(instruction, kind) and lowered.arguments[instruction.access.buffer] == value
        ]
        for kind, value in ((Load, old), (Store, new))
    )
    return max(loads, default=0) > min(stores)
