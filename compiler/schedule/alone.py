"""Lowers the nodes that are kernels by themselves: scatter-add and running sums."""

from __future__ import annotations

from compiler.errors.diagnostics import CompilerBug
from compiler.loops.ir import BufferArgument, PrefixSumKernel, ScatterKernel
from compiler.ops.indexing import ScatterAdd
from compiler.ops.reduction import CumulativeSum
from compiler.schedule.addresses import storage_order
from compiler.schedule.fusion.ir import Member
from compiler.schedule.fusion.storage import Storage
from compiler.schedule.to_loops import LoweredGroup
from compiler.types import Extent, elements


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
