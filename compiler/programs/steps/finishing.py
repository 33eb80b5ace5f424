"""Metrics over any number of rows: the totals of each step, and the program that finishes them once, in f64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compiler.frontend.program import Program
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphOutput, Node, Role, Value
from compiler.graph_passes.convert_dtype import converted_op
from compiler.ops.control import resolve_custom_gradients
from compiler.ops.elementwise import Cast, Symbolic
from compiler.ops.reduction import Moments
from compiler.ops.spreading import Broadcast, Reshape, Sum
from compiler.ops.totals import Total, TotalKind, gathered, split
from compiler.types import DType, Shape, TensorType

ROWS = "(rows)"
"""The input that holds the number of all rows; nothing of a program has such a name."""


def with_totals(graph: Graph, names: Sequence[str], by_rows: bool) -> tuple[Graph, tuple[str, ...]]:
    """The graph with further outputs, whose names are given: the totals of the metrics `names` in a step."""
    if not names:
        return graph, ()
    plain = resolve_custom_gradients(graph)
    totals = split(plain, _values(plain, names)).totals
    builder = GraphBuilder.extending(graph)
    added = [pair for number, total in enumerate(totals) for pair in gathered(builder, total, number, by_rows)]
    outputs = (GraphOutput(name, Role.OUTPUT, value) for name, value in added)
    graph = replace(graph, nodes=tuple(builder.nodes), outputs=(*graph.outputs, *outputs))
    return graph, tuple(name for name, _ in added)


def finishing_graph(program: Program, graph: Graph) -> Graph:
    """The metrics of `graph` that totals decide, from these, which are inputs of f64, and from tensors without rows.

    It computes in f64 whatever the element type of the program.
    """
    assert program.plan is not None
    names = program.plan.finished if graph is program.inference_graph else program.plan.finished_metrics
    graph = resolve_custom_gradients(graph)
    return _Finishing(graph).of(names)


def _values(graph: Graph, names: Sequence[str]) -> list[Value]:
    return [graph.output(name).value for name in names]


class _Finishing:
    """The program under construction. `known` are its values by the index of those of the graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.builder = GraphBuilder("finishing")
        self.known: dict[int, Value] = {}
        self.whole: dict[int, Value] = {}  # sums of i32, which could be larger than that

    def of(self, names: Sequence[str]) -> Graph:
        values = _values(self.graph, names)
        steps = split(self.graph, values).steps
        used = {operand.index for step in steps if isinstance(step, Node) for operand in step.operands}
        for entry in self.graph.inputs:
            if entry.value.index in used | {value.index for value in values}:
                value = self.builder.input(entry.name, entry.role, entry.value.type)
                self.known[entry.value.index] = self._widened(value)
        number = 0
        for step in steps:
            if isinstance(step, Total):
                self._total(step, number)
                number += 1
            else:
                self._node(step)
        for name, value in zip(names, values, strict=True):
            self.builder.output(name, Role.OUTPUT, self.builder.emit(Cast(DType.F64), self.known[value.index]))
        return self.builder.build()

    def _widened(self, value: Value) -> Value:
        return self.builder.emit(Cast(DType.F64), value) if value.type.dtype is DType.F32 else value

    def _node(self, node: Node) -> None:
        operands = [self.known[operand.index] for operand in node.operands]
        if isinstance(node.op, Cast) and node.op.dtype.is_float:
            operands = [self.whole.get(operand.index, self.known[operand.index]) for operand in node.operands]
        results = self.builder.emit_all(converted_op(node.op, DType.F64), *operands)
        self.known.update((old.index, self._widened(new)) for old, new in zip(node.results, results, strict=True))

    def _input(self, name: str, shape: Shape) -> Value:
        known = next((entry.value for entry in self.builder.inputs if entry.name == name), None)
        return known or self.builder.input(name, Role.DATA, TensorType(DType.F64, shape))

    def _total(self, total: Total, number: int) -> None:
        if total.kind is TotalKind.MOMENTS:
            self._moments(total, number)
            return
        value = total.node.results[0]
        name = ROWS if total.kind is TotalKind.ROWS else f"{total.kind.value}:{number}"
        given = self._input(name, value.type.shape)
        dtype = value.type.dtype
        if not dtype.is_float:
            self.whole[value.index] = given
            given = self.builder.emit(Cast(dtype), given)
        self.known[value.index] = given

    def _moments(self, total: Total, number: int) -> None:
        shape = total.type.shape
        count, mean, squares = (
            Symbolic(self.builder, self._input(f"{name}:{number}", shape)) for name in ("count", "mean", "squares")
        )
        if isinstance(total.node.op, Moments):
            first, second = total.node.results
            self.known[first.index] = mean.value
            self.known[second.index] = (squares / count).value
            return
        # sum((x - c)^2) = sum((x - mean)^2) + n (mean - c)^2: no two large numbers are subtracted.
        distance = mean - Symbolic(self.builder, self._centre(total, shape))
        each = (squares + count * distance * distance).value
        assert isinstance(total.node.op, Sum)
        kept = total.kept_axes
        rest = tuple(kept.index(axis) for axis in total.node.op.axes if axis not in total.axes)
        self.known[total.node.results[0].index] = self.builder.emit(Sum(rest), each) if rest else each

    def _centre(self, total: Total, shape: Shape) -> Value:
        """The centre of distances, of the shape of the moments."""
        assert total.centre is not None
        assert total.spread is not None
        centre = self.known[total.centre.index]
        pairs = zip(total.spread.axes, total.centre.type.shape, strict=True)
        varying = [(axis, extent) for axis, extent in pairs if extent != 1]
        flat = self.builder.emit(Reshape(tuple(extent for _, extent in varying)), centre)
        return self.builder.emit(Broadcast(shape, tuple(total.kept_axes.index(axis) for axis, _ in varying)), flat)
