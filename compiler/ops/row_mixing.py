"""The ops that mix rows: their results for a row of a batch depend on the rows beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from compiler.graph.ir import Graph, Node, Value
from compiler.ops.indexing import Put, ScatterAdd
from compiler.ops.movement import Concat, Pad, Reverse, Slice
from compiler.ops.reduction import CumulativeSum
from compiler.ops.scan import with_bodies
from compiler.ops.sources import BatchSize, Iota, RandomUniform, Threefry
from compiler.ops.spreading import Reshape
from compiler.ops.window import Fold, Window
from compiler.types import BatchExtent, Shape, batch_axis, is_of_pairs


def rows_are_apart(graph: Graph) -> bool:
    """Whether each row of every output depends on the same row of the inputs alone, wherever it stands in a batch.

    Where False, it may still be so: several rows of a value for each row of the batch are not followed.
    """
    outputs = [output.value for output in graph.outputs]
    inputs = [entry.value for entry in graph.inputs]
    is_drawn = any(isinstance(node.op, RandomUniform | Threefry) for node in with_bodies(graph.nodes))
    return all(map(_has_one_row_each, [*inputs, *outputs])) and (
        not is_drawn
        and where_rows_meet(graph.nodes) is None
        and all(batch_axis(output.type.shape) is not None for output in outputs)
    )


def where_rows_meet(nodes: Iterable[Node]) -> Node | None:
    """The first node whose results for a row may depend on the rows beside it; draws count as those of the row."""
    return next((node for node in with_bodies(nodes) if _may_mix(node)), None)


def _may_mix(node: Node) -> bool:
    if mixes_rows(node) or not all(map(_has_one_row_each, node.results)):
        return True
    match node.op:
        case ScatterAdd() | Put():
            return any(batch_axis(operand.type.shape) is not None for operand in node.operands)
        case Reshape(shape):
            return _before_batch(shape) != _before_batch(node.operands[0].type.shape)
        case _:
            return False


def _has_one_row_each(value: Value) -> bool:
    return all(extent.multiple == 1 for extent in value.type.shape if isinstance(extent, BatchExtent))


def _before_batch(shape: Shape) -> int | None:
    """How many elements lie before the batch axis; None without one."""
    axis = batch_axis(shape)
    return None if axis is None else math.prod(extent for extent in shape[:axis] if isinstance(extent, int))


def mixed_values(nodes: Iterable[Node], with_draws: bool = False) -> dict[int, Node]:
    """The values whose rows depend on other rows, by index, with the node among `nodes` where that comes from.

    With `with_draws`, so do values that are drawn, which depend on the place of a row in its batch.
    """
    found: dict[int, Node] = {}
    for node in nodes:
        mixing = next((found[o.index] for o in node.operands if o.index in found), None)
        if mixing is None and (mixes_rows(node) or (with_draws and isinstance(node.op, RandomUniform))):
            mixing = node
        if mixing is not None:
            found.update((result.index, mixing) for result in node.results)
    return found


def mixes_rows(node: Node) -> bool:
    axes = [axis for operand in node.operands if (axis := batch_axis(operand.type.shape)) is not None]
    if any(is_of_pairs(result.type.shape) for result in node.results):
        return True
    if axes and all(batch_axis(result.type.shape) is None for result in node.results):
        return True
    match node.op:
        case BatchSize():
            return True
        case Iota(shape, axis):
            return isinstance(shape[axis], BatchExtent)
        case CumulativeSum(axis) | Concat(axis):
            return axis in axes
        case Reverse(moved) | Window(moved) | Fold(moved):
            return any(axis in moved for axis in axes)
        case Slice(starts, sizes, steps):
            shape = node.operands[0].type.shape
            return any(starts[a] != 0 or steps[a] != 1 or sizes[a] != shape[a] for a in axes)
        case Pad(low, high):
            return any(low[axis] or high[axis] for axis in axes)
        case _:
            return False
