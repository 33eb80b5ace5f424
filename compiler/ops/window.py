"""`window`, the sliding windows of which convolution and pooling are made, and its adjoint `fold`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Category, Cotangents, DifferentiableOp, TypeRuleError, Types
from compiler.ops import rules
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import BatchExtent, DType, Extent, Shape, TensorType, at_batch


def window_count(extent: int, size: int, stride: int, dilation: int) -> int:
    """How many windows of `size` taps, `dilation` apart, fit into `extent` when they start `stride` apart."""
    return (extent - dilation * (size - 1) - 1) // stride + 1


@final
@record
class Window(DifferentiableOp):
    """Windows over `axes`: result element (…, o, …, t) is operand element (…, o * stride + t * dilation, …).

    The windows stand in the place of their axis, their taps in axes of their own at the end, in the order of `axes`.
    What is left over at the end of an axis belongs to no window.
    """

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    name = "window"
    category = Category.MOVEMENT

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        (operand,) = rules.expect_operands(self.name, operands, 1)
        rules.expect_axes(self.name, self.axes, operand)
        _expect_numbers(self)
        shape = list(operand.shape)
        for axis, size, stride, dilation in zip(self.axes, self.sizes, self.strides, self.dilations, strict=True):
            extent, span = operand.shape[axis], dilation * (size - 1) + 1
            if isinstance(extent, BatchExtent):
                raise TypeRuleError(f"axis {axis} of {operand} is the batch, over which no window slides")
            if span > extent:
                raise TypeRuleError(f"a window that spans {span} does not fit into axis {axis} of {operand}")
            shape[axis] = window_count(extent, size, stride, dilation)
        return (TensorType(operand.dtype, (*shape, *self.sizes)),)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        shape = node.operands[0].type.shape
        extents = tuple(extent for axis in self.axes if isinstance(extent := shape[axis], int))
        return (builder.emit(Fold(self.axes, self.sizes, self.strides, self.dilations, extents), cotangent),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (windows_of(self, operands[0]),)


@final
@record
class Fold(DifferentiableOp):
    """The adjoint of `window`: every tap is added to the element that it was read from, of `extents` along `axes`."""

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    extents: tuple[int, ...]
    name = "fold"
    category = Category.INDEXING

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        (operand,) = rules.expect_operands(self.name, operands, 1)
        rules.expect_dtype(self.name, operand, (*rules.FLOATS, DType.I32, DType.I64))
        rules.expect_axes(self.name, self.axes, operand)
        _expect_numbers(self)
        if len(self.extents) != len(self.axes):
            raise TypeRuleError(f"fold needs an extent for each of its axes {list(self.axes)}")
        folded = TensorType(operand.dtype, self.folded(operand.shape))
        try:
            (windows,) = Window(self.axes, self.sizes, self.strides, self.dilations).result_types((folded,))
        except TypeRuleError:
            windows = None
        if windows != operand:
            raise TypeRuleError(f"fold: {operand} does not hold the windows of {folded}")
        return (folded,)

    def folded(self, shape: Shape) -> Shape:
        """The shape of the result, from that of the operand."""
        extents = dict(zip(self.axes, self.extents, strict=True))
        kept = shape[: len(shape) - len(self.axes)]
        return tuple(extents.get(axis, extent) for axis, extent in enumerate(kept))

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        return (builder.emit(Window(self.axes, self.sizes, self.strides, self.dilations), cotangent),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        (windows,) = operands
        wide = np.float64 if windows.dtype.kind == "f" else windows.dtype
        result: Array = np.zeros(at_batch(self.folded(windows.shape), batch), wide)
        places = windows_of(self, result, writeable=True)
        for tap in np.ndindex(*self.sizes):  # the windows at one tap do not overlap
            places[(..., *tap)] += windows[(..., *tap)]
        return (result.astype(windows.dtype),)


def windows_of(op: Window | Fold, x: Array, writeable: bool = False) -> Array:
    """The windows of an array as a view of it."""
    spans = tuple(dilation * (size - 1) + 1 for size, dilation in zip(op.sizes, op.dilations, strict=True))
    dense = np.lib.stride_tricks.sliding_window_view(x, spans, op.axes, writeable=writeable)  # pyright: ignore[reportCallIssue, reportArgumentType]
    strides = dict(zip(op.axes, op.strides, strict=True))
    starts = tuple(slice(None, None, strides.get(axis)) for axis in range(x.ndim))
    return dense[(*starts, *(slice(None, None, dilation) for dilation in op.dilations))]


def _expect_numbers(op: Window | Fold) -> None:
    if not len(op.axes) == len(op.sizes) == len(op.strides) == len(op.dilations):
        raise TypeRuleError(f"{op.name} needs a size, a stride and a dilation for each of its axes {list(op.axes)}")
    if min((*op.sizes, *op.strides, *op.dilations), default=1) < 1:
        raise TypeRuleError(f"the sizes, strides and dilations of {op.name} start at 1")


@record
class Tap:
    """Element `p * stride + residue` was read by window `p + shift` at this tap."""

    number: int
    shift: int


@record
class FoldedAxis:
    """A folded axis: the elements of a residue class, the taps of each class, and the zeros that their slices need.

    Positions of one residue modulo the stride are alike: they were read by windows at the same taps.
    """

    axis: int
    positions: int
    classes: tuple[tuple[Tap, ...], ...]
    low: int
    high: int

    @property
    def stride(self) -> int:
        return len(self.classes)

    def start(self, tap: Tap) -> int:
        """Where the windows of a class begin, with `low` zeros before the first window."""
        return self.low + tap.shift


def folded_axes(op: Fold, shape: tuple[Extent, ...]) -> tuple[FoldedAxis, ...]:
    """The axes of a fold of a tensor of that shape, in the order of `op.axes`."""
    return tuple(_folded_axis(op, place, shape[axis]) for place, axis in enumerate(op.axes))


def _folded_axis(op: Fold, place: int, windows: Extent) -> FoldedAxis:
    assert isinstance(windows, int)
    stride, dilation = op.strides[place], op.dilations[place]
    positions = -(-op.extents[place] // stride)
    classes: list[list[Tap]] = [[] for _ in range(stride)]
    for number in range(op.sizes[place]):
        residue = number * dilation % stride
        classes[residue].append(Tap(number, (residue - number * dilation) // stride))
    shifts = [tap.shift for taps in classes for tap in taps]
    low, high = max(0, -min(shifts)), max(0, positions + max(shifts) - windows)
    return FoldedAxis(op.axes[place], positions, tuple(map(tuple, classes)), low, high)
