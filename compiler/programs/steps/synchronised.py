"""The step of a shard in which statistics are those of the whole batch: sums over rows become sums over all shards."""

from __future__ import annotations

from dataclasses import replace

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Role, Value
from compiler.ops.across_shards import AcrossShards, is_batch_moments, led_to_rows
from compiler.ops.batch_sums import adds_up
from compiler.ops.build import restored, spread
from compiler.ops.elementwise import Divide, Multiply, Subtract
from compiler.ops.reduction import Moments, element_count
from compiler.ops.spreading import Sum


def synchronised(graph: Graph) -> Graph:
    """The graph with each sum over rows, their number too, taken across shards where rows or states depend on it.

    Every value keeps its index; what else reads such a sum, as an output, reads that of the shard.
    """
    graph = _with_sums(graph)
    leading = led_to_rows(graph)
    builder = GraphBuilder.continuing(graph)
    across: dict[int, Value] = {}
    for node in graph.nodes:
        builder.append(replace(node, operands=tuple(across.get(o.index, o) for o in node.operands)))
        if adds_up(node) and node.results[0].index in leading:
            with builder.at(node.origins):
                across[node.results[0].index] = builder.emit(AcrossShards(), node.results[0])
    outputs = tuple(
        replace(o, value=across.get(o.value.index, o.value)) if o.role is Role.STATE else o for o in graph.outputs
    )
    return replace(graph, nodes=tuple(builder.nodes), outputs=outputs)


def _with_sums(graph: Graph) -> Graph:
    """The graph with sums in place of each mean and variance over the batch."""
    builder = GraphBuilder.continuing(graph)
    for node in graph.nodes:
        with builder.at(node.origins):
            if is_batch_moments(node):
                _add_moments(builder, node)
            else:
                builder.append(node)
    return replace(graph, nodes=tuple(builder.nodes))


def _add_moments(builder: GraphBuilder, node: Node) -> None:
    """Append the sums and quotients that give the mean, and then the mean of the squared distances from it."""
    assert isinstance(node.op, Moments)
    (x,), axes, shape = node.operands, node.op.axes, node.operands[0].type.shape
    mean, variance = node.results
    count = spread(builder, element_count(builder, shape, axes, x.type.dtype), mean.type.shape)
    builder.append(Node(Divide(), (builder.emit(Sum(axes), x), count), (mean,), node.origins))
    distance = builder.emit(Subtract(), x, restored(builder, mean, shape, axes))
    squares = builder.emit(Sum(axes), builder.emit(Multiply(), distance, distance))
    builder.append(Node(Divide(), (squares, count), (variance,), node.origins))
