"""Rows that no stride finds, by computed index: the batch reversed or fitted, and reshapes across it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Value
from compiler.ops import elementwise
from compiler.ops.build import filled, spread
from compiler.ops.movement import Reshape, Transpose
from compiler.ops.sources import BatchSize, Constant, Iota
from compiler.schedule.addresses import VIEWS, count, storage_order, storage_strides
from compiler.schedule.numerics.internal_ops import Copy, Pick
from compiler.types import BatchExtent, DType, Extent, Shape, TensorType, elements

SOURCES = (Constant, Iota, BatchSize)


def reversed_batch(builder: GraphBuilder, value: Value, axes: Sequence[int]) -> Value:
    """The batch axis is reversed by computed index: no stride could say it."""
    shape = value.type.shape
    indices: list[Value] = []
    for axis, extent in enumerate(shape):
        index = builder.emit(Iota(shape, axis, DType.I64))
        if axis in axes:
            last = builder.emit(elementwise.Subtract(), _extent(builder, [extent], shape), _whole(builder, 1, shape))
            index = builder.emit(elementwise.Subtract(), last, index)
        indices.append(index)
    return _by_index(builder, value, shape, indices)


def fitted(builder: GraphBuilder, value: Value, axis: int, extent: Extent, result: Shape) -> Value:
    """The first rows along an axis, by computed index: no stride could say where a batch ends."""
    before = value.type.shape[axis]
    indices = [builder.emit(Iota(result, place, DType.I64)) for place in range(len(result))]
    last = builder.emit(elementwise.Subtract(), _extent(builder, [before], result), _whole(builder, 1, result))
    last = builder.emit(elementwise.Maximum(), last, _whole(builder, 0, result))
    position, indices[axis] = indices[axis], builder.emit(elementwise.Minimum(), indices[axis], last)
    found = _by_index(builder, table(builder, value), result, indices)
    if isinstance(extent, BatchExtent):
        return found
    is_there = builder.emit(elementwise.Less(), position, _extent(builder, [before], result))
    return builder.emit(elementwise.Where(), is_there, found, filled(builder, 0, found.type))


def reshaped(builder: GraphBuilder, value: Value, result: Shape) -> Value:
    """A reshape whose strides would depend on the batch, by computed index."""
    shape = value.type.shape
    linear = _whole(builder, 0, result)
    for axis in range(len(result)):
        index = builder.emit(Iota(result, axis, DType.I64))
        scaled = builder.emit(elementwise.Multiply(), index, _extent(builder, result[axis + 1 :], result))
        linear = builder.emit(elementwise.Add(), linear, scaled)
    indices: list[Value] = []
    for axis, extent in enumerate(shape):
        inner = builder.emit(elementwise.FloorDivide(), linear, _extent(builder, shape[axis + 1 :], result))
        indices.append(builder.emit(elementwise.Modulo(), inner, _extent(builder, [extent], result)))
    return _by_index(builder, value, result, indices)


def _by_index(builder: GraphBuilder, value: Value, result: Shape, indices: Sequence[Value]) -> Value:
    """The elements of `value` at computed `indices`, one for each of its axes, each of shape `result`."""
    shape = value.type.shape
    order = storage_order(shape)
    flat = builder.emit(Reshape((elements(shape),)), builder.emit(Transpose(order), dense(builder, value)))
    place = _whole(builder, 0, result)
    for axis, stride in enumerate(storage_strides(shape)):
        scaled = builder.emit(elementwise.Multiply(), indices[axis], _whole(builder, stride, result))
        place = builder.emit(elementwise.Add(), place, scaled)
    return builder.emit(Pick(), flat, place)


def _whole(builder: GraphBuilder, number: int, shape: Shape) -> Value:
    """An integer, repeated to `shape`."""
    return filled(builder, number, TensorType(DType.I64, shape))


def _extent(builder: GraphBuilder, extents: Sequence[Extent], shape: Shape) -> Value:
    """The product of extents at run time, repeated to `shape`."""
    return size_of(builder, extents, TensorType(DType.I64, shape))


def size_of(builder: GraphBuilder, extents: Sequence[Extent], like: TensorType) -> Value:
    """The product of extents at run time, as a tensor of the type `like`."""
    size = builder.emit(Constant(math.prod(count(e) for e in extents), like.dtype))
    if any(isinstance(e, BatchExtent) for e in extents):
        batch = builder.emit(BatchSize())
        batch = batch if like.dtype is DType.I64 else builder.emit(elementwise.Cast(like.dtype), batch)
        size = builder.emit(elementwise.Multiply(), size, batch)
    return spread(builder, size, like.shape)


def dense(builder: GraphBuilder, value: Value) -> Value:
    """The value itself, or a dense copy of a view."""
    node = builder.definition(value)
    return builder.emit(Copy(), value) if node is not None and isinstance(node.op, VIEWS) else value


def table(builder: GraphBuilder, value: Value) -> Value:
    """As `dense`; what each reader computes for itself is copied too, since a table is read at any place."""
    node = builder.definition(value)
    return builder.emit(Copy(), value) if node is not None and isinstance(node.op, SOURCES) else dense(builder, value)
