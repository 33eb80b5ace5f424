"""The draws of a shard: a row draws by its number in the batch, whichever shard it lies in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from compiler.frontend.program import FIRST_ROW
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphInput, Node, Role, Value
from compiler.ops.build import filled
from compiler.ops.elementwise import Multiply
from compiler.ops.scan import Scan, draws_for_rows
from compiler.ops.sources import RandomUniform
from compiler.types import BatchExtent, DType, Shape, TensorType

_NUMBER = TensorType(DType.I64)


def numbered_by_batch(graph: Graph) -> Graph:
    """A step over the rows of a shard whose draws are those that these rows have in the whole batch.

    `FIRST_ROW` becomes an input, unless nothing is drawn for rows.
    """
    if not any(map(draws_for_rows, graph.nodes)):
        return graph
    builder = GraphBuilder.continuing(graph)
    first = builder.input(FIRST_ROW, Role.DATA, _NUMBER)
    for node in graph.nodes:
        _add(builder, node, first)
    return replace(graph, inputs=tuple(builder.inputs), nodes=tuple(builder.nodes))


def _add(builder: GraphBuilder, node: Node, first: Value) -> None:
    """Append the node, which draws for the rows from `first` on if it draws for rows."""
    with builder.at(node.origins):
        if not draws_for_rows(node):
            builder.append(node)
        elif isinstance(node.op, Scan):
            operands = (*node.operands, first)
            builder.append(Node(replace(node.op, body=_body(node.op.body)), operands, node.results, node.origins))
        else:
            assert isinstance(node.op, RandomUniform)
            place = builder.emit(Multiply(), first, filled(builder, _elements_of_a_row(node.op.shape), _NUMBER))
            builder.append(Node(node.op, (*node.operands, place), node.results, node.origins))


def _body(body: Graph) -> Graph:
    """The body of a scan with the first row as its last capture."""
    builder = GraphBuilder.continuing(body)
    first = builder.value(_NUMBER)
    for node in body.nodes:
        _add(builder, node, first)
    taken = GraphInput(f"x{len(body.inputs)}", Role.DATA, first)
    return replace(body, inputs=(*body.inputs, taken), nodes=tuple(builder.nodes))


def _elements_of_a_row(shape: Shape) -> int:
    return math.prod(_factors(shape))


def _factors(shape: Shape) -> Iterable[int]:
    return (extent.multiple if isinstance(extent, BatchExtent) else extent for extent in shape)
