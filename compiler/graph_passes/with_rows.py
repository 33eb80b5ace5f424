"""A graph for a batch of known size: every `k * batch` becomes a number, and values keep their indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compiler.graph.ir import Graph, GraphInput, GraphOutput, Node, Value
from compiler.graph.op import Op, with_fields
from compiler.ops.sources import BatchSize, Constant
from compiler.types import BatchExtent, DType, TensorType, at_batch


def with_rows(graph: Graph, rows: int) -> Graph:
    def fixed(value: Value) -> Value:
        return Value(value.index, TensorType(value.type.dtype, at_batch(value.type.shape, rows)))

    def all_fixed(values: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(map(fixed, values))

    return Graph(
        graph.name,
        tuple(GraphInput(i.name, i.role, fixed(i.value)) for i in graph.inputs),
        tuple(Node(_op(n.op, rows), all_fixed(n.operands), all_fixed(n.results), n.origins) for n in graph.nodes),
        tuple(GraphOutput(o.name, o.role, fixed(o.value), o.updates) for o in graph.outputs),
    )


def _op(op: Op, rows: int) -> Op:
    """`op` with the shapes and the graphs in its fields fixed."""
    if isinstance(op, BatchSize):
        return Constant(rows, DType.I64)

    def changed(value: Any) -> object:
        if isinstance(value, tuple):
            return at_batch(value, rows) if BatchExtent in map(type, value) else value  # type: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        return with_rows(value, rows) if isinstance(value, Graph) else value

    return with_fields(op, changed)
