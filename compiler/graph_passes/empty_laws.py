"""Laws of tensors without elements, such as empty slices: their uses are removed."""

from __future__ import annotations

from compiler.graph.ir import Node, Value
from compiler.graph_passes.law import Workbench
from compiler.ops.movement import Concat, Pad


def is_empty(value: Value) -> bool:
    return 0 in value.type.shape


def concat_of_empty(bench: Workbench, node: Node) -> Value | None:
    """concat(x, empty, y) -> concat(x, y)"""
    op = node.op
    assert isinstance(op, Concat)
    parts = tuple(part for part in node.operands if part.type.shape[op.axis] != 0)
    if len(parts) == 1:
        return parts[0]
    return bench.emit(op, *parts) if 1 < len(parts) < len(node.operands) else None


def pad_of_empty(bench: Workbench, node: Node) -> Value | None:
    """pad(empty) -> the padding alone"""
    assert isinstance(node.op, Pad)
    return bench.filled_like(node.results[0], node.op.value) if is_empty(node.operands[0]) else None


def sum_of_empty(bench: Workbench, node: Node) -> Value | None:
    """sum(empty) -> 0, also of products"""
    return bench.filled_like(node.results[0], 0) if any(map(is_empty, node.operands)) else None
