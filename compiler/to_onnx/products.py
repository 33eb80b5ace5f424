"""Contractions: as `Conv` where one operand is windows of an image, else as `MatMul`."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.graph.ir import Node, Value
from compiler.ops.contraction import Contraction, Labels
from compiler.ops.movement import Pad
from compiler.ops.window import Window
from compiler.support.record import record
from compiler.to_onnx.emitter import Emitter, NotInOnnxError
from compiler.types import BatchExtent, DType, Extent, Shape, elements, is_of_pairs

_MOST_SPATIAL_AXES = 3  # of the convolutions of ONNX Runtime


@record
class Operand:
    """An operand with the labels of its axes."""

    value: Value
    labels: Labels

    def arranged(self, e: Emitter, *groups: Sequence[int], apart: int = 0) -> str:
        """The operand with its axes in the order of the groups; of those behind the first `apart`, each is one axis."""
        shape = dict(zip(self.labels, self.value.type.shape, strict=True))
        order = [label for group in groups for label in group]
        name = e.transposed(e.full(self.value), [self.labels.index(label) for label in order])
        before = tuple(shape[label] for label in order)
        kept = [shape[label] for group in groups[:apart] for label in group]
        joined = [_joined(tuple(shape[label] for label in group)) for group in groups[apart:]]
        return e.reshape(name, before, (*kept, *joined))


def contraction(e: Emitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, Contraction)
    left, right = Operand(node.operands[0], op.lhs), Operand(node.operands[1], op.rhs)
    for one, other in ((left, right), (right, left)):
        convolution = _convolution(e, one, other, op.out)
        if convolution is not None:
            e.keep(node.results[0], convolution.emitted(e, node.results[0].type.shape))
            return
    e.keep(node.results[0], _matmul(e, left, right, op.out, node.results[0].type.shape))


def _matmul(e: Emitter, left: Operand, right: Operand, out: Labels, shape: Shape) -> str:
    """As a stack of matrix products: [shared, left, summed] @ [shared, summed, right]."""
    shared = [label for label in out if label in left.labels and label in right.labels]
    own = [label for label in out if label not in shared]
    if own and own[0] in right.labels:  # the rows of the result are those of the right operand
        left, right = right, left
    summed = [label for label in left.labels if label not in out]
    rows = [label for label in own if label in left.labels]
    columns = [label for label in own if label in right.labels]
    extents = dict(zip((*left.labels, *right.labels), (*left.value.type.shape, *right.value.type.shape), strict=True))
    image = _image_product(e, left, right, out, summed) if not shared else None
    if image is not None:
        return image
    # A matrix on the right meets all axes of rows.
    first = left.arranged(e, *([shared] if shared else []), rows, summed, apart=1)
    second = right.arranged(e, shared, summed, columns, apart=1)
    product = e.emit("MatMul", first, second)
    found = [*shared, *rows, *columns]
    row_axes = [_joined(tuple(extents[label] for label in rows))] if shared else [extents[label] for label in rows]
    given = (*(extents[label] for label in shared), *row_axes, _joined(tuple(extents[label] for label in columns)))
    product = e.reshape(product, given, tuple(extents[label] for label in found))
    return e.transposed(product, [found.index(label) for label in out])


def _image_product(e: Emitter, left: Operand, right: Operand, out: Labels, summed: Sequence[int]) -> str | None:
    """[first, summed, last] @ [summed, columns] to [first, columns, last], as products from the left: no axis moves."""
    if len(summed) != 1 or len(right.labels) != 2:
        return None
    place = left.labels.index(summed[0])
    (column,) = (label for label in right.labels if label not in summed)
    last = left.labels[place + 1 :]
    if not last or out != (*left.labels[:place], column, *last):
        return None
    shape = left.value.type.shape
    first = shape[:place]
    lines: Shape = (*first, shape[place], elements(shape[place + 1 :]))
    product = e.emit(
        "MatMul", right.arranged(e, [column], summed, apart=2), e.reshape(e.full(left.value), shape, lines)
    )
    columns = right.value.type.shape[right.labels.index(column)]
    return e.reshape(product, (*first, columns, lines[-1]), (*first, columns, *shape[place + 1 :]))


@record
class _SpatialAxis:
    """An axis of windows: the label over which the kernel goes, and that of the result's axis."""

    image: int  # the image's axis
    kernel: int
    result: int
    stride: int
    dilation: int
    extent: int  # of the result


@record
class _Convolution:
    """samples and channels are labels of the image; kernels, of the weights; groups, of both and the result."""

    image: Operand
    weights: Operand
    out: Labels
    axes: tuple[_SpatialAxis, ...]
    groups: tuple[int, ...]
    samples: tuple[int, ...]
    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    pads: tuple[int, ...]

    def emitted(self, e: Emitter, shape: Shape) -> str:
        spatial = [self.image.labels[axis.image] for axis in self.axes]
        image = self.image.arranged(e, self.samples, [*self.groups, *self.channels], *([k] for k in spatial))
        over = [[axis.kernel] for axis in self.axes]
        weights = self.weights.arranged(e, [*self.groups, *self.kernels], self.channels, *over)
        extents = dict(zip(self.out, shape, strict=True))
        found = e.emit(
            "Conv",
            image,
            weights,
            strides=[axis.stride for axis in self.axes],
            dilations=[axis.dilation for axis in self.axes],
            group=_count(extents, self.groups),
            pads=list(self.pads) if any(self.pads) else None,
        )
        ends = [axis.extent for axis in self.axes]
        if any(self._made(axis, k) > axis.extent for k, axis in enumerate(self.axes)):
            places = list(range(2, 2 + len(self.axes)))
            found = e.emit("Slice", found, *map(e.integers, ([0] * len(ends), ends, places)))
        order = [*self.samples, *self.groups, *self.kernels, *(axis.result for axis in self.axes)]
        samples, channels = (
            elements(tuple(extents[label] for label in labels))
            for labels in (self.samples, (*self.groups, *self.kernels))
        )
        found = e.reshape(found, (samples, channels, *ends), tuple(extents[label] for label in order))
        return e.transposed(found, [order.index(label) for label in self.out])

    def _made(self, axis: _SpatialAxis, place: int) -> int:
        """How many results `Conv` gives along an axis: taps that are strided may have a last one too many."""
        count, image = self.weights.value.type.shape, self.image.value.type.shape[axis.image]
        kernel = count[self.weights.labels.index(axis.kernel)]
        assert isinstance(kernel, int)
        assert isinstance(image, int)
        padded = image + (self.pads[place] + self.pads[place + len(self.axes)] if self.pads else 0)
        return (padded - axis.dilation * (kernel - 1) - 1) // axis.stride + 1


def _joined(extents: Shape) -> Extent:
    """The extent of several axes as one."""
    if is_of_pairs(extents):
        raise NotInOnnxError("it would join two axes of the batch")
    return elements(extents)


def _count(extents: dict[int, Extent], labels: Sequence[int]) -> int:
    count = elements(tuple(extents[label] for label in labels))
    assert isinstance(count, int)
    return count


def _convolution(e: Emitter, windows: Operand, weights: Operand, out: Labels) -> _Convolution | None:
    """A product that sums, along each axis of windows, over their taps or over their places.

    Over the taps, it is a convolution; over the places, the gradient of its weights, which is a convolution too: of the
    cotangent over the image, with stride and dilation in each other's place.
    """
    maker = e.maker(windows.value)
    if maker is None or not isinstance(op := maker.op, Window) or windows.value.type.dtype is not DType.F32:
        return None
    rank = len(windows.labels) - len(op.axes)
    axes = [_spatial_axis(op, k, windows, weights, out) for k in range(len(op.axes))]
    found = tuple(axis for axis in axes if axis is not None)
    is_whole = 0 < len(axes) == len(found) <= _MOST_SPATIAL_AXES
    if not is_whole or 0 in windows.value.type.shape or 0 in weights.value.type.shape:
        return None
    used = {axis.kernel for axis in found} | {axis.result for axis in found}
    own = [label for label in windows.labels[:rank] if label not in used]
    groups = tuple(label for label in own if label in weights.labels and label in out)
    extents = dict(zip(windows.labels, windows.value.type.shape, strict=True))
    if any(isinstance(extents[label], BatchExtent) for label in groups):
        return None
    x, pads = _unpadded(e, maker.operands[0], op)
    return _Convolution(
        Operand(x, windows.labels[:rank]),
        weights,
        out,
        found,
        groups,
        samples=tuple(label for label in own if label in out and label not in groups),
        channels=tuple(label for label in own if label not in out),
        kernels=tuple(label for label in weights.labels if label in out and label not in (*groups, *used)),
        pads=pads,
    )


def _spatial_axis(op: Window, k: int, windows: Operand, weights: Operand, out: Labels) -> _SpatialAxis | None:
    axis = op.axes[k]
    place, tap = windows.labels[axis], windows.labels[len(windows.labels) - len(op.axes) + k]
    for kernel, result in ((tap, place), (place, tap)):
        if kernel in weights.labels and kernel not in out and result in out and result not in weights.labels:
            stride, dilation = op.strides[k], op.dilations[k]
            if kernel == place:
                stride, dilation = dilation, stride
            extent = dict(zip(windows.labels, windows.value.type.shape, strict=True))[result]
            return _SpatialAxis(axis, kernel, result, stride, dilation, extent) if isinstance(extent, int) else None
    return None


def _unpadded(e: Emitter, x: Value, op: Window) -> tuple[Value, tuple[int, ...]]:
    """The image inside of a frame of zeros along the axes of windows, and the frame's widths."""
    maker = e.maker(x)
    if maker is None or not isinstance(pad := maker.op, Pad) or pad.value != 0:
        return x, ()
    if any(low or high for k, (low, high) in enumerate(zip(pad.low, pad.high, strict=True)) if k not in op.axes):
        return x, ()
    return maker.operands[0], (*(pad.low[axis] for axis in op.axes), *(pad.high[axis] for axis in op.axes))
