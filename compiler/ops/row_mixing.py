"""Where the rows of a batch meet: ops whose results for a row depend on the rows beside it."""

from __future__ import annotations

from collections.abc import Iterable

from compiler.graph.ir import Node
from compiler.ops.movement import Concat, Pad, Reverse, Slice
from compiler.ops.reduction import CumulativeSum
from compiler.ops.sources import BatchSize, Iota, RandomUniform
from compiler.ops.window import Fold, Window
from compiler.types import BatchExtent, batch_axis


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
