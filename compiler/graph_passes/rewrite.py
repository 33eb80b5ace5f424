"""The traversal that passes share: a graph is copied node by node, and values are replaced on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Value


class Rewriting:
    """A graph under reconstruction. Each node of the old graph, in order, is either kept or replaced."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.builder = GraphBuilder.continuing(graph)
        self._replaced: dict[int, Value] = {}
        self.keep = self.builder.append

    def current(self, node: Node) -> Node:
        """`node` with its operands replaced; the builder stamps its origins on the nodes emitted next."""
        self.builder.origins = node.origins
        replaced = self._replaced
        for operand in node.operands:
            if operand.index in replaced:
                operands = tuple([replaced.get(operand.index, operand) for operand in node.operands])
                return Node(node.op, operands, node.results, node.origins)
        return node

    def each(self, replacement: Callable[[Node], Value | None]) -> Graph:
        """The graph with other values in place of the results of some nodes; a node without a replacement is kept."""
        for node in map(self.current, self.graph.nodes):
            value = replacement(node)
            if value is None:
                self.keep(node)
            else:
                self.replace(node, (value,))
        return self.finish()

    def now(self, value: Value) -> Value:
        """The value in place of one of the old graph."""
        return self._replaced.get(value.index, value)

    def replace(self, node: Node, values: Sequence[Value]) -> None:
        """Use `values`, of the same types, in place of the results of `node`."""
        for result, value in zip(node.results, values, strict=True):
            assert result.type == value.type, f"{node.op}: {value.type} in place of {result.type}"
            self._replaced[result.index] = value

    def finish(self) -> Graph:
        replaced = self._replaced
        outputs = tuple(
            replace(output, value=replaced[output.value.index]) if output.value.index in replaced else output
            for output in self.graph.outputs
        )
        return Graph(self.graph.name, self.graph.inputs, tuple(self.builder.nodes), outputs)
