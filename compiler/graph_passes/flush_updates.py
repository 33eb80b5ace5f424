"""Keeps subnormal numbers out of the states that a program stores for its next step."""

from __future__ import annotations

from dataclasses import replace

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphOutput
from compiler.ops.elementwise import Flush
from compiler.ops.indexing import Put
from compiler.ops.rules import FLOATS


def flush_updates(graph: Graph) -> Graph:
    """Each computed update of a tensor of floats is stored without subnormal numbers.

    The moments of a unit that is dead shrink with every step until they are subnormal, where rounding holds them for
    ever, and some processors take a hundred cycles for each. Rows that are put into a tensor in its place are stored as
    they are, since the pass would read the whole tensor.
    """
    builder = GraphBuilder.continuing(graph)
    for node in graph.nodes:
        builder.append(node)
    outputs = tuple([_flushed(builder, output) for output in graph.outputs])
    return Graph(graph.name, graph.inputs, tuple(builder.nodes), outputs)


def _flushed(builder: GraphBuilder, output: GraphOutput) -> GraphOutput:
    node = builder.definition(output.value)
    is_update = output.updates is not None and output.value.type.dtype in FLOATS
    if not is_update or node is None or isinstance(node.op, Put):
        return output
    with builder.at(node.origins):
        return replace(output, value=builder.emit(Flush(), output.value))
