"""The groups of a fused graph become kernels, in order; the end of the passes over it."""

from __future__ import annotations

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.ir import Value
from compiler.loops.ir import BufferArgument, PrefixSumKernel, ScatterKernel
from compiler.ops.indexing import ScatterAdd
from compiler.ops.reduction import CumulativeSum
from compiler.ops.scan import Scan
from compiler.schedule.addresses import storage_order
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import FusedGraph, Group, GroupKind, Member
from compiler.schedule.fusion.storage import Storage
from compiler.schedule.to_loops import GroupLowering, LoweredGroup
from compiler.support.record import record
from compiler.tuning import Tuning
from compiler.types import Extent, elements


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
    index = GroupIndex.of(fused)
    storage = Storage.of_graph(fused, index)
    checked = {o.value.index: o.name for o in fused.outputs if checks and o.value.type.dtype.is_float}
    lowered = tuple(
        (g, _lowered(g, k, index, storage, fused.machine.tuning, checked))
        for k, g in enumerate(fused.groups)
        if not _is_empty(g)
    )
    return Kernels(fused, storage, lowered)


def _is_empty(group: Group) -> bool:
    """Whether there is nothing to compute: no result has an element."""
    return all(0 in result.type.shape for member in group.members for result in member.node.results)


def _lowered(
    group: Group, number: int, index: GroupIndex, storage: Storage, tuning: Tuning, checked: dict[int, str]
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


def lower_alone(member: Member, storage: Storage, name: str) -> LoweredGroup:
    """The kernel of a node that fuses with nothing. Operands are dense."""
    node = member.node
    sources = tuple(storage.place(link.source) for link in member.links)
    result = storage.place(node.results[0])
    arguments = (*sources, result)
    buffers = tuple(BufferArgument(f"b{k}", v.type.dtype) for k, v in enumerate(arguments))
    match node.op:
        case ScatterAdd(axis=axis, extent=extent, by_row=by_row):
            indices = node.operands[0].type.shape[by_row:]
            updates = node.operands[1].type.shape
            before, after = _around(updates, axis, axis + len(indices))
            rows = elements(indices)
            kernel = ScatterKernel(f"{name}_{extent}", buffers, before, rows, after, extent, by_row)
        case CumulativeSum(axis=axis, reverse=reverse):
            shape = node.operands[0].type.shape
            order = storage_order(shape)
            place = order.index(axis)
            before = elements(tuple(shape[a] for a in order[:place]))
            after = elements(tuple(shape[a] for a in order[place + 1 :]))
            label = f"{name}_{'down' if reverse else 'up'}"
            kernel = PrefixSumKernel(label, buffers, before, shape[axis], after, reverse)
        case _:
            raise CompilerBug("to_loops", f"no kernel for {node.op.name}")
    return LoweredGroup(kernel, arguments, sources, (result,), ())


def _around(shape: tuple[Extent, ...], first: int, last: int) -> tuple[Extent, Extent]:
    return elements(shape[:first]), elements(shape[last:])
