"""The split of a group's domain into rows and columns."""

from __future__ import annotations

from typing import TypeAlias

from compiler.graph.ir import Node
from compiler.ops.reduction import Max, Min, Sum
from compiler.schedule.addresses import storage_order
from compiler.schedule.numerics.internal_ops import ProductSum
from compiler.support.record import record
from compiler.types import Extent, elements


@record
class RowSplit:
    """Rows of equally many columns; reductions go over the columns."""

    rows: Extent
    columns: Extent


@record
class ColumnSplit:
    """Outer blocks of equally many rows; reductions go over the rows of a block."""

    outer: Extent
    rows: Extent
    columns: Extent


@record
class FlatSplit:
    """Rows of so many columns, of which the last may have fewer; there are no reductions."""

    elements: Extent
    columns: int


Split: TypeAlias = RowSplit | ColumnSplit


def reduction_split(node: Node) -> Split:
    """Rows and columns of a reduction over one contiguous stretch of storage."""
    shape = node.operands[0].type.shape
    op = node.op
    assert isinstance(op, Sum | ProductSum | Max | Min)
    order = storage_order(shape)
    places = [place for place, axis in enumerate(order) if axis in op.axes]
    before = elements(tuple(shape[a] for a in order[: places[0]]))
    inside = elements(tuple(shape[a] for a in order[places[0] : places[-1] + 1]))
    after = elements(tuple(shape[a] for a in order[places[-1] + 1 :]))
    return RowSplit(before, inside) if after == 1 else ColumnSplit(before, inside, after)
