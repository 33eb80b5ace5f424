"""Sums over the rows of a shard that stand for those over the whole batch, where other rows depend on them.

Statistics of a batch are such sums: each shard adds up its own rows, and goes on with the sum over all shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Role, Value
from compiler.graph.op import Category, Cotangents, DifferentiableOp, Types
from compiler.ops import rules
from compiler.ops.batch_sums import adds_up
from compiler.ops.reduction import Moments
from compiler.ops.row_mixing import mixes_rows
from compiler.ops.scan import Scan
from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.types import TensorType, depends_on_batch, is_of_pairs


@final
@record
class AcrossShards(DifferentiableOp):
    """The sum of the operand over all shards of a batch, of which a program has one; alone, a shard is the batch."""

    name = "across_shards"
    category = Category.CONTROL

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        return tuple(rules.expect_operands(self.name, operands, 1))

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        """The loss is a sum over shards, each of which depends on the result."""
        return (builder.emit(AcrossShards(), cotangent),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (operands[0],)


def led_to_rows(graph: Graph) -> set[int]:
    """The indices of values on which rows depend, or states of the model."""
    found = {output.value.index for output in graph.outputs if output.role is Role.STATE}
    for node in reversed(graph.nodes):
        if any(result.index in found or depends_on_batch(result.type.shape) for result in node.results):
            found.update(operand.index for operand in node.operands)
    return found


def is_batch_moments(node: Node) -> bool:
    """Whether mean and variance over the batch are computed, which follow from sums over rows."""
    if not isinstance(node.op, Moments):
        return False
    shape = node.operands[0].type.shape
    return not is_of_pairs(shape) and depends_on_batch(tuple(shape[axis] for axis in node.op.axes))


def other_meeting(graph: Graph) -> Node | None:
    """The first node by which rows, or states, depend on other rows in another way than by sums over all of them."""
    leading = led_to_rows(graph)
    for node in graph.nodes:
        if isinstance(node.op, Scan):
            found = next(filter(mixes_rows, _nodes_inside(node.op.body)), None)
        else:
            is_read = any(r.index in leading or depends_on_batch(r.type.shape) for r in node.results)
            is_other = mixes_rows(node) and not adds_up(node) and not is_batch_moments(node)
            found = node if is_read and is_other else None
        if found is not None:
            return found
    return None


def _nodes_inside(body: Graph) -> Iterator[Node]:
    for node in body.nodes:
        if isinstance(node.op, Scan):
            yield from _nodes_inside(node.op.body)
        yield node
