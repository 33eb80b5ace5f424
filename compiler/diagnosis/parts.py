"""A graph cut into parts, each a graph of its own: layers, and single operations with a gradient."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace

from compiler.evaluate import evaluate_node
from compiler.graph.ir import Graph, GraphInput, GraphOutput, Node, Origin, Role, Value, depending, needed_by
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.interface import Array
from compiler.ops.control import CustomGradient, StopGradient
from compiler.support.record import record


@record
class Subgraph:
    """Some nodes of a graph; each value of other nodes that they read is an input called `name_of` the value.

    `rule` is the node that holds the gradient which the user wrote for the others.
    """

    graph: Graph
    rule: Node | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.graph.nodes

    def moving(self, dependent: frozenset[int]) -> tuple[str, ...]:
        """The inputs of floats that it is differentiated in: those among the values `dependent`."""
        given = (
            self.graph.inputs if self.rule is None else [i for i in self.graph.inputs if self._is_parameter(i.value)]
        )
        return tuple(i.name for i in given if i.value.type.dtype.is_float and i.value.index in dependent)

    def _is_parameter(self, value: Value) -> bool:
        """Whether the user's gradient is one of this value too."""
        assert self.rule is not None
        assert isinstance(self.rule.op, CustomGradient)
        return value in self.rule.operands[: self.rule.op.inputs]

    def point(self, values: Mapping[int, Array]) -> dict[str, Array]:
        """The content of the inputs, from that of every value of the whole."""
        return {entry.name: values[entry.value.index] for entry in self.graph.inputs}


def name_of(value: Value) -> str:
    return f"value {value.index}"


def every_value(graph: Graph, inputs: Mapping[str, Array], batch: int) -> dict[int, Array]:
    """The arrays of each input and each node of a graph, by the index of the value."""
    values = {entry.value.index: inputs[entry.name] for entry in graph.inputs if entry.name in inputs}
    for node in graph.nodes:
        results = evaluate_node(node, [values[operand.index] for operand in node.operands], batch)
        values.update((value.index, array) for value, array in zip(node.results, results, strict=True))
    return values


def dependent_values(graph: Graph, inputs: Container[str]) -> frozenset[int]:
    """The values that depend on the inputs of these names, with those inputs."""
    return frozenset(depending(graph.nodes, (entry.value.index for entry in graph.inputs if entry.name in inputs)))


def without_stops(graph: Graph) -> tuple[Graph, tuple[Value, ...]]:
    """The graph with inputs where its text stops gradients, with the arrays of these: constants to gradients."""
    own = own_stops(graph)
    every = [node.results[0] for node in graph.nodes if isinstance(node.op, StopGradient)]
    stopped = tuple(value for value in every if value.index not in own)
    return with_inputs(graph, stopped), stopped


def with_inputs(graph: Graph, values: Sequence[Value]) -> Graph:
    """The graph with some of its values as further inputs, in place of the nodes that make them."""
    given = {value.index for value in values}
    nodes = tuple(node for node in graph.nodes if not any(result.index in given for result in node.results))
    further = tuple(GraphInput(name_of(value), Role.DATA, value) for value in values)
    return eliminate_dead(replace(graph, inputs=(*graph.inputs, *further), nodes=nodes))


def part_of(graph: Graph, nodes: Sequence[Node], rule: Node | None = None) -> Subgraph:
    """Nodes of a graph, in their order; values that other nodes or the outputs of the graph read are outputs."""
    chosen, made = set(map(id, nodes)), {r.index for node in nodes for r in node.results}
    taken = {o.index: o for node in nodes for o in node.operands if o.index not in made}
    read = {o.index for node in graph.nodes if id(node) not in chosen for o in node.operands}
    read.update(output.value.index for output in graph.outputs)
    given = [r for node in nodes for r in node.results if r.index in read]
    return Subgraph(
        Graph(
            graph.name,
            tuple(GraphInput(name_of(value), Role.DATA, value) for value in taken.values()),
            tuple(nodes),
            tuple(GraphOutput(name_of(value), Role.OUTPUT, value) for value in given),
        ),
        rule,
    )


def layers_of(graph: Graph) -> dict[str, Subgraph]:
    """The parts of a graph that belong to one layer each, by its path; nodes outside of all layers have the path ``."""
    grouped: dict[str, list[Node]] = {}
    for node in graph.nodes:
        origin = origin_of(node)
        grouped.setdefault("" if origin is None else origin.path, []).append(node)
    return {path: part_of(graph, nodes) for path, nodes in grouped.items()}


def origin_of(node: Node) -> Origin | None:
    return node.origins[0] if node.origins else None


def operations_of(part: Subgraph) -> Iterator[Subgraph]:
    """The nodes of a part one by one, those of a function with a gradient of its own together."""
    clusters = [(node, bodies) for node, bodies in custom_bodies(part.graph)]
    inside = {id(node) for _, body in clusters for node in body} | {id(rule) for rule, _ in clusters}
    for rule, body in clusters:
        yield part_of(part.graph, (*body, rule), rule)
    for node in part.nodes:
        if id(node) not in inside:
            yield part_of(part.graph, (node,))


def custom_bodies(graph: Graph) -> Iterator[tuple[Node, list[Node]]]:
    """Each node with a gradient that the user wrote, and the nodes that compute its results from its operands."""
    for rule in graph.nodes:
        if isinstance(rule.op, CustomGradient):
            given = {operand.index for operand in rule.operands[: rule.op.inputs]}
            yield rule, _between(graph, given, rule.operands[rule.op.inputs :])


def own_stops(graph: Graph) -> set[int]:
    """The values behind which a function with a gradient of its own hides from differentiation."""
    bodies = [body for _, body in custom_bodies(graph)]
    return {node.results[0].index for body in bodies for node in body if isinstance(node.op, StopGradient)}


def _between(graph: Graph, given: set[int], results: Sequence[Value]) -> list[Node]:
    """The nodes on the way from the stopped values of `given` to `results`."""

    def starts(node: Node) -> bool:
        return isinstance(node.op, StopGradient) and node.operands[0].index in given

    indices = (value.index for value in results)
    nodes, _ = needed_by(graph.nodes, indices, lambda node: () if starts(node) else node.operands)
    reached = depending(nodes, (), starts)
    return [node for node in nodes if node.results[0].index in reached]
