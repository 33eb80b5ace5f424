"""The step of a shard, cut where it needs sums over all shards: segments, between which these are exchanged.

Each segment is a graph. It stores its part of the sums in tensors, reads those of earlier segments when all shards are
added up, and keeps values of its rows for later ones, as outputs that these are fed with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphInput, GraphOutput, Node, Role, Value
from compiler.graph.op import Category
from compiler.graph_passes.eliminate import eliminate_common, eliminate_dead
from compiler.ops.across_shards import AcrossShards
from compiler.ops.control import resolve_custom_gradients
from compiler.ops.mathematics import MATHEMATICS
from compiler.ops.movement import Transpose
from compiler.ops.sources import BatchSize
from compiler.ops.spreading import Reshape
from compiler.programs.kinds import ACROSS, KEPT_FOR_LATER
from compiler.support.record import mutable_record
from compiler.types import BatchExtent, TensorType, batch_axis, depends_on_batch

# A value of elementwise operations is computed again where later segments need it, unless that takes more than so many
# operations, or more than so many values of rows.
_MOST_OPERATIONS, _MOST_VALUES = 24, 2


def segments(graph: Graph) -> list[Graph]:
    """The segments in order; one where nothing is taken across shards."""
    return _Cutting(eliminate_dead(eliminate_common(resolve_custom_gradients(graph)))).cut()


@mutable_record
class _Needs:
    """What a segment computes and is fed with, by the indices of values."""

    wanted: list[Value] = field(default_factory=list[Value])
    computed: set[int] = field(default_factory=set[int])
    fed: dict[int, Value] = field(default_factory=dict[int, Value])
    summed: dict[int, Value] = field(default_factory=dict[int, Value])


class _Cutting:
    """`levels` says of each value after how many exchanges it is there."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers = {result.index: node for node in graph.nodes for result in node.results}
        self.levels = {entry.value.index: 0 for entry in graph.inputs}
        self.of_rows: set[int] = {i.value.index for i in graph.inputs if depends_on_batch(i.value.type.shape)}
        self.sources: dict[int, frozenset[int]] = {}  # the values of rows that a value is computed again from
        self.operations: dict[int, int] = {}
        for node in graph.nodes:
            level = max((self.levels[o.index] for o in node.operands), default=0) + isinstance(node.op, AcrossShards)
            is_of_rows = any(o.index in self.of_rows for o in node.operands) or isinstance(node.op, BatchSize)
            for result in node.results:
                self.levels[result.index] = level
                if (is_of_rows and not isinstance(node.op, AcrossShards)) or depends_on_batch(result.type.shape):
                    self.of_rows.add(result.index)
                self._weigh(node, result)
        self.last = max((self.levels[output.value.index] for output in graph.outputs), default=0)
        self.names = self._names_of_sums()

    def _weigh(self, node: Node, result: Value) -> None:
        sources = frozenset[int]().union(*(self.sources.get(o.index, frozenset({o.index})) for o in node.operands))
        sources &= self.of_rows
        operations = 1 + sum(self.operations.get(o.index, 0) for o in node.operands)
        if not _is_cheap(node) or operations > _MOST_OPERATIONS or len(sources) > _MOST_VALUES:
            sources, operations = frozenset({result.index}), 0
        self.sources[result.index], self.operations[result.index] = sources, operations

    def _names_of_sums(self) -> dict[int, str]:
        """The tensor of each sum across shards, by the index of the result."""
        found: dict[int, str] = {}
        numbers = [0] * (self.last + 1)
        for node in self.graph.nodes:
            if isinstance(node.op, AcrossShards) and self.levels[node.results[0].index] <= self.last:
                level = self.levels[node.operands[0].index]
                found[node.results[0].index] = f"{ACROSS}{level}:{numbers[level]}"
                numbers[level] += 1
        return found

    def cut(self) -> list[Graph]:
        needs = [_Needs() for _ in range(self.last + 1)]
        for output in self.graph.outputs:
            needs[self.levels[output.value.index]].wanted.append(output.value)
        kept: list[dict[int, Value]] = [{} for _ in needs]
        for level in reversed(range(self.last + 1)):
            own = needs[level]
            for node in self.graph.nodes:
                if node.results[0].index in self.names and self.levels[node.operands[0].index] == level:
                    own.wanted.append(node.operands[0])
            own.wanted += kept[level].values()
            self._follow(level, own)
            for index, value in own.fed.items():
                kept[self.levels[index]][index] = value
        return [self._segment(level, own, kept[level]) for level, own in enumerate(needs)]

    def _follow(self, level: int, own: _Needs) -> None:
        """Find all that a segment computes for what is wanted of it."""
        waiting = list(own.wanted)
        while waiting:
            value = waiting.pop()
            if value.index in own.computed or value.index not in self.makers:
                continue
            node = self.makers[value.index]
            if value.index in self.names and self.levels[value.index] <= level:
                own.summed[value.index] = value
            elif self.levels[value.index] == level or self._is_computed_again(value):
                own.computed.update(result.index for result in node.results)
                waiting += node.operands
            else:
                own.fed[value.index] = value

    def _is_computed_again(self, value: Value) -> bool:
        return value.index not in self.of_rows or value.index not in self.sources[value.index]

    def _segment(self, level: int, own: _Needs, kept: Mapping[int, Value]) -> Graph:
        builder = GraphBuilder.continuing(self.graph)
        known: dict[int, Value] = {}
        for index, value in own.fed.items():
            given = builder.input(f"{KEPT_FOR_LATER}{index}", Role.DATA, _packed(value.type))
            known[index] = _unpack(builder, given, value.type)
        for index, value in own.summed.items():
            known[index] = builder.input(self.names[index], Role.OPTIMIZER_STATE, value.type)
        for node in self.graph.nodes:
            if node.results[0].index in own.computed:
                operands = tuple(known.get(operand.index, operand) for operand in node.operands)
                builder.append(Node(node.op, operands, node.results, node.origins))
        for node in self.graph.nodes:
            if node.results[0].index in self.names and self.levels[node.operands[0].index] == level:
                name, summand = self.names[node.results[0].index], node.operands[0]
                builder.input(name, Role.OPTIMIZER_STATE, summand.type)
                builder.output(name, Role.OPTIMIZER_STATE, known.get(summand.index, summand), updates=name)
        builder.outputs += [
            GraphOutput(o.name, o.role, known.get(o.value.index, o.value), o.updates)
            for o in self.graph.outputs
            if self.levels[o.value.index] == level
        ]
        for index, value in kept.items():
            builder.output(f"{KEPT_FOR_LATER}{index}", Role.OUTPUT, _pack(builder, value))
        graph = builder.build()
        return Graph(f"{graph.name} {level}", _used(graph), graph.nodes, graph.outputs)


def _is_cheap(node: Node) -> bool:
    if node.op.category is Category.MOVEMENT or isinstance(node.op, BatchSize):
        return True
    return node.op.category is Category.ELEMENTWISE and not isinstance(node.op, MATHEMATICS)


def _used(graph: Graph) -> tuple[GraphInput, ...]:
    read = {operand.index for node in graph.nodes for operand in node.operands}
    read |= {output.value.index for output in graph.outputs}
    updated = {output.updates for output in graph.outputs}
    return tuple(i for i in graph.inputs if i.value.index in read or i.name in updated)


def _packed(type_: TensorType) -> TensorType:
    """The type in which rows are fed: the batch comes first, and once."""
    axis = batch_axis(type_.shape)
    if axis is None:
        return TensorType(type_.dtype, type_.shape or (1,))  # a scalar result would be told of each step
    extent = type_.shape[axis]
    assert isinstance(extent, BatchExtent)
    others = [e for k, e in enumerate(type_.shape) if k != axis]
    parts = [extent.multiple] if extent.multiple > 1 else []
    return TensorType(type_.dtype, (BatchExtent(), *parts, *others))


def _order(type_: TensorType) -> Sequence[int]:
    """The axes with that of the batch first, if there is one."""
    axis = batch_axis(type_.shape) or 0
    return [axis, *(k for k in range(type_.rank) if k != axis)]


def _pack(builder: GraphBuilder, value: Value) -> Value:
    if batch_axis(value.type.shape):
        value = builder.emit(Transpose(tuple(_order(value.type))), value)
    packed = _packed(value.type)
    return value if packed == value.type else builder.emit(Reshape(packed.shape), value)


def _unpack(builder: GraphBuilder, value: Value, type_: TensorType) -> Value:
    order = _order(type_)
    moved = tuple(type_.shape[k] for k in order) if type_.rank else ()
    if value.type.shape != moved:
        value = builder.emit(Reshape(moved), value)
    if batch_axis(type_.shape):
        value = builder.emit(Transpose(tuple(order.index(k) for k in range(type_.rank))), value)
    return value
