"""The same program in another float type: every f32 of a graph becomes, say, f64, for checking gradients."""

from __future__ import annotations

from collections.abc import Collection

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Value
from compiler.graph.op import Op, with_fields
from compiler.ops.elementwise import Cast
from compiler.ops.sources import RandomUniform
from compiler.types import DType, TensorType


def unrounded(graph: Graph) -> Graph:
    """`graph` in f64, for differences: f16 is f64 as well, since the steps of a rounding hide the slope."""
    return to_dtype(graph, DType.F64, (DType.F32, DType.F16))


def to_dtype(graph: Graph, dtype: DType, of: Collection[DType] = (DType.F32,)) -> Graph:
    """`graph` with `dtype` in place of f32, or of others: inputs, constants, results.

    Random draws stay the same numbers.
    """
    if dtype is DType.F32:
        return graph
    builder = GraphBuilder(graph.name)
    known: dict[int, Value] = {}
    for entry in graph.inputs:
        type_ = TensorType(converted(entry.value.type.dtype, dtype, of), entry.value.type.shape)
        known[entry.value.index] = builder.input(entry.name, entry.role, type_)
    for node in graph.nodes:
        builder.origins = node.origins
        operands = [known[operand.index] for operand in node.operands]
        results = builder.emit_all(converted_op(node.op, dtype, of), *operands)
        if isinstance(node.op, RandomUniform):  # it draws 24 bits whatever the type
            results = (builder.emit(Cast(dtype), *results),)
        known.update((old.index, new) for old, new in zip(node.results, results, strict=True))
    for output in graph.outputs:
        builder.output(output.name, output.role, known[output.value.index], output.updates)
    return builder.build()


def converted(dtype: DType, target: DType, of: Collection[DType] = (DType.F32,)) -> DType:
    """The type in place of `dtype` where `target` takes the place of f32, or of others."""
    return target if dtype in of else dtype


def converted_op(op: Op, target: DType, of: Collection[DType] = (DType.F32,)) -> Op:
    """`op` with its fields of f32, or of others, and the graphs in its fields, converted."""

    def changed(value: object) -> object:
        if isinstance(value, Graph):
            return to_dtype(value, target, of)
        return converted(value, target, of) if isinstance(value, DType) else value

    return with_fields(op, changed)
