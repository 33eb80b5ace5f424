"""The same program in another float type: every f32 of a graph becomes, say, f64, for checking gradients."""

from __future__ import annotations

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Value
from compiler.graph.op import Op, with_fields
from compiler.ops.elementwise import Cast
from compiler.ops.sources import RandomUniform
from compiler.types import DType, TensorType


def to_dtype(graph: Graph, dtype: DType) -> Graph:
    """`graph` with `dtype` in place of f32: inputs, constants, results. Random draws stay the same numbers."""
    if dtype is DType.F32:
        return graph
    builder = GraphBuilder(graph.name)
    known: dict[int, Value] = {}
    for entry in graph.inputs:
        type_ = TensorType(converted(entry.value.type.dtype, dtype), entry.value.type.shape)
        known[entry.value.index] = builder.input(entry.name, entry.role, type_)
    for node in graph.nodes:
        builder.origins = node.origins
        operands = [known[operand.index] for operand in node.operands]
        results = builder.emit_all(converted_op(node.op, dtype), *operands)
        if isinstance(node.op, RandomUniform):  # it draws 24 bits whatever the type
            results = (builder.emit(Cast(dtype), *results),)
        known.update((old.index, new) for old, new in zip(node.results, results, strict=True))
    for output in graph.outputs:
        builder.output(output.name, output.role, known[output.value.index], output.updates)
    return builder.build()


def converted(dtype: DType, target: DType) -> DType:
    """The type in place of `dtype` where `target` takes the place of f32."""
    return target if dtype is DType.F32 else dtype


def converted_op(op: Op, target: DType) -> Op:
    """`op` with its fields of f32, and the graphs in its fields, converted."""

    def changed(value: object) -> object:
        return to_dtype(value, target) if isinstance(value, Graph) else target if value is DType.F32 else value

    return with_fields(op, changed)
