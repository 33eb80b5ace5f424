"""The only place where graphs are made: appends typed nodes and hands out values."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from compiler.graph.ir import Graph, GraphInput, GraphOutput, Node, Origin, Role, Value
from compiler.graph.op import Op
from compiler.types import TensorType


class GraphBuilder:
    """Builds one graph. `origins` are stamped on every node until changed with `at`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[GraphInput] = []
        self.nodes: list[Node] = []
        self.outputs: list[GraphOutput] = []
        self.origins: tuple[Origin, ...] = ()
        self._count = 0
        self._definitions: dict[int, Node] = {}

    @classmethod
    def continuing(cls, graph: Graph) -> GraphBuilder:
        """A builder with the inputs of `graph` and fresh values beyond its own; its nodes are to be appended."""
        builder = cls(graph.name)
        builder.inputs = list(graph.inputs)
        known = [result.index for node in graph.nodes for result in node.results]
        known += [entry.value.index for entry in graph.inputs]
        builder._count = 1 + max(known, default=-1)
        return builder

    @classmethod
    def extending(cls, graph: Graph) -> GraphBuilder:
        """A builder that stands at the end of `graph`, its nodes included."""
        builder = cls.continuing(graph)
        for node in graph.nodes:
            builder.append(node)
        return builder

    @contextmanager
    def at(self, origins: tuple[Origin, ...]) -> Generator[None, None, None]:
        """Nodes emitted inside carry `origins`."""
        before, self.origins = self.origins, origins
        try:
            yield
        finally:
            self.origins = before

    @property
    def next_index(self) -> int:
        """The index that the next new value gets."""
        return self._count

    def value(self, type_: TensorType) -> Value:
        """A new value that nothing defines yet."""
        self._count += 1
        return Value(self._count - 1, type_)

    def input(self, name: str, role: Role, type_: TensorType) -> Value:
        value = self.value(type_)
        self.inputs.append(GraphInput(name, role, value))
        return value

    def output(self, name: str, role: Role, value: Value, updates: str | None = None) -> None:
        self.outputs.append(GraphOutput(name, role, value, updates))

    def emit_all(self, op: Op, *operands: Value) -> tuple[Value, ...]:
        """Append a node; its results, typed by the op's own rule. Raises `TypeRuleError`."""
        results = tuple([self.value(t) for t in op.result_types([o.type for o in operands])])
        self.append(Node(op, operands, results, self.origins))
        return results

    def append(self, node: Node) -> None:
        """Append a node that is typed already."""
        self.nodes.append(node)
        for result in node.results:
            self._definitions[result.index] = node

    def repeat(self, node: Node, operands: tuple[Value, ...]) -> tuple[Value, ...]:
        """Append the op of `node` on other operands of the same types, which needs no rule; its results."""
        results = tuple([self.value(result.type) for result in node.results])
        self.append(Node(node.op, operands, results, self.origins))
        return results

    def definition(self, value: Value) -> Node | None:
        """The node that gives `value`; None for an input."""
        return self._definitions.get(value.index)

    def emit(self, op: Op, *operands: Value) -> Value:
        """As `emit_all`, for an op with a single result."""
        (result,) = self.emit_all(op, *operands)
        return result

    def inline(
        self, graph: Graph, arguments: Sequence[Value], restamp: Callable[[Origin], Origin] | None = None
    ) -> dict[str, Value]:
        """Append a copy of `graph` with its inputs bound to `arguments`, in order; its outputs by name.

        Nodes keep their origins, each changed by `restamp`; those without any get the builder's.
        """
        known = {i.value.index: a for i, a in zip(graph.inputs, arguments, strict=True)}
        # Arguments of the declared types need no rule: every result has the type that it has in `graph`.
        keeps_types = all(known[i.value.index].type == i.value.type for i in graph.inputs)
        outer = self.origins
        with self.at(outer):
            for node in graph.nodes:
                kept = node.origins if restamp is None else tuple(map(restamp, node.origins))
                self.origins = kept or outer
                operands = tuple([known[o.index] for o in node.operands])
                results = self.repeat(node, operands) if keeps_types else self.emit_all(node.op, *operands)
                known.update(zip([old.index for old in node.results], results, strict=True))
        return {o.name: known[o.value.index] for o in graph.outputs}

    def build(self) -> Graph:
        return Graph(self.name, tuple(self.inputs), tuple(self.nodes), tuple(self.outputs))
