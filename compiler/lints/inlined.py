"""A graph with the body of each scan once in place of the scan, for lints that look into steps."""

from __future__ import annotations

from dataclasses import replace

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphInput, Node, Role, Value
from compiler.ops.movement import Slice
from compiler.ops.scan import Scan
from compiler.ops.spreading import Broadcast, Reshape


def inlined(graph: Graph) -> Graph:
    """A step's element is the first of its stack, and a stack repeats what the step emits.

    What a step carries is an input of which nothing is known. The values of bodies stay what they are.
    """
    if not any(isinstance(node.op, Scan) for node in graph.nodes):
        return graph
    opened = _Opened(graph)
    for node in graph.nodes:
        opened.add(node)
    return replace(graph, inputs=tuple(opened.builder.inputs), nodes=tuple(opened.builder.nodes))


class _Opened:
    def __init__(self, graph: Graph) -> None:
        self.builder = GraphBuilder.continuing(graph)

    def add(self, node: Node) -> None:
        op, builder = node.op, self.builder
        if not isinstance(op, Scan):
            builder.append(node)
            return
        with builder.at(node.origins):
            for element, stack in zip(op.step_inputs, node.operands, strict=False):
                self._take_first(element, stack)
        builder.inputs.extend(GraphInput("(carry)", Role.DATA, value) for value in op.carried_inputs)
        for inner in op.body.nodes:
            self.add(inner)
        for given, result in zip((*op.next_carries, *op.emitted), node.results, strict=True):
            kept = tuple(range(result.type.rank - given.type.rank, result.type.rank))
            builder.append(Node(Broadcast(result.type.shape, kept), (given,), (result,), node.origins))

    def _take_first(self, element: Value, stack: Value) -> None:
        _, *rest = stack.type.shape
        zeros, ones = (0,) * stack.type.rank, (1,) * stack.type.rank
        first = self.builder.emit(Slice(zeros, (1, *rest), ones), stack)
        self.builder.append(Node(Reshape(tuple(rest)), (first,), (element,), self.builder.origins))
