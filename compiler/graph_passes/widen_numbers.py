"""Arithmetic of numbers alone (settings, the step, constants) in f64: rounded once, where a tensor takes the result."""

from __future__ import annotations

from dataclasses import replace

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphInput, Node, Role, Value
from compiler.graph.op import Category
from compiler.ops.control import resolve_custom_gradients
from compiler.ops.elementwise import Cast
from compiler.ops.sources import Constant
from compiler.types import DType, TensorType

_F32, _F64 = TensorType(DType.F32), TensorType(DType.F64)
_GIVEN = (Role.SETTING, Role.STEP)


def widen_numbers(graph: Graph) -> Graph:
    """`graph` with each f32 scalar in which no tensor has a part computed in f64.

    A setting that takes part in such arithmetic is an input of f64. One that only tensors read stays f32, and whoever
    runs the graph rounds it.
    """
    graph = resolve_custom_gradients(graph)  # it may stand around a number
    computed = _computed_numbers(graph)
    if not computed:
        return graph
    read = {operand.index for node in graph.nodes if node.results[0].index in computed for operand in node.operands}
    widening = _Widening(graph, read)
    for node in graph.nodes:
        widening.builder.origins = node.origins
        if node.results[0].index in computed:
            widening.widen(node)
        else:
            widening.keep(node)
    return widening.finish()


def _computed_numbers(graph: Graph) -> set[int]:
    """The results of elementwise ops on settings, the step, constants, and on such results again."""
    numbers = {entry.value.index for entry in graph.inputs if entry.role in _GIVEN}
    computed: set[int] = set()
    for node in graph.nodes:
        result = node.results[0]
        if isinstance(node.op, Constant):
            numbers.add(result.index)
        elif (
            node.op.category is Category.ELEMENTWISE
            and all(operand.index in numbers for operand in node.operands)
            and not _narrows(node)
        ):
            numbers.add(result.index)
            computed.add(result.index)
    return computed


def _narrows(node: Node) -> bool:
    """Whether a number is rounded because the text says so."""
    (result,), source = node.results, node.operands[0]
    return result.type.dtype is DType.BF16 or (source.type == _F64 and result.type == _F32)


class _Widening:
    """The graph under reconstruction. `read` are the numbers that others are computed from."""

    def __init__(self, graph: Graph, read: set[int]) -> None:
        self.graph, self.read = graph, read
        self.builder = GraphBuilder.continuing(graph)
        self._exact: dict[int, Value] = {}  # the f64 value in place of a number
        self._rounded: dict[int, Value] = {}  # and what tensors take
        for place, entry in enumerate(graph.inputs):
            if entry.role in _GIVEN and entry.value.type == _F32 and entry.value.index in read:
                exact = self._exact[entry.value.index] = self.builder.value(_F64)
                self.builder.inputs[place] = GraphInput(entry.name, entry.role, exact)

    def widen(self, node: Node) -> None:
        """Compute a number from exact ones."""
        op = Cast(DType.F64) if node.op == Cast(DType.F32) else node.op
        operands = [self._exact.get(operand.index, operand) for operand in node.operands]
        self._exact[node.results[0].index] = self.builder.emit(op, *operands)

    def keep(self, node: Node) -> None:
        """Compute anything else, with numbers rounded."""
        self.builder.append(replace(node, operands=tuple(map(self.rounded, node.operands))))
        result = node.results[0]
        if isinstance(node.op, Constant) and result.type == _F32 and result.index in self.read:
            self._exact[result.index] = self.builder.emit(replace(node.op, dtype=DType.F64))
            self._rounded[result.index] = result

    def rounded(self, value: Value) -> Value:
        """A value in the type that it has in the given graph."""
        exact = self._exact.get(value.index, value)
        if exact.type == value.type:
            return exact
        if value.index not in self._rounded:
            self._rounded[value.index] = self.builder.emit(Cast(DType.F32), exact)
        return self._rounded[value.index]

    def finish(self) -> Graph:
        outputs = tuple(replace(output, value=self.rounded(output.value)) for output in self.graph.outputs)
        return Graph(self.graph.name, tuple(self.builder.inputs), tuple(self.builder.nodes), outputs)
