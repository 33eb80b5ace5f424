"""The law that computes before unit axes are put in, so that both forms of a tensor do not stand side by side."""

from __future__ import annotations

from compiler.graph.ir import Node, Value
from compiler.graph_passes.law import Workbench
from compiler.graph_passes.movement_laws import wide_extents
from compiler.ops.movement import Broadcast, Reshape
from compiler.types import Shape


def pull_reshapes(bench: Workbench, node: Node) -> Value | None:
    """op(reshape(a), reshape(b)) -> reshape(op(a, b)), where only unit axes come and go; scalars may stand beside."""
    shape = node.results[0].type.shape
    inner: Shape | None = None
    sources: list[tuple[Value, bool]] = []
    for operand in node.operands:
        definition = bench.made_by(operand, Reshape, Broadcast)
        if definition is None:
            return None
        (source,) = definition.operands
        is_scalar = isinstance(definition.op, Broadcast)
        if is_scalar and source.type.shape:
            return None
        if not is_scalar:
            if inner is not None and source.type.shape != inner:
                return None
            inner = source.type.shape
        sources.append((source, is_scalar))
    if inner is None or wide_extents(inner) != wide_extents(shape):
        return None
    spread = Broadcast(inner, ())
    operands = [bench.emit(spread, source) if is_scalar else source for source, is_scalar in sources]
    return bench.emit(Reshape(shape), bench.emit(node.op, *operands))
