"""Built-in functions of which convolution and pooling are made: `windows`, and its adjoint `overlap_add`."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import hint
from compiler.frontend.axes import Axis
from compiler.frontend.builtins.table import AxisValue, built_in
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.tensors.operators import computable
from compiler.frontend.tensors.shapes import origin_notes, resolve_axis, shown, shown_axis, whole_dimension
from compiler.frontend.values import TensorValue, TupleValue, Value
from compiler.graph import ir
from compiler.ops.movement import Transpose
from compiler.ops.window import Fold, Window, window_count
from compiler.support.record import record
from compiler.types import BatchExtent, Shape, TensorType


@record
class _Sliding:
    """A window along one axis."""

    axis: int
    size: int
    stride: int
    dilation: int

    @property
    def span(self) -> int:
        return self.dilation * (self.size - 1) + 1


def _windows(
    elaborator: Elaborator, x: TensorValue, size: Value, stride: Value = 1, dilation: Value = 1, *, axis: AxisValue = -1
) -> Value:
    """Sliding windows of `size` elements, `dilation` apart, that start `stride` apart; their elements are a new last
    axis. With a list for `axis`, windows over several axes.
    """
    axes = [resolve_axis(elaborator, x, axis) for axis in _items(axis)]
    sizes = _numbers(elaborator, size, len(axes), "the size of a window")
    given = _sliding(elaborator, x, axes, sizes, (stride, dilation))
    ordered = sorted(given, key=lambda one: one.axis)
    for one in ordered:
        _expect_room(elaborator, x, one)
    value = elaborator.emit(Window(*_fields(ordered)), x.value)
    places = (*range(x.rank), *(x.rank + ordered.index(one) for one in given))
    new = (Axis(origin=elaborator.here) for _ in axes)
    return TensorValue(_moved(elaborator, value, places), (*_without_names(elaborator, x.axes, axes), *new))


def _overlap_add(
    elaborator: Elaborator,
    x: TensorValue,
    stride: Value = 1,
    dilation: Value = 1,
    *,
    extent: Value = None,
    axis: AxisValue = -1,
) -> Value:
    """The sum of windows where they overlap, which undoes the shape of `windows`: `axis` holds the windows, the last
    axis their elements; `extent` is how long the result is, if longer than the windows reach.
    """
    x, items = computable(elaborator, x), _items(axis)
    rank = x.rank - len(items)
    if rank < 1:
        elaborator.fail("E0406", f"`overlap_add` of {shown(elaborator, x)}: the last axis holds the taps of windows")
    kept = TensorValue(ir.Value(-1, TensorType(x.dtype, x.shape[:rank])), x.axes[:rank])
    axes = [resolve_axis(elaborator, kept, axis) for axis in items]
    sizes = [_static(elaborator, x, axis) for axis in range(rank, x.rank)]
    given = _sliding(elaborator, kept, axes, sizes, (stride, dilation))
    least = [(_static(elaborator, x, one.axis) - 1) * one.stride + one.span for one in given]
    extents = least if extent is None else _numbers(elaborator, extent, len(axes), "an extent")
    for one, length, windows in zip(given, extents, (x.shape[axis] for axis in axes), strict=True):
        if length < one.span or window_count(length, one.size, one.stride, one.dilation) != windows:
            elaborator.fail(
                "E0418",
                f"{length} elements do not have {windows} windows that span {one.span} and start {one.stride} apart",
                hint("without `extent`, the result is as long as the windows reach"),
            )
    ordered = sorted(given, key=lambda one: one.axis)
    places = (*range(rank), *(rank + given.index(one) for one in ordered))
    whole = tuple(extents[given.index(one)] for one in ordered)
    value = elaborator.emit(Fold(*_fields(ordered), whole), _moved(elaborator, x.value, places))
    return TensorValue(value, _without_names(elaborator, kept.axes, axes))


def _sliding(
    elaborator: Elaborator, tensor: TensorValue, axes: Sequence[int], sizes: Sequence[int], steps: tuple[Value, Value]
) -> list[_Sliding]:
    """The windows, in the order of the `axis` argument; `steps` are stride and dilation."""
    if len(set(axes)) != len(axes):
        elaborator.fail("E0406", f"an axis of {shown(elaborator, tensor)} is named twice")
    strides = _numbers(elaborator, steps[0], len(axes), "a stride")
    dilations = _numbers(elaborator, steps[1], len(axes), "a dilation")
    return [_Sliding(*numbers) for numbers in zip(axes, sizes, strides, dilations, strict=True)]


def _fields(ordered: Sequence[_Sliding]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The fields that both ops have, from windows by increasing axis."""
    return (
        tuple(one.axis for one in ordered),
        tuple(one.size for one in ordered),
        tuple(one.stride for one in ordered),
        tuple(one.dilation for one in ordered),
    )


def _items(value: Value) -> Sequence[Value]:
    if isinstance(value, TupleValue):
        return value.items
    return value if isinstance(value, tuple) else (value,)


def _numbers(elaborator: Elaborator, value: Value, count: int, what: str) -> list[int]:
    """A number for each axis: from a list, or one for all."""
    items = _items(value)
    if isinstance(value, tuple | TupleValue) and len(items) != count:
        elaborator.fail("E0309", f"{what} is given {len(items)} times, for {count} axes")
    numbers = [_positive(elaborator, item, what) for item in items]
    return numbers if len(numbers) == count else numbers * count


def _positive(elaborator: Elaborator, value: Value, what: str) -> int:
    extent = whole_dimension(elaborator, value, what)
    if isinstance(extent, BatchExtent):
        elaborator.fail("E0307", f"`batch` is known only at run time, so it cannot be {what}")
    if extent < 1:
        elaborator.fail("E0413", f"{what} must be positive, not {extent}")
    return extent


def _static(elaborator: Elaborator, tensor: TensorValue, axis: int) -> int:
    extent = tensor.shape[axis]
    if isinstance(extent, BatchExtent):
        elaborator.fail("E0410", f"no window slides over the batch of {shown(elaborator, tensor)}")
    return extent


def _expect_room(elaborator: Elaborator, tensor: TensorValue, one: _Sliding) -> None:
    extent, axis = _static(elaborator, tensor, one.axis), tensor.axes[one.axis]
    if one.span <= extent:
        return
    spans = f", which spans {one.span} with dilation {one.dilation}," if one.dilation > 1 else ""
    largest = (extent - 1) // one.dilation + 1
    elaborator.fail(
        "E0418",
        f"a window of {one.size}{spans} does not fit into `{shown_axis(elaborator, extent, axis)}`, axis {one.axis} of "
        f"{shown(elaborator, tensor)}",
        *origin_notes(elaborator, (extent, axis)),
        hint(f"a size of {largest} would fit, or {one.span - extent} more of padding, counting both sides"),
        *([hint(f"images have their channels first: {CHANNELS_FIRST}")] if has_channels_last(tensor.shape) else []),
    )


CHANNELS_FIRST = '`rearrange(x, "b h w c -> b c h w")`'


def has_channels_last(shape: Shape) -> bool:
    """Whether these are likely images as Keras has them, [batch, height, width, channels]."""
    match shape:
        case (_, int(height), int(width), 1 | 3 | 4 as channels):
            return min(height, width) >= 8 and (height == width or channels == 3)
        case _:
            return False


def _moved(elaborator: Elaborator, value: ir.Value, places: Sequence[int]) -> ir.Value:
    return value if list(places) == sorted(places) else elaborator.emit(Transpose(tuple(places)), value)


def _without_names(elaborator: Elaborator, axes: Sequence[Axis], changed: Sequence[int]) -> tuple[Axis, ...]:
    return tuple(Axis(origin=elaborator.here) if i in changed else axis for i, axis in enumerate(axes))


WINDOWS = tuple(map(built_in, (_windows, _overlap_add)))
