"""The groups of a fused graph become kernels, in order; the end of the passes over it."""

from __future__ import annotations

from compiler.graph.ir import Value
from compiler.ops.scan import Scan
from compiler.schedule.alone import lower_alone
from compiler.schedule.fusion.index import Index
from compiler.schedule.fusion.ir import FusedGraph, Group, GroupKind
from compiler.schedule.fusion.storage import Storage
from compiler.schedule.to_loops import GroupLowering, LoweredGroup
from compiler.support.record import record
from compiler.tuning import Tuning


@record
class Kernels:
    """The groups of a fused graph in order, each with its kernel, and where their values lie."""

    fused: FusedGraph
    storage: Storage
    lowered: tuple[tuple[Group, LoweredGroup | LoweredScan], ...]


@record
class LoweredScan:
    """A scan: the values behind its operands, its results, and the kernels of its body."""

    op: Scan
    sources: tuple[Value, ...]
    results: tuple[Value, ...]
    body: Kernels


def kernels_of(fused: FusedGraph, checks: bool = True) -> Kernels:
    """The kernels; with `checks`, they report NaN and Inf in outputs."""
    index = Index.of(fused)
    storage = Storage.of_graph(fused, index)
    checked = {o.value.index: o.name for o in fused.outputs if checks and o.value.type.dtype.is_float}
    lowered = tuple(
        (g, _lowered(g, k, index, storage, fused.machine.tuning, checked)) for k, g in enumerate(fused.groups)
    )
    return Kernels(fused, storage, lowered)


def _lowered(
    group: Group, number: int, index: Index, storage: Storage, tuning: Tuning, checked: dict[int, str]
) -> LoweredGroup | LoweredScan:
    first = group.members[0]
    if isinstance(first.node.op, Scan):
        assert first.body is not None
        sources = tuple(link.source for link in first.links)
        return LoweredScan(first.node.op, sources, first.node.results, kernels_of(first.body, checks=False))
    words = dict.fromkeys(m.node.op.name for m in group.members if m.node.op.name not in ("broadcast", "reshape"))
    name = f"k{number}_{'_'.join(words)[:48]}"
    if group.kind is GroupKind.ALONE:
        return lower_alone(first, storage, name)
    return GroupLowering(group, index, storage, tuning, checked).lower(name)
