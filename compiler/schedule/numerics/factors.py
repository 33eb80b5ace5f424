"""Sums of products by column, a chain of fused multiply-adds each: the gradients of a depthwise convolution's taps."""

from __future__ import annotations

from collections import Counter

from compiler.graph.ir import Graph, Node, Value
from compiler.ops.elementwise import Multiply
from compiler.ops.reduction import Sum
from compiler.schedule.addresses import count, storage_order
from compiler.support import numerics
from compiler.support.record import record


@record
class Factors:
    """The factors of a sum of products, and the number of sums with a factor in common."""

    pair: tuple[Value, Value]
    sums: int


def factors_of_sums(graph: Graph) -> dict[int, Factors]:
    """The factors of each product that is summed by column and not used otherwise, among several with one factor."""
    uses = Counter(operand.index for node in graph.nodes for operand in node.operands)
    uses.update(output.value.index for output in graph.outputs)
    products = {n.results[0].index: n for n in graph.nodes if isinstance(n.op, Multiply)}
    families: dict[tuple[int, tuple[int, ...]], set[int]] = {}
    for node in graph.nodes:
        product = products.get(node.operands[0].index) if isinstance(node.op, Sum) else None
        if product is not None and uses[product.results[0].index] == 1 and _is_by_column(node):
            assert isinstance(node.op, Sum)
            for factor in {operand.index for operand in product.operands}:
                families.setdefault((factor, node.op.axes), set()).add(product.results[0].index)
    sizes: dict[int, int] = {}
    for family in families.values():
        sizes |= {index: max(sizes.get(index, 0), len(family)) for index in family}
    chosen = {index: products[index].operands for index, size in sizes.items() if size >= numerics.FEWEST_SUMS}
    return {index: Factors((left, right), sizes[index]) for index, (left, right) in chosen.items()}


def _is_by_column(node: Node) -> bool:
    """Whether the innermost axis in storage, of floats, is long and is kept."""
    type_ = node.operands[0].type
    assert isinstance(node.op, Sum)
    last = storage_order(type_.shape)[-1]
    return type_.dtype.is_float and last not in node.op.axes and count(type_.shape[last]) >= numerics.FEWEST_COLUMNS
