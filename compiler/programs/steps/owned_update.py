"""The update of a step, divided among processes: each makes new the parameters, or stretches of them, that it owns.

What is computed from one parameter's gradient and states is computed by its owners. Where several come together, as
their squares do in a norm, the owners give these to all, who go on alike: the graph is cut there into parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphOutput, Node, Role, Value, needed_by
from compiler.graph.op import Category
from compiler.ops.spreading import Broadcast
from compiler.programs.kinds import GIVEN, STRETCH
from compiler.programs.shard_owners import Given, UpdateLayout
from compiler.types import Shape, TensorType, static_elements


class Division:
    """Which parameter each value of an update belongs to, by the index of the value; None for those of all processes.

    `owned` names the parameter to which a gradient or a state of the optimizer belongs.
    """

    def __init__(self, graph: Graph, owned: Mapping[str, str]) -> None:
        self.graph = graph
        self.owners: dict[int, str | None] = {i.value.index: owned.get(i.name) for i in graph.inputs}
        self.levels = {i.value.index: 0 for i in graph.inputs}
        self.given: dict[int, Value] = {}  # what owners give to all
        for node in graph.nodes:
            self._place(node)
        self.last = max((self.levels[output.value.index] for output in graph.outputs), default=0)
        self.makers = {result.index: node for node in graph.nodes for result in node.results}
        self.inputs = {i.value.index: i for i in graph.inputs}

    def _place(self, node: Node) -> None:
        owners = {self.owners[o.index] for o in node.operands} - {None}
        level = max((self.levels[o.index] for o in node.operands), default=0)
        follows = any(self.owners[o.index] is None and self.levels[o.index] for o in node.operands)
        is_small = all(static_elements(result.type.shape) == 1 for result in node.results)
        if len(owners) > 1 or (owners and follows and is_small):
            for operand in node.operands:
                if self.owners[operand.index] is not None:
                    self.given[operand.index] = operand
                    level = max(level, self.levels[operand.index] + 1)
            owners = set[str | None]()
        for result in node.results:
            self.owners[result.index] = next(iter(owners), None)
            self.levels[result.index] = level

    def outputs_of(self, path: str | None) -> list[GraphOutput]:
        return [output for output in self.graph.outputs if self.owners[output.value.index] == path]

    def given_of(self) -> list[Given]:
        """What owners give, in the order of the graph."""
        return [
            Given(f"{GIVEN}{number}", value.type, self.owners[index] or "", self.levels[index])
            for number, (index, value) in enumerate(sorted(self.given.items()))
        ]

    def can_be_cut(self, path: str) -> bool:
        """Whether each element of a parameter and of its states is made of the elements at the same place."""
        outputs = self.outputs_of(path)
        shape = next((output.value.type.shape for output in outputs if output.name == path), ())
        if not shape or any(output.value.type.shape != shape for output in outputs):
            return False
        own = {output.name for output in outputs}
        inside = self.needed([output.value for output in outputs], shape)
        for index in inside:
            node = self.makers.get(index)
            if index in self.given:
                return False
            if node is None:
                entry = self.inputs[index]
                if entry.name not in own and self.owners[index] != path:
                    return False
            elif not _is_of_one_place(node, shape):
                return False
        # what another update reads of it would be read while it is written
        updates, _ = needed_by(self.graph.nodes, [o.value.index for o in self.graph.outputs if o.updates is not None])
        return not any(
            operand.index in inside and (operand.index in self.inputs or self.owners[operand.index] == path)
            for node in updates
            if not any(result.index in inside for result in node.results)
            for operand in node.operands
        )

    def needed(self, values: Sequence[Value], shape: Shape) -> set[int]:
        """The values of a shape on which some depend, by way of values of that shape alone, and their own."""
        found = {value.index for value in values}
        for node in reversed(self.graph.nodes):
            if any(result.index in found for result in node.results):
                found.update(operand.index for operand in node.operands if operand.type.shape == shape)
        return found


def _is_of_one_place(node: Node, shape: Shape) -> bool:
    if isinstance(node.op, Broadcast):
        return node.op.axes == ()
    others = [operand for operand in node.operands if operand.type.shape != shape]
    return node.op.category is Category.ELEMENTWISE and not others and len(node.results) == 1


def owned_parts(division: Division, layout: UpdateLayout, rank: int) -> list[Graph]:
    """The parts of the update that a process makes, in order; before each but the first, all give what they have.

    The last changes tensors, when the one before has told of the step, for which it may read all of them.
    """
    return [_Part(division, layout, rank, level).build() for level in range(layout.parts)]


class _Part:
    def __init__(self, division: Division, layout: UpdateLayout, rank: int, level: int) -> None:
        self.division, self.layout, self.rank, self.level = division, layout, rank, level
        self.builder = GraphBuilder(f"{division.graph.name} {rank} {level}")
        self.known: dict[tuple[int, str], Value] = {}
        self.names = dict(zip(sorted(division.given), division.given_of(), strict=True))

    def build(self) -> Graph:
        wanted: dict[str, list[tuple[str, GraphOutput]]] = {"": []}
        for index, given in self.names.items():
            if given.level == self.level and self.layout.owner(given.path) == self.rank:
                value = self.division.given[index]
                wanted[""].append((given.name, GraphOutput(given.name, Role.OPTIMIZER_STATE, value, given.name)))
        if self.level == self.layout.parts - 2:
            wanted[""] += [(o.name, o) for o in self.division.graph.outputs if o.updates is None]
        if self.level == self.layout.parts - 1:
            for output in (o for o in self.division.graph.outputs if o.updates is not None):
                path = self.division.owners[output.value.index]
                if path is None or self.layout.owner(path) == self.rank:
                    wanted[""].append((output.name, output))
                elif self.layout.is_cut(path) and self.layout.stretch(path, self.rank):
                    wanted.setdefault(path, []).append((output.name, output))
        needed = {tag: self._needed(tag, [o.value for _, o in outputs]) for tag, outputs in wanted.items()}
        for tag, indices in needed.items():  # scalars that a stretch reads are those of the whole
            if tag:
                needed[""] |= self._needed("", [self._value(i) for i in indices if not self._is_long(i, tag)])
        self._emit(needed)
        for tag, outputs in wanted.items():
            for name, output in outputs:
                self._output(tag, name, output)
        return self.builder.build()

    def _value(self, index: int) -> Value:
        node = self.division.makers.get(index)
        return self.division.inputs[index].value if node is None else next(r for r in node.results if r.index == index)

    def _is_long(self, index: int, path: str) -> bool:
        return self._value(index).type.shape == self.layout.shapes[path]

    def _is_read(self, index: int) -> bool:
        """Whether a value was given by its owner before this part."""
        return index in self.names and self.names[index].level < self.level

    def _needed(self, tag: str, values: Sequence[Value]) -> set[int]:
        found = {value.index for value in values}
        for node in reversed(self.division.graph.nodes):
            if any(r.index in found and not self._is_read(r.index) for r in node.results):
                is_long = tag == "" or self._is_long(node.results[0].index, tag)
                found.update(operand.index for operand in node.operands if is_long)
        return found

    def _emit(self, needed: Mapping[str, set[int]]) -> None:
        for entry in self.division.graph.inputs:
            for tag, indices in needed.items():
                if entry.value.index in indices and not self._is_read(entry.value.index):
                    self._input(tag, entry.name, entry.role, entry.value)
        for index, given in self.names.items():
            if self._is_read(index) and any(index in indices for indices in needed.values()):
                self.known[index, ""] = self.builder.input(given.name, Role.OPTIMIZER_STATE, given.type)
        for node in self.division.graph.nodes:
            for tag, indices in needed.items():
                results = [result.index for result in node.results]
                is_own = tag == "" or self._is_long(results[0], tag)
                if is_own and any(i in indices and not self._is_read(i) for i in results):
                    self._add(tag, node)

    def _input(self, tag: str, name: str, role: Role, value: Value) -> None:
        if tag and not self._is_long(value.index, tag):
            return
        type_ = self._type(tag, value)
        full = f"{name}{STRETCH}" if tag else name
        if (value.index, tag) not in self.known:
            self.known[value.index, tag] = self.builder.input(full, role, type_)

    def _type(self, tag: str, value: Value) -> TensorType:
        return replace(value.type, shape=(len(self.layout.stretch(tag, self.rank)),)) if tag else value.type

    def _add(self, tag: str, node: Node) -> None:
        operands = [self.known.get((o.index, tag)) or self.known[o.index, ""] for o in node.operands]
        results = tuple(self.builder.value(self._type(tag, result)) for result in node.results)
        op = replace(node.op, shape=results[0].type.shape) if tag and isinstance(node.op, Broadcast) else node.op
        self.builder.append(Node(op, tuple(operands), results, node.origins))
        self.known.update(((old.index, tag), new) for old, new in zip(node.results, results, strict=True))

    def _output(self, tag: str, name: str, output: GraphOutput) -> None:
        full = f"{name}{STRETCH}" if tag else name
        value = self.known[output.value.index, tag]
        if output.updates is None:
            self.builder.output(full, output.role, value)
            return
        if all(entry.name != full for entry in self.builder.inputs):
            self.builder.input(full, output.role, value.type)
        self.builder.output(full, output.role, value, updates=full)
