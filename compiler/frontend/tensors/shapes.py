"""Dimensions and their names: types as text, axes by name, and the rules for elementwise operands."""

from __future__ import annotations

from collections.abc import Container, Iterable

from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.axes import Axis, Label, name_of_axis
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.failures import nearest
from compiler.frontend.tensors.numbers import decided
from compiler.frontend.values import (
    AxisName,
    BatchValue,
    ExceptAxes,
    RunTimeNumber,
    TensorValue,
    TupleValue,
    Value,
    describe,
)
from compiler.types import BatchExtent, Extent, Shape

UNNAMED = Axis()


def shown_axis(elaborator: Elaborator, extent: Extent, axis: Axis) -> str:
    """`batch`, `c = 16` or `16`: only names of the user's own text are shown."""
    return axis_text(extent, axis, elaborator.user_scopes)


def axis_text(extent: Extent, axis: Axis, scopes: Container[int]) -> str:
    """As `shown_axis`, with the names of the applications `scopes`."""
    name = name_of_axis(axis, scopes)
    if not name:
        return str(extent)
    return name if isinstance(extent, BatchExtent) and name == str(extent) else f"{name} = {extent}"


def shown_shape(elaborator: Elaborator, tensor: TensorValue) -> str:
    return f"[{', '.join(axis_texts(tensor, elaborator.user_scopes))}]"


def shown(elaborator: Elaborator, tensor: TensorValue) -> str:
    """`f32[batch, c = 16]`."""
    return tensor_text(tensor, elaborator.user_scopes)


def tensor_text(tensor: TensorValue, scopes: Container[int]) -> str:
    """As `shown`, with the names of the applications `scopes`."""
    return f"{tensor.dtype.value}[{', '.join(axis_texts(tensor, scopes))}]"


def axis_texts(tensor: TensorValue, scopes: Container[int]) -> list[str]:
    """Each dimension as `axis_text` has it."""
    return [axis_text(extent, axis, scopes) for extent, axis in zip(tensor.shape, tensor.axes, strict=True)]


def origin_notes(elaborator: Elaborator, *dimensions: tuple[Extent, Axis]) -> tuple[Note, ...]:
    """Where each of these dimensions came from, as far as that is in the user's text."""
    notes: list[Note] = []
    for extent, axis in dimensions:
        if axis.origin is not None and not axis.origin.source.is_library:
            note = Note(f"`{shown_axis(elaborator, extent, axis)}` comes from here", axis.origin)
            if all(note.span != other.span for other in notes):
                notes.append(note)
    return tuple(notes)


def seen_by_caller(axes: Iterable[Axis], scope: int, call: Span) -> tuple[Axis, ...]:
    """The axes of a result: without the names of that application; axes that the library made come from the call."""
    return tuple(
        Axis(frozenset(label for label in a.labels if label[0] != scope), _origin_at(a, call))
        if any(label[0] == scope for label in a.labels) or _origin_at(a, call) is not a.origin
        else a
        for a in axes
    )


def _origin_at(axis: Axis, call: Span) -> Span | None:
    origin = axis.origin
    is_moved = origin is not None and origin.source.is_library and not call.source.is_library
    return call if is_moved else origin


def merged(left: Axis, right: Axis, prefer_right: bool) -> Axis:
    """The axis where two operands meet."""
    labels = left.labels | right.labels if right.labels else left.labels
    first, second = (right, left) if prefer_right else (left, right)
    return Axis(labels, _user_origin(first.origin, second.origin))


def _user_origin(first: Span | None, second: Span | None) -> Span | None:
    """The first of two places, unless the second alone is in the user's text, as where the library scales channels."""
    is_inner = first is None or (first.source.is_library and second is not None and not second.source.is_library)
    return second if is_inner else first


# Broadcasting


def broadcast(
    elaborator: Elaborator, symbol: str, left: TensorValue, right: TensorValue
) -> tuple[Shape, tuple[Axis, ...]]:
    """The shape and axes of an elementwise result. Extents follow NumPy; names must meet themselves."""
    if left.shape == right.shape and left.axes == right.axes:
        if not elaborator.frame.module.is_library:
            return left.shape, left.axes
        return left.shape, tuple(merged(one, other, False) for one, other in zip(left.axes, right.axes, strict=True))
    _expect_aligned_names(elaborator, symbol, left, right)
    rank = max(left.rank, right.rank)
    shape: list[Extent] = []
    axes: list[Axis] = []
    for place in range(-rank, 0):
        if place < -left.rank:
            shape.append(right.shape[place])
            axes.append(right.axes[place])
        elif place < -right.rank:
            shape.append(left.shape[place])
            axes.append(left.axes[place])
        else:
            a, b = left.shape[place], right.shape[place]
            if a != b and a != 1 and b != 1:
                _extents_differ(elaborator, symbol, left, right, place)
            if left.axes[place].labels and right.axes[place].labels:
                _expect_one_name(elaborator, symbol, left, right, place)
            shape.append(b if a == 1 else a)
            axes.append(merged(left.axes[place], right.axes[place], a == 1))
    return tuple(shape), tuple(axes)


def _expect_aligned_names(elaborator: Elaborator, symbol: str, left: TensorValue, right: TensorValue) -> None:
    places = _places_of_names(left)
    if not places:
        return
    for label, theirs in _places_of_names(right).items():
        ours = places.get(label)
        if ours is None:
            continue
        if not ours & theirs:
            if not _is_outer(left, right, ours, theirs):
                _misplaced(elaborator, symbol, left, right, label, max(ours), max(theirs))
        elif left.rank != right.rank and len(ours) != len(theirs):
            _ambiguous(elaborator, symbol, left, right, label)


def _is_outer(left: TensorValue, right: TensorValue, ours: set[int], theirs: set[int]) -> bool:
    """Whether each operand has an axis of 1 where the other has the name, as in `x[:, None] - x[None, :]`."""
    if left.rank != right.rank:
        return False
    return all(right.shape[place] == 1 for place in ours) and all(left.shape[place] == 1 for place in theirs)


def _ambiguous(elaborator: Elaborator, symbol: str, left: TensorValue, right: TensorValue, label: Label) -> None:
    smaller, larger = (left, right) if left.rank < right.rank else (right, left)
    elaborator.fail(
        "E0402",
        f"`{symbol}` of {shown(elaborator, left)} and {shown(elaborator, right)}: the dimension `{label[1]}` of "
        f"{shown_shape(elaborator, smaller)} may be either of those of {shown_shape(elaborator, larger)}",
        hint("say which with axes of 1: `[:, None]` puts it before the last, `[None, :]` makes it the last"),
    )


def _places_of_names(tensor: TensorValue) -> dict[Label, set[int]]:
    places: dict[Label, set[int]] = {}
    for place, axis in enumerate(tensor.axes, -tensor.rank):
        for label in axis.labels:
            places.setdefault(label, set()).add(place)
    return places


def _misplaced(
    elaborator: Elaborator, symbol: str, left: TensorValue, right: TensorValue, label: Label, ours: int, theirs: int
) -> None:
    smaller, larger = (left, right) if left.rank < right.rank else (right, left)
    elaborator.fail(
        "E0402",
        f"`{symbol}` of {shown(elaborator, left)} and {shown(elaborator, right)}: the dimension `{label[1]}` is "
        f"{_place(ours)} in one and {_place(theirs)} in the other",
        *origin_notes(elaborator, (left.shape[ours], left.axes[ours]), (right.shape[theirs], right.axes[theirs])),
        hint(_alignment_hint(elaborator, smaller, larger, label)),
    )


def _alignment_hint(elaborator: Elaborator, smaller: TensorValue, larger: TensorValue, label: Label) -> str:
    if smaller.rank == 1 and larger.rank == 2 and label in larger.axes[0].labels:
        first = "drop the axis of 1 with `[:, 0]`, or " if larger.shape[1] == 1 else ""
        pairs = "; for pairs of rows, give both an axis of 1: `x[:, None]` and `y[None, :]`" if first else ""
        return f"{first}add an axis to {shown_shape(elaborator, smaller)} with `[:, None]`{pairs}"
    return "`align(v, x)` puts the named dimensions of `v` where `x` has them; an index with `None` adds an axis of 1"


def _place(place: int) -> str:
    """The place of an axis, which counts from the right, in words."""
    return {-1: "last", -2: "next-to-last", -3: "third from the right"}.get(place, f"{-place}th from the right")


def _expect_one_name(elaborator: Elaborator, symbol: str, left: TensorValue, right: TensorValue, place: int) -> None:
    for scope, name in left.axes[place].labels:
        for other_scope, other in right.axes[place].labels:
            if scope == other_scope and name != other and (scope, name) not in right.axes[place].labels:
                elaborator.fail(
                    "E0403",
                    f"`{symbol}` of {shown(elaborator, left)} and {shown(elaborator, right)}: the dimension `{name}` "
                    f"meets `{other}`, both {_place(place)}",
                    *origin_notes(
                        elaborator, (left.shape[place], left.axes[place]), (right.shape[place], right.axes[place])
                    ),
                    hint("two dimensions with different names never meet, even when they are equal in size"),
                )


def _extents_differ(elaborator: Elaborator, symbol: str, left: TensorValue, right: TensorValue, place: int) -> None:
    a = (left.shape[place], left.axes[place])
    b = (right.shape[place], right.axes[place])
    elaborator.fail(
        "E0401",
        f"`{symbol}` of {shown(elaborator, left)} and {shown(elaborator, right)}: `{shown_axis(elaborator, *a)}` and "
        f"`{shown_axis(elaborator, *b)}`, both {_place(place)}, do not fit",
        *origin_notes(elaborator, a, b),
        hint("sizes must be equal, or one of them 1"),
    )


# Axes by name or number


def resolve_axis(elaborator: Elaborator, tensor: TensorValue, axis: Value) -> int:
    """The one axis that a name or number means."""
    match axis:
        case AxisName(label):
            found = [place for place, axis in enumerate(tensor.axes) if label in axis.labels]
            if not found:
                known = tuple(sorted({name for a in tensor.axes for scope, name in a.labels if scope == label[0]}))
                message = f"the tensor {shown(elaborator, tensor)} has no dimension `{label[1]}`"
                elaborator.fail("E0406", message, *(nearest(label[1], known) or (hint("give the axis as a number"),)))
            if len(found) > 1:
                message = f"the tensor {shown(elaborator, tensor)} has the dimension `{label[1]}` {len(found)} times"
                elaborator.fail("E0406", message, hint("give the axis as a number"))
            return found[0]
        case RunTimeNumber():
            return resolve_axis(elaborator, tensor, decided(elaborator, axis))
        case int() if not isinstance(axis, bool):
            if not -tensor.rank <= axis < tensor.rank:
                limits = f"{-tensor.rank} to {tensor.rank - 1}" if tensor.rank else "none, it is a scalar"
                notes = _meant_by_size(tensor, axis)
                elaborator.fail(
                    "E0406", f"{shown(elaborator, tensor)} has no axis {axis}; its axes are {limits}", *notes
                )
            return axis % tensor.rank
        case _:
            elaborator.fail("E0406", f"an axis is a number or the name of a dimension, not {describe(axis)}")


def _meant_by_size(tensor: TensorValue, number: int) -> tuple[Note, ...]:
    """A setting that gives a dimension its size looks like the name of that dimension."""
    if number not in tensor.shape:
        return ()
    place = tensor.shape.index(number)
    return (hint(f"the axis of size {number} is axis {place}; the name of a setting means its number, and no axis"),)


def resolve_axes(elaborator: Elaborator, tensor: TensorValue, axes: Value) -> tuple[int, ...]:
    """The axes that a reduction's `axis` means, in increasing order; `none` means all."""
    match axes:
        case None:
            return tuple(range(tensor.rank))
        case ExceptAxes(kept):
            left_out = {resolve_axis(elaborator, tensor, axis) for axis in kept}
            return tuple(i for i in range(tensor.rank) if i not in left_out)
        case tuple() | TupleValue():
            items = axes.items if isinstance(axes, TupleValue) else axes
            found = sorted(resolve_axis(elaborator, tensor, axis) for axis in items)
            if len(set(found)) != len(found):
                elaborator.fail("E0406", f"an axis of {shown(elaborator, tensor)} is named twice")
            return tuple(found)
        case _:
            return (resolve_axis(elaborator, tensor, axes),)


def whole_dimension(elaborator: Elaborator, value: Value, what: str = "a dimension") -> Extent:
    """A configuration value as an extent: whole and not negative, or a multiple of `batch`."""
    match value:
        case BatchValue():
            if value.multiple <= 0:
                elaborator.fail("E0413", f"{what} must be positive, not {value.extent}")
            return value.extent
        case RunTimeNumber():
            return whole_dimension(elaborator, decided(elaborator, value), what)
        case float() if value.is_integer():
            return whole_dimension(elaborator, int(value), what)
        case float():
            elaborator.fail("E0413", f"{what} must come out whole, not {value}", hint("divide with `//`"))
        case int() if not isinstance(value, bool):
            if value < 0:
                elaborator.fail("E0413", f"{what} must not be negative, but is {value}")
            return value
        case TensorValue():
            elaborator.fail("E0413", f"{what} must be configuration, not {describe(value)}")
        case _:
            elaborator.fail("E0413", f"{what} must be a whole number, not {describe(value)}")
