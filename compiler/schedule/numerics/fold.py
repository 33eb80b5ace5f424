"""`fold` as a gather: every element of the result adds the taps that were read from it, in the order of the taps.

Positions along a folded axis fall into residue classes modulo the stride. Those of one class are hit by the same taps,
each at a fixed distance, so a class is a sum of shifted slices; the classes are then interleaved.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Protocol

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Value
from compiler.graph.op import Op
from compiler.ops.elementwise import Add
from compiler.ops.movement import Broadcast, Pad, Reshape, Slice, Transpose
from compiler.ops.sources import Constant
from compiler.ops.window import Fold, FoldedAxis, folded_axes
from compiler.schedule.numerics.internal_ops import Empty, Insert
from compiler.support.record import mutable_record
from compiler.types import Shape, TensorType


class EmitRewritten(Protocol):
    """Adds an op of the language, rewritten like any other."""

    def __call__(self, op: Op, *operands: Value) -> Value: ...


def folded(emit: EmitRewritten, builder: GraphBuilder, op: Fold, windows: Value) -> Value:
    return _Folding(emit, builder, op).run(windows)


@mutable_record
class _Folding:
    emit: EmitRewritten
    builder: GraphBuilder
    op: Fold

    def run(self, windows: Value) -> Value:
        op, rank = self.op, windows.type.rank - len(self.op.axes)
        if all(d == 1 and size <= stride for size, stride, d in zip(op.sizes, op.strides, op.dilations, strict=True)):
            return self.cut(self.side_by_side(windows, rank))
        axes = folded_axes(op, windows.type.shape)
        taps_first = self.emit(Transpose((*range(rank, windows.type.rank), *range(rank))), windows)
        padded = self.padded(taps_first, axes)
        residues = list(product(*(range(axis.stride) for axis in axes)))
        pieces = [self.summed(padded, axes, residue) for residue in residues]
        return pieces[0] if len(pieces) == 1 else self.cut(self.interleaved(pieces, residues, axes))

    def side_by_side(self, windows: Value, rank: int) -> Value:
        """Windows that do not overlap only move: each has its taps in its own place."""
        op = self.op
        gaps = tuple(stride - size for size, stride in zip(op.sizes, op.strides, strict=True))
        if any(gaps):
            windows = self.emit(Pad((0,) * windows.type.rank, (*(0,) * rank, *gaps), 0.0), windows)
        order: list[int] = []
        for axis in range(rank):
            order.extend((axis, rank + op.axes.index(axis)) if axis in op.axes else (axis,))
        strides = dict(zip(op.axes, op.strides, strict=True))
        return self.joined(self.emit(Transpose(tuple(order)), windows), windows.type.shape[:rank], strides)

    def joined(self, value: Value, shape: Shape, strides: dict[int, int]) -> Value:
        """Each axis of `strides` becomes one with the axis of that extent that follows it."""
        whole = tuple(e * strides.get(i, 1) if isinstance(e, int) else e for i, e in enumerate(shape))
        return self.emit(Reshape(whole), value)

    def cut(self, value: Value) -> Value:
        """The first `extents` elements along the folded axes; zeros where there are fewer."""
        sizes, missing = list(value.type.shape), [0] * value.type.rank
        for axis, extent in zip(self.op.axes, self.op.extents, strict=True):
            whole = value.type.shape[axis]
            assert isinstance(whole, int)
            sizes[axis], missing[axis] = min(extent, whole), max(0, extent - whole)
        if tuple(sizes) != value.type.shape:
            value = self.emit(Slice((0,) * len(sizes), tuple(sizes), (1,) * len(sizes)), value)
        return self.emit(Pad((0,) * len(missing), tuple(missing), 0.0), value) if any(missing) else value

    def padded(self, windows: Value, axes: Sequence[FoldedAxis]) -> Value:
        """Zeros around the windows, so that every shifted slice lies inside."""
        low, high = [0] * windows.type.rank, [0] * windows.type.rank
        for axis in axes:
            low[len(axes) + axis.axis], high[len(axes) + axis.axis] = axis.low, axis.high
        return self.emit(Pad(tuple(low), tuple(high), 0.0), windows) if any((*low, *high)) else windows

    def summed(self, padded: Value, axes: Sequence[FoldedAxis], residues: Sequence[int]) -> Value:
        """The elements of one residue class."""
        positions = {axis.axis: axis.positions for axis in axes}
        shape = tuple(positions.get(i, extent) for i, extent in enumerate(padded.type.shape[len(axes) :]))
        total: Value | None = None
        for taps in product(*(axis.classes[residue] for axis, residue in zip(axes, residues, strict=True))):
            starts = [*(tap.number for tap in taps), *(0 for _ in shape)]
            for axis, tap in zip(axes, taps, strict=True):
                starts[len(axes) + axis.axis] = axis.start(tap)
            sizes = (*(1 for _ in taps), *shape)
            piece = self.emit(Reshape(shape), self.emit(Slice(tuple(starts), sizes, (1,) * len(sizes)), padded))
            total = piece if total is None else self.emit(Add(), total, piece)
        return self.zeros(TensorType(padded.type.dtype, shape)) if total is None else total

    def zeros(self, type_: TensorType) -> Value:
        zero = self.emit(Constant(0.0 if type_.dtype.is_float else 0, type_.dtype))
        return self.emit(Broadcast(type_.shape, ()), zero)

    def interleaved(
        self, pieces: Sequence[Value], residues: Sequence[tuple[int, ...]], axes: Sequence[FoldedAxis]
    ) -> Value:
        """Element `p * stride + residue` of each folded axis from element p of the piece of that residue."""
        shape, dtype = pieces[0].type.shape, pieces[0].type.dtype
        strides = {axis.axis: axis.stride for axis in axes}
        apart, part = _split(shape, strides), _split(shape, dict.fromkeys(strides, 1))
        result = self.builder.emit(Empty(TensorType(dtype, apart)))
        for piece, residue in zip(pieces, residues, strict=True):
            place = {axis.axis: r for axis, r in zip(axes, residue, strict=True)}
            starts = tuple(s for i in range(len(shape)) for s in ((0, place[i]) if i in place else (0,)))
            result = self.builder.emit(Insert(starts), result, self.emit(Reshape(part), piece))
        return self.joined(result, shape, strides)


def _split(shape: Shape, inner: dict[int, int]) -> Shape:
    """`shape` with an axis of extent `inner[i]` behind axis i."""
    return tuple(e for i, extent in enumerate(shape) for e in ((extent, inner[i]) if i in inner else (extent,)))
