"""Ops that combine elements along axes, and those whose places come from a tensor of indices."""

from __future__ import annotations

import math

import numpy as np

from compiler.graph.ir import Node, Value
from compiler.graph.op import Op
from compiler.ops.indexing import Gather, Put, ScatterAdd
from compiler.ops.movement import Pad, Reshape
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments, Sum
from compiler.ops.window import Window
from compiler.to_onnx.elementwise import Translation, chosen
from compiler.to_onnx.emitter import Emitter
from compiler.types import DType, Extent, Shape, elements


def _sum(e: Emitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, Sum)
    name = e.full(node.operands[0])
    e.keep(node.results[0], e.reduced("ReduceSum", name, op.axes) if op.axes else name)


def _extreme(e: Emitter, node: Node) -> None:
    op, (operand,) = node.op, node.operands
    assert isinstance(op, (Max, Min))
    operator = "ReduceMax" if isinstance(op, Max) else "ReduceMin"
    if not op.axes:
        e.keep(node.results[0], e.full(operand))
        return
    pooled = _pooled(e, node)
    if pooled is not None:
        e.keep(node.results[0], pooled)
        return
    name, dtype = e.full(operand), operand.type.dtype
    found = e.reduced(operator, name, op.axes)
    if dtype.is_float:  # ONNX leaves open whether an extreme of NaN is NaN, and ONNX Runtime passes over it
        is_nan = e.reduced("ReduceMax", e.cast(e.emit("IsNaN", name), DType.U8), op.axes)
        found = _unless_nan(e, is_nan, found, dtype)
    e.keep(node.results[0], found)


def _unless_nan(e: Emitter, is_nan: str, found: str, dtype: DType) -> str:
    return e.emit("Where", e.cast(is_nan, DType.BOOL), e.number(math.nan, dtype), found)


def _pooled(e: Emitter, node: Node) -> str | None:
    """The largest taps of windows over one to three trailing axes, behind others, as `MaxPool`."""
    op, (operand,) = node.op, node.operands
    maker = e.maker(operand)
    if maker is not None and isinstance(maker.op, Reshape):  # the taps as one axis
        maker = e.maker(maker.operands[0])
    if not isinstance(op, Max) or maker is None or not isinstance(window := maker.op, Window):
        return None
    x, dtype, count = maker.operands[0], operand.type.dtype, len(window.axes)
    others = x.type.rank - count
    is_of_taps = op.axes == tuple(range(x.type.rank, operand.type.rank))
    is_split = operand.type.shape[: x.type.rank] == maker.results[0].type.shape[: x.type.rank]
    if not (is_of_taps and is_split) or window.axes != tuple(range(others, x.type.rank)) or count > 3 or not others:
        return None
    if dtype not in (DType.F32, DType.F64) or 0 in x.type.shape:
        return None
    x, pads = _unpadded(e, x, window)
    lines = _two_leading(x.type.shape[:others])
    image = e.reshape(e.full(x), x.type.shape, (*lines, *x.type.shape[others:]))
    shape: Shape = (*lines, *operand.type.shape[others : x.type.rank])
    attributes = {"kernel_shape": window.sizes, "strides": window.strides, "dilations": window.dilations, "pads": pads}
    found = e.emit("MaxPool", image, **attributes)
    is_nan = e.emit("MaxPool", e.cast(e.emit("IsNaN", image), DType.F32), **attributes)
    return e.reshape(_unless_nan(e, is_nan, found, dtype), shape, node.results[0].type.shape)


def _two_leading(shape: Shape) -> Shape:
    """A shape of the same elements with two axes, samples and channels."""
    return shape if len(shape) == 2 else (elements(shape[:-1]), shape[-1])


def _unpadded(e: Emitter, x: Value, window: Window) -> tuple[Value, list[int] | None]:
    """The image inside of a frame of -inf along the axes of windows, which `MaxPool` adds itself, and its widths."""
    maker = e.maker(x)
    if maker is None or not isinstance(pad := maker.op, Pad) or pad.value != -math.inf:
        return x, None
    if any(low or high for k, (low, high) in enumerate(zip(pad.low, pad.high, strict=True)) if k not in window.axes):
        return x, None
    low, high = ([widths[axis] for axis in window.axes] for widths in (pad.low, pad.high))
    if any(width >= size for widths in (low, high) for width, size in zip(widths, window.sizes, strict=True)):
        return x, None
    return maker.operands[0], [*low, *high]


def _argmax(e: Emitter, node: Node) -> None:
    op, (operand,) = node.op, node.operands
    assert isinstance(op, ArgMax)
    name, axis = e.full(operand), op.axis
    found = e.emit("ArgMax", name, axis=axis, keepdims=0)
    if operand.type.dtype.is_float:  # the first NaN, where there is one
        is_nan = e.cast(e.emit("IsNaN", name), DType.U8)
        any_nan = e.cast(e.reduced("ReduceMax", is_nan, (axis,)), DType.BOOL)
        found = e.emit("Where", any_nan, e.emit("ArgMax", is_nan, axis=axis, keepdims=0), found)
    e.keep(node.results[0], e.cast(found, DType.I32))


def _cumulative_sum(e: Emitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, CumulativeSum)
    axis = e.number(op.axis, DType.I64)
    e.keep(node.results[0], e.emit("CumSum", e.full(node.operands[0]), axis, reverse=int(op.reverse)))


def _moments(e: Emitter, node: Node) -> None:
    op, name = node.op, e.full(node.operands[0])
    assert isinstance(op, Moments)
    mean = e.reduced("ReduceMean", name, op.axes, keeps=True)
    distance = e.emit("Sub", name, mean)
    e.keep(node.results[0], e.emit("Squeeze", mean, e.integers(op.axes)))
    e.keep(node.results[1], e.reduced("ReduceMean", e.emit("Mul", distance, distance), op.axes))


def _index(e: Emitter, indices: Value, extent: Extent) -> str:
    """Indices of i64 in 0 <= i < extent: those out of range become the nearest in it."""
    assert isinstance(extent, int)
    name = e.full(indices)
    name = name if indices.type.dtype is DType.I64 else e.cast(name, DType.I64)
    return e.emit("Min", e.emit("Max", name, e.number(0, DType.I64)), e.number(extent - 1, DType.I64))


def _gather(e: Emitter, node: Node) -> None:
    op, (x, indices) = node.op, node.operands
    assert isinstance(op, Gather)
    places = _index(e, indices, x.type.shape[op.axis])
    if not op.by_row:
        e.keep(node.results[0], e.emit("Gather", e.full(x), places, axis=op.axis))
        return
    rows, *before = x.type.shape[: op.axis]
    extent, behind = x.type.shape[op.axis], elements(x.type.shape[op.axis + 1 :])
    count, lines = elements(indices.type.shape[1:]), elements(tuple(before))
    image = e.reshape(e.full(x), x.type.shape, (rows, lines, extent, behind))
    column = e.reshape(places, indices.type.shape, (rows, 1, count, 1))
    wanted: Shape = (rows, lines, count, behind)
    found = e.emit("GatherElements", image, e.emit("Expand", column, e.extents(wanted)), axis=2)
    e.keep(node.results[0], e.reshape(found, wanted, node.results[0].type.shape))


def _scatter_add(e: Emitter, node: Node) -> None:
    op, (indices, updates) = node.op, node.operands
    assert isinstance(op, ScatterAdd)
    end = op.axis + indices.type.rank - op.by_row
    shape = updates.type.shape
    rows: Shape = shape[:1] if op.by_row else (1,)
    lines, behind = elements(shape[op.by_row : op.axis]), elements(shape[end:])
    count = elements(indices.type.shape[op.by_row :])
    wanted: Shape = (*rows, lines, count, behind)
    column = e.reshape(_index(e, indices, op.extent), indices.type.shape, (*rows, 1, count, 1))
    zeros = e.emit("Expand", e.number(0, updates.type.dtype), e.extents((*rows, lines, op.extent, behind)))
    places = e.emit("Expand", column, e.extents(wanted))
    values = e.reshape(e.full(updates), shape, wanted)
    found = e.emit("ScatterElements", zeros, places, values, axis=2, reduction="add")
    e.keep(node.results[0], e.reshape(found, (*rows, lines, op.extent, behind), node.results[0].type.shape))


def _put(e: Emitter, node: Node) -> None:
    op, (x, part, index) = node.op, node.operands
    assert isinstance(op, Put)
    extent = x.type.shape[op.axis]
    assert isinstance(extent, int)
    places = np.arange(extent, dtype=np.int64).reshape((-1, *(1,) * (x.type.rank - op.axis - 1)))
    is_there = e.emit("Equal", e.constant(places), _index(e, index, extent))
    e.keep(node.results[0], chosen(e, is_there, e.full(part), e.full(x), x.type.dtype))


REDUCTION: dict[type[Op], Translation] = {
    Sum: _sum,
    Max: _extreme,
    Min: _extreme,
    ArgMax: _argmax,
    CumulativeSum: _cumulative_sum,
    Moments: _moments,
    Gather: _gather,
    ScatterAdd: _scatter_add,
    Put: _put,
}
