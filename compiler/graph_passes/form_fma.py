"""Forms fused multiply-adds, here and nowhere else: rounding does not depend on the fusion of kernels."""

from __future__ import annotations

from collections import Counter

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Origin, Value
from compiler.graph_passes.rewrite import Rewriting
from compiler.ops.elementwise import Add, FusedMultiplyAdd, Multiply, Negate, Subtract
from compiler.ops.movement import Broadcast
from compiler.types import DType


def form_fma(graph: Graph) -> Graph:
    """a * b + c -> fma(a, b, c), and the forms with a minus, where the product has no other use."""
    rewriting = Rewriting(graph)
    uses = Counter(operand.index for node in graph.nodes for operand in node.operands)
    uses.update(output.value.index for output in graph.outputs)
    return rewriting.each(lambda node: _fused(rewriting.builder, node, uses))


def _fused(builder: GraphBuilder, node: Node, uses: Counter[int]) -> Value | None:
    if not isinstance(node.op, (Add, Subtract)) or node.results[0].type.dtype not in (DType.F32, DType.F64):
        return None
    left, right = node.operands
    first, second = _product(builder, left, uses), _product(builder, right, uses)
    subtracts = isinstance(node.op, Subtract)
    if first is not None:  # a * b - c -> fma(a, b, -c)
        a, b = first.operands
        with builder.at(_joined(first, node)):
            return builder.emit(FusedMultiplyAdd(), a, b, _negated(builder, right) if subtracts else right)
    if second is not None:  # c - a * b -> fma(-a, b, c)
        a, b = second.operands
        with builder.at(_joined(second, node)):
            return builder.emit(FusedMultiplyAdd(), _negated(builder, a) if subtracts else a, b, left)
    return None


def _product(builder: GraphBuilder, value: Value, uses: Counter[int]) -> Node | None:
    """The product that gives `value`, if nothing else uses it."""
    node = builder.definition(value)
    return node if node is not None and isinstance(node.op, Multiply) and uses[value.index] == 1 else None


def _negated(builder: GraphBuilder, value: Value) -> Value:
    """-value, computed before it is repeated."""
    node = builder.definition(value)
    if node is not None and isinstance(node.op, Broadcast):
        return builder.emit(node.op, builder.emit(Negate(), *node.operands))
    return builder.emit(Negate(), value)


def _joined(product: Node, total: Node) -> tuple[Origin, ...]:
    return tuple(dict.fromkeys((*product.origins, *total.origins)))
