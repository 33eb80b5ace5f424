"""Small tools of the passes: who makes a value, who reads it, and constants of one number."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from runtime.imports.onnx.graph import Graph, Node


class View:
    """A graph with its makers and readers, while nodes are replaced."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.maker = {name: node for node in graph.nodes for name in node.outputs if name}
        self.readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            if all(graph.values[name].contents is not None for name in node.outputs if name):
                continue  # numbers that follow from shapes
            for name in node.inputs:
                if name:
                    self.readers.setdefault(name, []).append(node)
        self.gone: set[int] = set()
        self.new: dict[int, Node] = {}
        self.before: dict[int, list[Node]] = {}

    def made_by(self, name: str, *ops: str) -> Node | None:
        """The node that makes a value, if it is one of these operations."""
        node = self.maker.get(name)
        return node if node is not None and node.op in ops else None

    def inner(self, name: str, *ops: str) -> Node | None:
        """As `made_by`, of a value with one reader that is no output: it may be taken into another operation."""
        single = len(self.readers.get(name, ())) == 1 and name not in self.graph.outputs
        return self.made_by(name, *ops) if single else None

    def number(self, name: str) -> float | None:
        """The one number of a constant."""
        value = self.graph.values.get(name)
        if value is None or value.constant is None or value.constant.size != 1:
            return None
        return float(value.constant.reshape(-1)[0])

    def is_number(self, name: str, number: float) -> bool:
        found = self.number(name)
        return found is not None and math.isclose(found, number, rel_tol=1e-5, abs_tol=1e-12)

    def other(self, node: Node, name: str) -> str | None:
        """The second operand of an operation that has `name` as one of two."""
        if len(node.inputs) != 2 or name not in node.inputs:
            return None
        return node.inputs[1] if node.inputs[0] == name else node.inputs[0]

    def split(self, node: Node) -> tuple[float, str] | None:
        """A number and the other operand of an operation on both, in either order."""
        for i in (0, 1):
            number = self.number(node.inputs[i])
            if number is not None:
                return number, node.inputs[1 - i]
        return None

    def replace(self, node: Node, by: Node, without: Iterable[Node] = ()) -> None:
        """Put a node in place of one, and leave out others, which it holds."""
        self.new[id(node)] = by
        self.gone.update(id(one) for one in without)

    def put_before(self, node: Node, nodes: Iterable[Node]) -> None:
        """Put further nodes in front of one."""
        self.before[id(node)] = list(nodes)

    def result(self) -> Graph:
        """The graph with all replacements."""
        nodes: list[Node] = []
        for node in self.graph.nodes:
            nodes += self.before.get(id(node), [])
            if id(node) not in self.gone:
                nodes.append(self.new.get(id(node), node))
        self.graph.nodes = nodes
        return self.graph


def each(graph: Graph, ops: tuple[str, ...], rewrite: Callable[[View, Node], bool]) -> Graph:
    """Apply a rewriting to each node of the kinds; what it takes into itself is not visited again."""
    view = View(graph)
    for node in graph.nodes:
        if node.op in ops and id(node) not in view.gone and id(node) not in view.new:
            rewrite(view, node)
    return view.result()


def axes_of(view: View, reduction: Node) -> list[int] | None:
    """The axes of a reduction, counted from 0; None where they are not said."""
    axes = reduction.attributes.get("axes")
    for name in reduction.inputs[1:]:
        constant = view.graph.values[name].constant if name else None
        axes = axes if constant is None else [int(axis) for axis in constant.reshape(-1)]
    rank = view.graph.values[reduction.inputs[0]].rank
    return None if axes is None else [axis % rank for axis in axes]
