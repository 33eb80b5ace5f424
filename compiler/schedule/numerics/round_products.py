"""Products of a training step whose factors are rounded (`precision = bf16` or `tf32` of `train`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from compiler.graph.ir import Direction, Graph, Node
from compiler.ops.contraction import Contraction
from compiler.schedule.numerics.internal_ops import Bf16Contraction, Rounded, RoundedContraction, Tf32Contraction
from compiler.types import DType, Extent

ORDERS: Mapping[tuple[str, bool], Rounded] = {
    ("bf16", False): RoundedContraction,
    ("bf16", True): Bf16Contraction,
    ("tf32", False): Tf32Contraction,
    ("tf32", True): Tf32Contraction,
}
"""The products of a precision, by its name and whether a GPU computes; of tf32, the reference computes those, too."""


def round_products(graph: Graph, rounded: Rounded = RoundedContraction) -> Graph:
    """The graph with rounded products in place of the products of matrices of f32, but those of an update.

    Runs behind the passes that rewrite products. What they made elementwise, such as depthwise convolutions, and
    products with a vector, whose operands come from memory once, stay as they are.
    """
    return replace(graph, nodes=tuple(_rounded(node, rounded) for node in graph.nodes))


def _rounded(node: Node, rounded: Rounded) -> Node:
    if not isinstance(node.op, Contraction) or not _is_of_matrices(node, node.op):
        return node
    is_of_update = bool(node.origins) and all(origin.direction is Direction.UPDATE for origin in node.origins)
    op = node.op
    return node if is_of_update else replace(node, op=rounded(op.lhs, op.rhs, op.out))


def _is_of_matrices(node: Node, op: Contraction) -> bool:
    """Whether it has rows, columns and a sum, each of more than one element, and elements of f32."""
    left, right = node.operands
    extents: dict[int, Extent] = {
        **dict(zip(op.lhs, left.type.shape, strict=True)),
        **dict(zip(op.rhs, right.type.shape, strict=True)),
    }
    wide = {label for label, extent in extents.items() if extent != 1}
    rows = wide & {*op.out} - {*op.rhs}
    columns = wide & {*op.out} - {*op.lhs}
    summed = wide & {*op.lhs} & {*op.rhs} - {*op.out}
    return left.type.dtype is DType.F32 and bool(rows) and bool(columns) and bool(summed)
