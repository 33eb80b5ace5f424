"""Ops that move elements, and those whose elements come from no tensor."""

from __future__ import annotations

import numpy as np

from compiler.graph.ir import Node
from compiler.graph.op import Op
from compiler.ops.control import CustomGradient, StopGradient
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.sources import BatchSize, Constant, Iota
from compiler.ops.window import Fold, Window
from compiler.support.arrays import Array
from compiler.to_onnx.elementwise import Translation
from compiler.to_onnx.emitter import Emitter
from compiler.types import BatchExtent, DType, Extent, Shape, numpy_dtype

_TO_THE_FRONT = -(2**31)  # the end of a slice that goes down to element 0


def _constant(e: Emitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, Constant)
    e.keep(node.results[0], e.number(op.value, op.dtype))


def _iota(e: Emitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, Iota)
    extent, behind = op.shape[op.axis], len(op.shape) - op.axis - 1
    shape = (extent, *(1,) * behind)
    if isinstance(extent, int):
        name = e.constant(np.arange(extent).astype(numpy_dtype(op.dtype)).reshape((extent, *(1,) * behind)))
    else:
        end = e.batch()
        if extent.multiple != 1:
            end = e.emit("Mul", end, e.number(extent.multiple, DType.I64))
        positions = e.emit("Range", e.number(0, DType.I64), end, e.number(1, DType.I64))
        name = positions if op.dtype is DType.I64 else e.cast(positions, op.dtype)
        name = e.reshape(name, (extent,), shape)
    e.keep(node.results[0], name, shape)


def _batch_size(e: Emitter, node: Node) -> None:
    e.keep(node.results[0], e.batch())


def _same(e: Emitter, node: Node) -> None:
    held = e.read(node.operands[0])
    e.keep(node.results[0], held.name, held.shape)


def _custom_gradient(e: Emitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, CustomGradient)
    for result, operand in zip(node.results, node.operands[op.inputs :], strict=True):
        held = e.read(operand)
        e.keep(result, held.name, held.shape)


def _broadcast(e: Emitter, node: Node) -> None:
    """No element is repeated here: whoever reads the result broadcasts, or asks for all elements."""
    op, held = node.op, e.read(node.operands[0])
    assert isinstance(op, Broadcast)
    places = op.axes[len(op.axes) - len(held.shape) :]
    if not places:
        e.keep(node.results[0], held.name, held.shape)
        return
    new = [axis for axis in range(places[0], len(op.shape)) if axis not in places]
    extents = dict(zip(places, held.shape, strict=True))
    shape = tuple(extents.get(axis, 1) for axis in range(places[0], len(op.shape)))
    name = e.emit("Unsqueeze", held.name, e.integers([axis - places[0] for axis in new])) if new else held.name
    e.keep(node.results[0], name, shape)


def _reshape(e: Emitter, node: Node) -> None:
    (operand,), (result,) = node.operands, node.results
    held = e.read(operand)
    if not held.shape:
        e.keep(result, held.name, held.shape)
    else:
        e.keep(result, e.reshape(e.full(operand), operand.type.shape, result.type.shape))


def _transpose(e: Emitter, node: Node) -> None:
    op, held = node.op, e.read(node.operands[0])
    assert isinstance(op, Transpose)
    if held.shape:
        held = e.ranked(node.operands[0])
        shape = tuple(held.shape[axis] for axis in op.permutation)
        e.keep(node.results[0], e.transposed(held.name, op.permutation), shape)
    else:
        e.keep(node.results[0], held.name, held.shape)


def _slice(e: Emitter, node: Node) -> None:
    op, (operand,) = node.op, node.operands
    assert isinstance(op, Slice)
    held = e.ranked(operand) if e.read(operand).shape else e.read(operand)
    shape: list[Extent] = list(held.shape)
    starts, ends, axes, steps = list[int](), list[int](), list[int](), list[int]()
    for axis, (start, size, step) in enumerate(zip(op.starts, op.sizes, op.steps, strict=True)):
        if not shape or (shape[axis] == 1 and operand.type.shape[axis] != 1) or operand.type.shape[axis] == size:
            continue  # repeated elements are all the same
        assert isinstance(size, int)
        shape[axis] = size
        starts.append(start)
        ends.append(start + (size - 1) * step + 1 if size else start)
        axes.append(axis)
        steps.append(step)
    name = e.emit("Slice", held.name, *map(e.integers, (starts, ends, axes, steps))) if axes else held.name
    e.keep(node.results[0], name, tuple(shape))


def _reverse(e: Emitter, node: Node) -> None:
    op, held = node.op, e.read(node.operands[0])
    assert isinstance(op, Reverse)
    missing = node.operands[0].type.rank - len(held.shape)
    axes = [axis - missing for axis in op.axes if axis >= missing and held.shape[axis - missing] != 1]
    name = held.name
    if axes:
        whole = ([-1] * len(axes), [_TO_THE_FRONT] * len(axes), axes, [-1] * len(axes))
        name = e.emit("Slice", name, *map(e.integers, whole))
    e.keep(node.results[0], name, held.shape)


def _pad(e: Emitter, node: Node) -> None:
    op, (operand,) = node.op, node.operands
    assert isinstance(op, Pad)
    name = e.full(operand)
    if any(op.low) or any(op.high):
        value = e.constant(np.asarray(op.value).astype(numpy_dtype(operand.type.dtype)))
        widths = e.integers([*op.low, *op.high])
        name = e.moved(operand.type.dtype, (name, value), lambda x, fill: e.emit("Pad", x, widths, fill))
    e.keep(node.results[0], name)


def _concat(e: Emitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, Concat)
    names = [e.full(operand) for operand in node.operands]
    e.keep(node.results[0], e.emit("Concat", *names, axis=op.axis) if len(names) > 1 else names[0])


def _window(e: Emitter, node: Node) -> None:
    """Each axis of windows is gathered as [windows, taps]; the taps then go to the end. Products and maxima of windows
    that ONNX has (`Conv`, `MaxPool`) read the operand instead."""
    op, (operand,) = node.op, node.operands
    assert isinstance(op, Window)
    name, rank = e.full(operand), operand.type.rank
    for axis in sorted(op.axes, reverse=True):  # so that axes before it keep their numbers
        name = e.emit("Gather", name, e.constant(_places(op, op.axes.index(axis), node)), axis=axis)
    taps_at = {axis: axis + 1 + sum(other < axis for other in op.axes) for axis in op.axes}
    kept = [place for place in range(rank + len(op.axes)) if place not in taps_at.values()]
    e.keep(node.results[0], e.transposed(name, [*kept, *(taps_at[axis] for axis in op.axes)]))


def _places(op: Window | Fold, place: int, node: Node) -> Array:
    """[windows, taps]: the elements along an axis that the windows read."""
    windowed = node.results[0] if isinstance(op, Window) else node.operands[0]
    windows = windowed.type.shape[op.axes[place]]
    assert isinstance(windows, int)
    starts = np.arange(windows, dtype=np.int64) * op.strides[place]
    return starts[:, None] + np.arange(op.sizes[place], dtype=np.int64) * op.dilations[place]


def _fold(e: Emitter, node: Node) -> None:
    """Axis by axis, the taps are added to zeros in the places that they were read from."""
    op, (operand,) = node.op, node.operands
    assert isinstance(op, Fold)
    name, shape = e.full(operand), list(operand.type.shape)
    rank = len(shape) - len(op.axes)
    for place in reversed(range(len(op.axes))):
        axis, taps = op.axes[place], rank + place
        order = [k for k in range(len(shape)) if k != taps]
        order.insert(axis + 1, taps)
        before: Shape = tuple(shape[k] for k in order)
        joined: Shape = (*before[:axis], op.sizes[place] * _static(before[axis]), *before[axis + 2 :])
        name = e.reshape(e.transposed(name, order), before, joined)
        shape = [*joined[:axis], op.extents[place], *joined[axis + 1 :]]
        places = _places(op, place, node).reshape(-1)
        name = added(e, name, joined, places, axis, tuple(shape), operand.type.dtype)
    e.keep(node.results[0], name)


def _static(extent: Extent) -> int:
    assert not isinstance(extent, BatchExtent)  # no window slides over the batch
    return extent


def added(e: Emitter, name: str, shape: Shape, places: Array, axis: int, result: Shape, dtype: DType) -> str:
    """Zeros of the shape `result`, to which the elements of `name` are added at constant places along an axis."""
    column = e.constant(places.reshape([-1 if k == axis else 1 for k in range(len(shape))]))
    zeros = e.emit("Expand", e.number(0, dtype), e.extents(result))
    indices = e.emit("Expand", column, e.extents(shape))
    return e.emit("ScatterElements", zeros, indices, name, axis=axis, reduction="add")


MOVEMENT: dict[type[Op], Translation] = {
    Constant: _constant,
    Iota: _iota,
    BatchSize: _batch_size,
    StopGradient: _same,
    CustomGradient: _custom_gradient,
    Broadcast: _broadcast,
    Reshape: _reshape,
    Transpose: _transpose,
    Slice: _slice,
    Reverse: _reverse,
    Pad: _pad,
    Concat: _concat,
    Window: _window,
    Fold: _fold,
}
