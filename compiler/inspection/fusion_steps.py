"""A prepared graph to the fusions that made each of its kernels, in their order, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field

from compiler.graph.ir import Graph, Origin
from compiler.interface import FUSIONS, Options
from compiler.machine import Machine
from compiler.schedule.build import fixed
from compiler.schedule.fusion.fuse import fuse
from compiler.schedule.fusion.ir import FusedGraph, Group, Member
from compiler.schedule.fusion.passes import FUSED_PASSES, everywhere
from compiler.schedule.kernels import Kernels, LoweredScan, kernels_of
from compiler.support.record import mutable_record, record

_SILENT = ("broadcast", "reshape")  # which no kernel computes


@record
class FusionStep:
    """Operations that joined others, by the names of both, under the name of the fusion; `origins` are of the joining.

    `reason` is the sentence of `--no-fusion`.
    """

    fusion: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    origins: tuple[Origin, ...]

    @property
    def reason(self) -> str:
        return FUSIONS[self.fusion]


def fusion_steps(
    code: Graph, options: Options, machine: Machine, go_on: Callable[[], None] = lambda: None
) -> Mapping[str, tuple[FusionStep, ...]]:
    """By the name of a kernel, its steps; a kernel of one operation has none. A name that two groups have is left out.

    The graph is fused once more as for the schedule, with somebody who listens. `go_on` is called now and then,
    and raises an error to end the work.
    """
    steps = _Steps()
    ready = fixed(code, options.without, options.batch, machine)
    go_on()
    fused = fuse(ready, options.without, options.batch, machine, steps.add)
    for fused_pass, name in FUSED_PASSES:
        go_on()
        if name is None or name not in options.without:
            before, fused = fused, everywhere(fused_pass, fused)
            if name is not None:
                steps.compare(name, before, fused)
    found: dict[str, tuple[FusionStep, ...]] = {}
    twice: set[str] = set()
    go_on()
    for kernel, group in _groups_of(kernels_of(fused)):
        go_on()
        (twice if kernel in found else set[str]()).add(kernel)
        found[kernel] = steps.of(group)
    return {kernel: own for kernel, own in found.items() if kernel not in twice}


def _groups_of(kernels: Kernels) -> Iterator[tuple[str, Group]]:
    """The name of each kernel with its group, in the bodies of scans too."""
    for group, lowered in kernels.lowered:
        if isinstance(lowered, LoweredScan):
            yield from _groups_of(lowered.body)
        else:
            yield lowered.kernel.name, group


@mutable_record
class _Steps:
    """Each step with the nodes of both sides. Nodes are told apart as objects: bodies number their values anew."""

    made: list[tuple[FusionStep, frozenset[int], frozenset[int]]] = field(
        default_factory=list[tuple[FusionStep, frozenset[int], frozenset[int]]]
    )
    kept: list[object] = field(default_factory=list[object])  # so that no other object gets the place of a node

    def add(self, name: str, first: Group, second: Group) -> None:
        self._add(name, first.members, second.members)

    def _add(self, name: str, first: tuple[Member, ...], second: tuple[Member, ...]) -> None:
        origins = tuple(dict.fromkeys(origin for member in second for origin in member.node.origins))
        self.made.append((FusionStep(name, _words(first), _words(second), origins), _nodes(first), _nodes(second)))
        self.kept += [first, second]

    def compare(self, name: str, before: FusedGraph, after: FusedGraph) -> None:
        """Add what a pass did to groups that stay: the members that they have gained."""
        groups = {group.number: group for group in before.groups}
        for group in after.groups:
            old = groups.get(group.number)
            if old is None:
                continue
            known = _nodes(old.members)
            gained = tuple(member for member in group.members if id(member.node) not in known)
            if gained and len(group.members) > len(old.members):
                self._add(name, old.members, gained)
            bodies = {id(member.node): member.body for member in old.members}
            for member in group.members:
                body = bodies.get(id(member.node))
                if member.body is not None and body is not None:
                    self.compare(name, body, member.body)

    def of(self, group: Group) -> tuple[FusionStep, ...]:
        """The steps of which both sides are in a group."""
        inside = _nodes(group.members)
        return tuple(step for step, first, second in self.made if first & inside and second & inside)


def _nodes(members: tuple[Member, ...]) -> frozenset[int]:
    return frozenset(id(member.node) for member in members)


def _words(members: tuple[Member, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(m.node.op.name for m in members if m.node.op.name not in _SILENT)) or ("a view",)
