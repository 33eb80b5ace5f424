"""A contraction as tiles see it: its row and column axes, its sum, and the places of its operands."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.ir import Node, Value
from compiler.loops.ir import ContractedAxis, OuterAxis, TileContract
from compiler.ops.contraction import Contraction
from compiler.schedule.addresses import count, linear_strides
from compiler.schedule.fusion.ir import CONTRACTIONS, Link
from compiler.schedule.numerics.internal_ops import (
    CHAINED,
    Bf16Contraction,
    OrderedContraction,
    RoundedContraction,
    SplitContraction,
    Tf32Contraction,
)
from compiler.tuning import Tuning
from compiler.types import BatchExtent, Extent, elements


def tile_contract(node: Node, left: Link, right: Link, lhs: int, rhs: int, tile: int, tuning: Tuning) -> TileContract:
    """The contract of a contraction with these operands; `lhs`, `rhs` and `tile` number its buffers."""
    op = node.op
    assert isinstance(op, CONTRACTIONS)
    shape = {
        **dict(zip(op.rhs, node.operands[1].type.shape, strict=True)),
        **dict(zip(op.lhs, node.operands[0].type.shape, strict=True)),
    }
    lhs_strides = _strides_by_label(op.lhs, node.operands[0], left)
    rhs_strides = _strides_by_label(op.rhs, node.operands[1], right)
    rows, columns = _row_axes(op, shape, lhs_strides, rhs_strides)
    if isinstance(op, OrderedContraction):
        place = [label for label in _by_storage(op.out, shape) if label in op.lhs].index(op.row)
        chosen = rows[place]
        runs = [*_merged(rows[:place]), chosen, *_merged(rows[place + 1 :])]
    else:
        runs = _merged(rows)
        chosen = _walked_axis(runs, tuning.product_rows)
    summed = [
        OuterAxis(shape[label], lhs_strides[label], rhs_strides[label], 0)
        for label in _by_storage(op.lhs, shape)
        if label in op.rhs and label not in op.out
    ]
    splits = op.splits if isinstance(op, (SplitContraction, *CHAINED)) else 1
    divided = 1 if splits > 1 else 0
    sums = (*summed[:divided], *_merged(summed[divided:]))
    return TileContract(
        lhs,
        rhs,
        tile,
        chosen.extent if chosen else 1,
        columns,
        tuple(ContractedAxis(axis.extent, axis.lhs_stride, axis.rhs_stride) for axis in sums),
        tuple(a for a in runs if a is not chosen),
        left.address.offset,
        right.address.offset,
        chosen.lhs_stride if chosen else 0,
        min((rhs_strides[label] for label in op.out if label not in op.lhs), default=1),
        chosen.row_step if chosen else 0,
        node.results[0].type.dtype,
        splits,
        count(elements(tuple(a.extent for a in rows))) if splits > 1 else 0,
        op.triangle if isinstance(op, OrderedContraction) else None,
        isinstance(op, RoundedContraction),
        op.rounding if isinstance(op, CHAINED) else None,
    )


def _strides_by_label(labels: Sequence[int], operand: Value, link: Link) -> dict[int, int]:
    strides = linear_strides(operand.type.shape, link.address)
    if strides is None:
        raise CompilerBug("to_loops", "a contraction reads an operand that no strides describe")
    return dict(zip(labels, strides, strict=True))


def _by_storage(labels: Sequence[int], shape: dict[int, Extent]) -> list[int]:
    return sorted(labels, key=lambda label: not isinstance(shape[label], BatchExtent))


def _row_axes(
    op: Contraction | SplitContraction | OrderedContraction | RoundedContraction | Bf16Contraction | Tf32Contraction,
    shape: dict[int, Extent],
    lhs: dict[int, int],
    rhs: dict[int, int],
) -> tuple[list[OuterAxis], int]:
    """The row axes of the result, outermost first, and the number of columns."""
    columns, step = 1, 1
    axes: list[OuterAxis] = []
    for label in reversed(_by_storage(op.out, shape)):
        if label not in op.lhs:
            columns *= count(shape[label])
        else:
            axes.append(OuterAxis(shape[label], lhs[label], rhs.get(label, 0), step))
            step *= count(shape[label])
    return axes[::-1], columns


def _walked_axis(axes: list[OuterAxis], enough: int) -> OuterAxis | None:
    """The axis along which tiles step: the innermost, so that they read neighbours, if it gives them `enough` rows."""
    walkable = [axis for axis in axes if axis.rhs_stride == 0]
    if not walkable:
        return None
    innermost = walkable[-1]
    rows = step = count(innermost.extent)
    for axis in walkable:
        if axis.row_step == innermost.row_step * step and isinstance(axis.extent, int):
            rows *= axis.extent
    if isinstance(innermost.extent, BatchExtent) or rows >= enough:
        return innermost
    return max(walkable, key=lambda axis: (isinstance(axis.extent, BatchExtent), count(axis.extent)))


def _merged(axes: list[OuterAxis]) -> list[OuterAxis]:
    """Neighbours that one index can walk become one axis."""
    found: list[OuterAxis] = []
    for axis in axes:
        if found:
            high, n = found[-1], count(axis.extent)
            continued = (axis.lhs_stride * n, axis.rhs_stride * n, axis.row_step * n)
            if (high.lhs_stride, high.rhs_stride, high.row_step) == continued:
                found[-1] = OuterAxis(elements((high.extent, n)), axis.lhs_stride, axis.rhs_stride, axis.row_step)
                continue
        found.append(axis)
    return found
