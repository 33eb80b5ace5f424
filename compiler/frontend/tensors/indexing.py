"""`x[…]`: elements, slices, new axes and gathers of tensors; elements and slices of lists and strings."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import hint
from compiler.frontend.axes import Axis
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.tensors.numbers import decided
from compiler.frontend.tensors.operators import integers
from compiler.frontend.tensors.shapes import shown, shown_axis
from compiler.frontend.values import BatchValue, TensorValue, TupleValue, Value, describe, is_number
from compiler.graph import ir
from compiler.ops.indexing import Gather
from compiler.ops.movement import Reverse, Slice
from compiler.ops.spreading import Reshape
from compiler.support.record import record
from compiler.syntax import tree
from compiler.types import BatchExtent, DType, Extent


@record
class Cut:
    """A slice of one axis, not resolved against its extent yet."""

    start: Value
    stop: Value
    step: Value


@record
class NewAxis:
    """`None` in an index."""


@record
class Rest:
    """`...` in an index: all axes that no other item takes."""


Item = Cut | NewAxis | Rest | TensorValue | int


def index(elaborator: Elaborator, value: Value, expression: tree.Index) -> Value:
    """The indexed value."""
    items = [_item(elaborator, item) for item in expression.items]
    elaborator.span = expression.span
    if isinstance(value, tuple | str | TupleValue):
        return _of_sequence(elaborator, value.items if isinstance(value, TupleValue) else value, items)
    if isinstance(value, TensorValue):
        return _of_tensor(elaborator, value, items)
    elaborator.fail("E0312", f"only tensors and lists have elements, and this is {describe(value)}")


def _item(elaborator: Elaborator, item: tree.IndexItem) -> Item:
    match item:
        case tree.SliceItem(start, stop, step):
            bounds = [None if part is None else elaborator.evaluate(part) for part in (start, stop, step)]
            return Cut(*bounds)
        case tree.EllipsisItem():
            return Rest()
        case tree.NewAxis():
            return NewAxis()
        case _:
            value = elaborator.evaluate(item)
    elaborator.span = item.span
    if isinstance(value, TensorValue):
        notes = [hint("`where(mask, x, 0)` keeps the shape")] if value.dtype is DType.BOOL else []
        return integers(elaborator, value, *notes)
    return _whole(elaborator, value)


def _whole(elaborator: Elaborator, value: Value) -> int:
    if isinstance(value, BatchValue):
        elaborator.fail("E0307", "`batch` is known only at run time, so it cannot be an index")
    if is_number(value):
        number = decided(elaborator, value)
        if float(number).is_integer():
            return int(number)
    elaborator.fail("E0409", f"an index is a whole number, not {describe(value)}")


def _bounds(elaborator: Elaborator, cut: Cut) -> slice:
    parts = [None if part is None else _whole(elaborator, part) for part in (cut.start, cut.stop, cut.step)]
    if parts[2] == 0:
        elaborator.fail("E0409", "the step of a slice cannot be 0")
    return slice(*parts)


def _of_sequence(elaborator: Elaborator, value: Sequence[Value] | str, items: Sequence[Item]) -> Value:
    if len(items) != 1:
        elaborator.fail("E0409", f"a list is indexed by one number or slice, not {len(items)}")
    (item,) = items
    match item:
        case int():
            if not -len(value) <= item < len(value):
                elaborator.fail("E0311", f"there is no element {item} in a list of {len(value)}")
            return value[item]
        case Cut():
            part = value[_bounds(elaborator, item)]
            return part if isinstance(part, str) else tuple(part)
        case _:
            elaborator.fail("E0409", "a list is indexed by a number or a slice")


def _of_tensor(elaborator: Elaborator, tensor: TensorValue, items: Sequence[Item]) -> TensorValue:
    placed = _placed(elaborator, tensor, items)
    gathers = [item for item in placed if isinstance(item, TensorValue)]
    if len(gathers) > 1:
        elaborator.fail("E0409", "one index of an expression may be a tensor", hint("index twice: `x[i][:, j]`"))
    tensor = _cut(elaborator, tensor, [item for item in placed if not isinstance(item, NewAxis)])
    return _reshaped(elaborator, tensor, placed)


def _placed(elaborator: Elaborator, tensor: TensorValue, items: Sequence[Item]) -> list[Item]:
    """One item for each axis, and the new axes between them."""
    used = sum(not isinstance(item, NewAxis | Rest) for item in items)
    dots = [i for i, item in enumerate(items) if isinstance(item, Rest)]
    if len(dots) > 1:
        elaborator.fail("E0409", "`...` may stand once in an index")
    if used > tensor.rank:
        elaborator.fail("E0409", f"{used} indices for {shown(elaborator, tensor)}, which has {tensor.rank} axes")
    place = dots[0] if dots else len(items)
    whole: list[Item] = [Cut(None, None, None)] * (tensor.rank - used)
    return [*items[:place], *whole, *items[place + 1 :]]


def _cut(elaborator: Elaborator, tensor: TensorValue, items: Sequence[Item]) -> TensorValue:
    """Slices and single elements of every axis as one node; single elements leave an axis of 1."""
    starts: list[int] = []
    sizes: list[Extent] = []
    steps: list[int] = []
    backwards: list[int] = []
    axes: list[Axis] = []
    for place, item in enumerate(items):
        extent, axis = tensor.shape[place], tensor.axes[place]
        start, size, step = _selection(elaborator, tensor, place, item)
        if step < 0:
            backwards.append(place)
            start, step = start + (size - 1) * step if isinstance(size, int) and size else 0, -step
        is_whole = size == extent and step == 1
        starts.append(start)
        sizes.append(size)
        steps.append(step)
        axes.append(axis if is_whole else Axis(origin=elaborator.here))
    value = tensor.value
    if tuple(sizes) != tensor.shape or any(starts):
        value = elaborator.emit(Slice(tuple(starts), tuple(sizes), tuple(steps)), value)
    if backwards:
        value = elaborator.emit(Reverse(tuple(backwards)), value)
    return TensorValue(value, tuple(axes))


def _selection(elaborator: Elaborator, tensor: TensorValue, place: int, item: Item) -> tuple[int, Extent, int]:
    """Start, size and step along one axis."""
    extent = tensor.shape[place]
    if isinstance(item, TensorValue | Rest | NewAxis):
        return 0, extent, 1
    if isinstance(extent, BatchExtent):
        if isinstance(item, Cut):
            bounds = _bounds(elaborator, item)
            if bounds.start in (None, 0) and bounds.stop is None and bounds.step in (None, 1, -1):
                return 0, extent, bounds.step or 1
        elaborator.fail(
            "E0410",
            f"the axis `{shown_axis(elaborator, extent, tensor.axes[place])}` of {shown(elaborator, tensor)} is known "
            "only at run time, so it cannot be cut",
            hint("`:` takes it whole; other axes can be indexed after it, as in `x[:, 0]`"),
        )
    if isinstance(item, int):
        if not -extent <= item < extent:
            elaborator.fail(
                "E0409", f"there is no element {item} along an axis of {extent}, of {shown(elaborator, tensor)}"
            )
        return item % extent, 1, 1
    positions = range(extent)[_bounds(elaborator, item)]
    return (positions.start if len(positions) else 0), len(positions), positions.step


def _reshaped(elaborator: Elaborator, tensor: TensorValue, placed: Sequence[Item]) -> TensorValue:
    """Drop the axes of single elements, add new ones, and gather."""
    shape: list[Extent] = []
    axes: list[Axis] = []
    gather: tuple[int, TensorValue] | None = None
    source = iter(zip(tensor.shape, tensor.axes, strict=True))
    for item in placed:
        if isinstance(item, NewAxis):
            shape.append(1)
            axes.append(Axis(origin=elaborator.here))
            continue
        extent, axis = next(source)
        if isinstance(item, int):
            continue
        if isinstance(item, TensorValue):
            gather = len(shape), item
        shape.append(extent)
        axes.append(axis)
    value = tensor.value
    if tuple(shape) != tensor.shape:
        value = elaborator.emit(Reshape(tuple(shape)), value)
    result = TensorValue(value, tuple(axes))
    return result if gather is None else _gathered(elaborator, result, *gather)


def _gathered(elaborator: Elaborator, tensor: TensorValue, place: int, indices: TensorValue) -> TensorValue:
    value: ir.Value = elaborator.emit(Gather(place), tensor.value, indices.value)
    return TensorValue(value, (*tensor.axes[:place], *indices.axes, *tensor.axes[place + 1 :]))
