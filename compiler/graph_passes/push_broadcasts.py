"""The law that computes on small tensors before they are broadcast."""

from __future__ import annotations

from compiler.graph.ir import Node, Value
from compiler.graph_passes.law import Workbench
from compiler.ops.movement import Broadcast


def push_broadcasts(bench: Workbench, node: Node) -> Value | None:
    """op(broadcast(a), broadcast(b)) -> broadcast(op(a, b)), on the axes that one of them has."""
    parts: list[tuple[Broadcast, Value]] = []
    for operand in node.operands:
        definition = bench.builder.definition(operand)
        if definition is None or not isinstance(definition.op, Broadcast):
            return None
        parts.append((definition.op, definition.operands[0]))
    shape = node.results[0].type.shape
    axes = tuple(sorted({axis for op, _ in parts for axis in op.axes}))
    if len(axes) == len(shape):
        return None
    small = tuple(shape[axis] for axis in axes)
    operands = [bench.emit(Broadcast(small, tuple(map(axes.index, op.axes))), value) for op, value in parts]
    return bench.emit(Broadcast(shape, axes), bench.emit(node.op, *operands))
