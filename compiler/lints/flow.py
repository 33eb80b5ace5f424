"""The sources and the uses of the values of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from compiler.errors.diagnostics import Span
from compiler.frontend.program import ParameterSpec
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphInput, Node, Role, Value, depending, needed_by
from compiler.graph.op import Category
from compiler.ops.control import CustomGradient, StopGradient
from compiler.ops.elementwise import Cast
from compiler.ops.movement import Slice
from compiler.ops.scan import Scan
from compiler.ops.spreading import Broadcast, Reshape


class Flow:
    """The nodes of a graph by the values that they make and take."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._makers = {result.index: node for node in graph.nodes for result in node.results}
        self._takers: dict[int, list[Node]] = {}
        for node in graph.nodes:
            for operand in node.operands:
                self._takers.setdefault(operand.index, []).append(node)

    def maker(self, value: Value) -> Node | None:
        """The node that gives a value; None for an input of the graph."""
        return self._makers.get(value.index)

    def takers(self, value: Value) -> list[Node]:
        return self._takers.get(value.index, [])

    def source(self, value: Value) -> Value:
        """The value whose elements these are: only moved, repeated or converted since, or given another gradient."""
        node = self.maker(value)
        while node is not None and (before := unchanged(node, value)) is not None:
            value = before
            node = self.maker(value)
        return value

    def numbers(self) -> dict[int, int]:
        """A number for each value, the same for values that are computed alike."""
        found: dict[int, int] = {entry.value.index: entry.value.index for entry in self.graph.inputs}
        known: dict[tuple[object, ...], int] = {}
        for node in self.graph.nodes:
            operands = tuple(found[operand.index] for operand in node.operands)
            for place, result in enumerate(node.results):
                found[result.index] = known.setdefault((node.op, operands, place), result.index)
        return found

    def reaching(self, values: list[Value]) -> set[int]:
        """The indices of all values on which some of these depend, and their own."""
        return needed_by(self.graph.nodes, (value.index for value in values))[1]

    def depending(self, values: list[Value]) -> set[int]:
        """The indices of all values that depend on some of these, and their own."""
        return depending(self.graph.nodes, (value.index for value in values))


def unchanged(node: Node, result: Value) -> Value | None:
    """The operand whose elements a result of the node repeats, if it computes nothing."""
    op = node.op
    if isinstance(op, CustomGradient):
        return node.operands[op.inputs + node.results.index(result)]
    is_same = isinstance(op, StopGradient | Cast) or (op.category is Category.MOVEMENT and len(node.operands) == 1)
    return node.operands[0] if is_same else None


def owner_place(spec: ParameterSpec) -> Span:
    """The user's line that makes a parameter or state."""
    return next((p for p in (spec.span, *reversed(spec.calls)) if not p.source.is_library), spec.span)


def place_of(node: Node) -> Span | None:
    """The user's line that a node comes from."""
    return node.origins[0].user_span if node.origins else None


def inlined(graph: Graph) -> Graph:
    """A step's element is the first of its stack, and a stack repeats the emitted value.

    A carry is an input of which nothing is known. The values of bodies stay as they are, but for those whose number
    another value has: bodies of gradients are numbered by themselves.
    """
    if not any(isinstance(node.op, Scan) for node in graph.nodes):
        return graph
    opened = _Opened(graph)
    for node in graph.nodes:
        opened.add(node, {})
    return replace(graph, inputs=tuple(opened.builder.inputs), nodes=tuple(opened.builder.nodes))


def _with_bodies(graph: Graph) -> tuple[list[GraphInput], list[Node]]:
    inputs, nodes = list(graph.inputs), list(graph.nodes)
    for node in graph.nodes:
        if isinstance(node.op, Scan):
            more = _with_bodies(node.op.body)
            inputs += more[0]
            nodes += more[1]
    return inputs, nodes


class _Opened:
    def __init__(self, graph: Graph) -> None:
        self.taken = {v.index for v in (*(e.value for e in graph.inputs), *(r for n in graph.nodes for r in n.results))}
        inputs, nodes = _with_bodies(graph)
        self.builder = GraphBuilder.continuing(replace(graph, inputs=tuple(inputs), nodes=tuple(nodes)))
        self.builder.inputs = list(graph.inputs)

    def add(self, node: Node, named: Mapping[int, Value]) -> None:
        """The node, of a body whose values are `named`."""
        op, builder = node.op, self.builder
        operands, results = (tuple(named.get(v.index, v) for v in part) for part in (node.operands, node.results))
        if not isinstance(op, Scan):
            builder.append(Node(op, operands, results, node.origins))
            return
        own = {
            v.index: operand for v, operand in zip(op.captured_inputs, operands[op.scanned + op.carries :], strict=True)
        }
        made = (result for inner in op.body.nodes for result in inner.results)
        own |= {v.index: self._own(v) for v in (*op.step_inputs, *op.carried_inputs, *made)}
        with builder.at(node.origins):
            for element, stack in zip(op.step_inputs, operands, strict=False):
                self._take_first(own[element.index], stack)
        carried = (own[v.index] for v in op.carried_inputs)
        builder.inputs.extend(GraphInput("(carry)", Role.DATA, value) for value in carried)
        for inner in op.body.nodes:
            self.add(inner, own)
        for inside, result in zip((*op.next_carries, *op.emitted), results, strict=True):
            given = own.get(inside.index, inside)
            kept = tuple(range(result.type.rank - given.type.rank, result.type.rank))
            builder.append(Node(Broadcast(result.type.shape, kept), (given,), (result,), node.origins))

    def _own(self, value: Value) -> Value:
        if value.index in self.taken:
            return self.builder.value(value.type)
        self.taken.add(value.index)
        return value

    def _take_first(self, element: Value, stack: Value) -> None:
        _, *rest = stack.type.shape
        zeros, ones = (0,) * stack.type.rank, (1,) * stack.type.rank
        first = self.builder.emit(Slice(zeros, (1, *rest), ones), stack)
        self.builder.append(Node(Reshape(tuple(rest)), (first,), (element,), self.builder.origins))
