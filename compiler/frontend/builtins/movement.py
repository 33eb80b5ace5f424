"""Built-in functions that move, cut, join and create tensors."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import Note, hint
from compiler.frontend.axes import Axis
from compiler.frontend.builtins.table import AxisValue, Builtin, BuiltinParameter, DimensionValue, built_in
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.tensors.binding import expect_tensor
from compiler.frontend.tensors.numbers import decided
from compiler.frontend.tensors.operators import (
    are_alike,
    cast,
    computable,
    expect_fitting,
    integers,
    scalar,
    spread,
    widest,
)
from compiler.frontend.tensors.products import einsum, rearrange
from compiler.frontend.tensors.shapes import origin_notes, resolve_axis, shown, whole_dimension
from compiler.frontend.values import NamedExtent, TensorValue, TupleValue, Value, describe, is_number
from compiler.ops.indexing import Gather, ScatterAdd
from compiler.ops.movement import Concat, Pad, Reverse, Slice, Transpose
from compiler.ops.sources import Iota
from compiler.ops.spreading import Reshape
from compiler.types import READ_AS, BatchExtent, DType, Extent, TensorType, size_of, size_text

_DIMENSIONS = BuiltinParameter("dimensions", "dimension", is_variadic=True)


def _dimensions(elaborator: Elaborator, values: Value) -> tuple[tuple[Extent, ...], tuple[Axis, ...]]:
    """Dimensions as given one by one, or as a list. -1 stays, for `reshape` to find."""
    assert isinstance(values, tuple)
    shape: list[Extent] = []
    axes: list[Axis] = []
    for value in values:
        if isinstance(value, tuple):
            inner_shape, inner_axes = _dimensions(elaborator, value)
            shape += inner_shape
            axes += inner_axes
        elif isinstance(value, NamedExtent):
            shape.append(value.extent)
            axes.append(value.axis)
        else:
            shape.append(-1 if value == -1 else whole_dimension(elaborator, value))
            axes.append(Axis(origin=elaborator.here))
    return tuple(shape), tuple(axes)


def _new_shape(elaborator: Elaborator, dimensions: Value) -> tuple[tuple[Extent, ...], tuple[Axis, ...]]:
    shape, axes = _dimensions(elaborator, dimensions)
    if -1 in shape:
        elaborator.fail("E0413", "a dimension of a new tensor must not be negative, but is -1")
    elaborator.expect_size(TensorType(DType.F32, shape))
    return shape, axes


# Movement


def _gather(elaborator: Elaborator, x: TensorValue, indices: TensorValue, *, axis: AxisValue = 1) -> Value:
    """Of each row of `x`, the elements along an axis at that row's own `indices`; one out of range is the nearest."""
    place = resolve_axis(elaborator, x, axis)
    indices = integers(elaborator, indices)
    if place == 0 or not indices.rank or indices.shape[0] != x.shape[0]:
        elaborator.fail(
            "E0409",
            f"`gather` along axis {place} of {shown(elaborator, x)} with indices {shown(elaborator, indices)}: "
            "each row is picked from along a later axis, by its own row of indices",
            hint("`x[indices]` picks whole rows; `x[:, indices]` picks the same elements from every row"),
        )
    value = elaborator.emit(Gather(place, by_row=True), x.value, indices.value)
    return TensorValue(value, (*x.axes[:place], *indices.axes[1:], *x.axes[place + 1 :]))


def _scatter_add(
    elaborator: Elaborator,
    x: TensorValue,
    indices: TensorValue,
    size: Value,
    *,
    axis: AxisValue = 0,
    by_row: Value = False,
) -> Value:
    """Zeros of `size` along an axis, to which the parts of `x` are added at their `indices`, in order. It undoes
    `t[indices]`: the axes of `indices` stand in `x` from `axis` on. With `by_row`, it undoes `gather`.
    """
    is_new = not indices.rank and axis == x.rank  # behind the last axis
    place = x.rank if is_new else resolve_axis(elaborator, x, axis)
    indices, x = integers(elaborator, indices), computable(elaborator, x)
    extent = _count(elaborator, size, "the size of `scatter_add`")
    rows = by_row is True
    end = place + indices.rank - rows
    if (
        x.shape[place:end] != indices.shape[rows:]
        or (extent < 1 and 0 not in x.shape)
        or (rows and (not place or not indices.rank))
    ):
        elaborator.fail(
            "E0409",
            f"`scatter_add` of {shown(elaborator, x)} along axis {place} of size {extent}: the axes of the indices "
            f"{shown(elaborator, indices)} do not stand there",
            hint("a table's rows `t[indices]` are added up again by `scatter_add(x, indices, len_of_the_table)`"),
        )
    value = elaborator.emit(ScatterAdd(place, extent, rows), indices.value, x.value)
    return TensorValue(value, (*x.axes[:place], Axis(origin=elaborator.here), *x.axes[end:]))


def _reshape(elaborator: Elaborator, x: TensorValue, dimensions: tuple[DimensionValue, ...]) -> Value:
    """The same elements in another shape; one dimension may be -1."""
    shape, axes = _dimensions(elaborator, dimensions)
    shape = _inferred(elaborator, x, shape)
    if size_of(shape) != size_of(x.shape):
        elaborator.fail(
            "E0407",
            f"{shown(elaborator, x)} has {size_text(x.shape)} elements, but "
            f"[{', '.join(map(str, shape))}] has {size_text(shape)}",
            *origin_notes(elaborator, *zip(x.shape, x.axes, strict=True)),
        )
    known = _axes_left_whole(x, shape)
    merged = tuple(Axis(known[i].labels | a.labels, known[i].origin) if i in known else a for i, a in enumerate(axes))
    if shape == x.shape:
        return TensorValue(x.value, merged)
    return TensorValue(elaborator.emit(Reshape(shape), x.value), merged)


def _axes_left_whole(tensor: TensorValue, shape: Sequence[Extent]) -> dict[int, Axis]:
    """The leading and trailing axes that a reshape leaves as they are."""
    whole: dict[int, Axis] = {}
    shortest = min(tensor.rank, len(shape))
    start = 0
    while start < shortest and tensor.shape[start] == shape[start]:
        whole[start] = tensor.axes[start]
        start += 1
    end = 1
    while end <= shortest - start and tensor.shape[-end] == shape[-end]:
        whole[len(shape) - end] = tensor.axes[-end]
        end += 1
    return whole


def _inferred(elaborator: Elaborator, tensor: TensorValue, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
    """The shape with -1 replaced by the remaining elements."""
    if -1 not in shape:
        return shape
    if shape.count(-1) > 1:
        elaborator.fail("E0407", "one dimension of a reshape may be -1")
    place = shape.index(-1)
    known = (*shape[:place], *shape[place + 1 :])
    (total, power), (part, known_power) = size_of(tensor.shape), size_of(known)
    if part == 0 or total % part or not 0 <= power - known_power <= 1:
        elaborator.fail(
            "E0407",
            f"{shown(elaborator, tensor)} has {size_text(tensor.shape)} elements, which "
            f"{' × '.join(map(str, known))} does not divide",
            *origin_notes(elaborator, *zip(tensor.shape, tensor.axes, strict=True)),
        )
    rest: Extent = BatchExtent(total // part) if power > known_power else total // part
    return (*shape[:place], rest, *shape[place + 1 :])


def _opened(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Values as given one by one, or as a list."""
    return values[0] if len(values) == 1 and isinstance(values[0], tuple) else values


def _transpose(elaborator: Elaborator, x: TensorValue, axes: tuple[AxisValue, ...]) -> Value:
    """The axes in another order, given by numbers or names."""
    order = tuple(resolve_axis(elaborator, x, axis) for axis in _opened(axes))
    if sorted(order) != list(range(x.rank)):
        elaborator.fail(
            "E0406",
            f"`transpose` of {shown(elaborator, x)} needs each of its {x.rank} axes once, not "
            f"({', '.join(map(str, order))})",
            hint("`x.T` swaps the last two axes"),
        )
    return TensorValue(elaborator.emit(Transpose(order), x.value), tuple(x.axes[i] for i in order))


def _split(elaborator: Elaborator, x: TensorValue, n: Value, *, axis: AxisValue = -1) -> Value:
    """The tensor cut along an axis into `n` equal parts, or into parts of the sizes in a list."""
    place = resolve_axis(elaborator, x, axis)
    extent = x.shape[place]
    if isinstance(extent, BatchExtent):
        message = f"the axis {extent} of {shown(elaborator, x)} is known only at run time, so it cannot be split"
        elaborator.fail("E0410", message)
    sizes = _sizes(elaborator, x, extent, n)
    parts: list[Value] = []
    start = 0
    axes = (*x.axes[:place], Axis(origin=elaborator.here), *x.axes[place + 1 :])
    for size in sizes:
        starts = tuple(start if i == place else 0 for i in range(x.rank))
        shape = tuple(size if i == place else e for i, e in enumerate(x.shape))
        parts.append(TensorValue(elaborator.emit(Slice(starts, shape, (1,) * x.rank), x.value), axes))
        start += size
    return TupleValue(tuple(parts))


def _sizes(elaborator: Elaborator, tensor: TensorValue, extent: int, parts: Value) -> list[int]:
    if isinstance(parts, tuple):
        sizes = [_count(elaborator, size, "a part of `split`") for size in parts]
        if sum(sizes) != extent:
            elaborator.fail(
                "E0411", f"the parts of `split` make {sum(sizes)}, but {shown(elaborator, tensor)} has {extent}"
            )
        return sizes
    number = _count(elaborator, parts, "the number of parts")
    if number == 0 or extent % number:
        message = f"{extent} elements cannot be split into {number} equal parts, of {shown(elaborator, tensor)}"
        elaborator.fail("E0411", message, hint("a list gives the size of each part: `split(x, [3, 5])`"))
    return [extent // number] * number


def _count(elaborator: Elaborator, value: Value, what: str) -> int:
    extent = whole_dimension(elaborator, value, what)
    if isinstance(extent, BatchExtent):
        elaborator.fail("E0307", f"`batch` is known only at run time, so it cannot be {what}")
    return extent


def _concat(elaborator: Elaborator, x: tuple[Value, ...], *, axis: AxisValue = -1) -> Value:
    """Tensors joined along an axis; also of a list."""
    tensors = [expect_tensor(elaborator, value, "a part of `concat`") for value in _opened(x)]
    if not tensors:
        elaborator.fail("E0302", "`concat` of nothing", hint("write `concat(a, b, axis = -1)`"))
    if not are_alike(*tensors):
        tensors = [computable(elaborator, tensor) for tensor in tensors]
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = widest(dtype, tensor.dtype)
    tensors = [cast(elaborator, tensor, dtype) for tensor in tensors]
    first = tensors[0]
    along = resolve_axis(elaborator, first, axis)
    for tensor in tensors[1:]:
        places = [i for i in range(first.rank) if i != along]
        if tensor.rank != first.rank or any(tensor.shape[i] != first.shape[i] for i in places):
            elaborator.fail(
                "E0411",
                f"`concat` of {shown(elaborator, first)} and {shown(elaborator, tensor)} along axis {along}: all other "
                "dimensions must be equal",
                *_differing(elaborator, first, tensor, along),
            )
    if len(tensors) == 1:
        return first
    axes = [
        Axis(frozenset(label for t in tensors for label in t.axes[i].labels), a.origin)
        for i, a in enumerate(first.axes)
    ]
    axes[along] = Axis(origin=elaborator.here)
    return TensorValue(elaborator.emit(Concat(along), *(t.value for t in tensors)), tuple(axes))


def _differing(elaborator: Elaborator, first: TensorValue, second: TensorValue, axis: int) -> tuple[Note, ...]:
    """Where the dimensions come from that keep two tensors from being joined."""
    if first.rank != second.rank:
        return ()
    places = [i for i in range(first.rank) if i != axis and first.shape[i] != second.shape[i]]
    return origin_notes(elaborator, *((t.shape[i], t.axes[i]) for i in places for t in (first, second)))


def _reverse(elaborator: Elaborator, x: TensorValue, axes: tuple[AxisValue, ...]) -> Value:
    """The elements along axes from the last to the first."""
    places = tuple(sorted({resolve_axis(elaborator, x, axis) for axis in axes}))
    return TensorValue(elaborator.emit(Reverse(places), x.value), x.axes) if places else x


def _pad(
    elaborator: Elaborator, x: TensorValue, low: Value, high: Value, *, axis: AxisValue = -1, value: Value = 0.0
) -> Value:
    """`low` elements of `value` before and `high` after, along an axis."""
    place = resolve_axis(elaborator, x, axis)
    before = _count(elaborator, low, "the padding before")
    after = _count(elaborator, high, "the padding after")
    if not is_number(value):
        elaborator.fail("E0312", f"`value` of `pad` is a number, not {describe(value)}")
    if isinstance(x.shape[place], BatchExtent):
        elaborator.fail("E0410", f"the batch of {shown(elaborator, x)} cannot be padded")
    lows = tuple(before if i == place else 0 for i in range(x.rank))
    highs = tuple(after if i == place else 0 for i in range(x.rank))
    axes = (*x.axes[:place], Axis(origin=elaborator.here), *x.axes[place + 1 :])
    number = decided(elaborator, value)
    expect_fitting(elaborator, number, x.dtype)
    return TensorValue(elaborator.emit(Pad(lows, highs, float(number)), x.value), axes)


def _einsum(elaborator: Elaborator, pattern: Value, x: tuple[Value, ...]) -> Value:
    """The product of tensors by axis names: `einsum("b i d, b j d -> b i j", q, k)`."""
    text = _text(elaborator, pattern, "einsum")
    return einsum(elaborator, text, [expect_tensor(elaborator, tensor, "an operand of `einsum`") for tensor in x])


def _rearrange(elaborator: Elaborator, x: TensorValue, pattern: Value, **sizes: Value) -> Value:
    """Axes moved, split and merged by names: `rearrange(x, "b t (h d) -> b h t d", h = 8)`."""
    extents = {name: whole_dimension(elaborator, size, f"the size of `{name}`") for name, size in sizes.items()}
    return rearrange(elaborator, x, _text(elaborator, pattern, "rearrange"), extents)


def _text(elaborator: Elaborator, pattern: Value, name: str) -> str:
    if not isinstance(pattern, str):
        elaborator.fail("E0412", f"the pattern of `{name}` is a string, not {describe(pattern)}")
    return pattern


# Sources


def _filled(
    elaborator: Elaborator, value: Value, shape: tuple[Extent, ...], axes: tuple[Axis, ...], dtype: DType
) -> Value:
    number = value if isinstance(value, TensorValue) else scalar(elaborator, value, dtype)
    if number.rank:
        elaborator.fail("E0312", f"`full` repeats a number, not {shown(elaborator, number)}")
    return TensorValue(spread(elaborator, number, shape), axes)


def _constant(name: str, value: float, document: str) -> Builtin:
    def evaluate(elaborator: Elaborator, dimensions: Value) -> Value:
        return _filled(elaborator, value, *_new_shape(elaborator, dimensions), DType.F32)

    return Builtin(name, (_DIMENSIONS,), document, evaluate)


def _constant_like(name: str, value: float, document: str) -> Builtin:
    def evaluate(elaborator: Elaborator, x: TensorValue) -> Value:
        return _filled(elaborator, value, x.shape, x.axes, x.dtype)

    return Builtin(name, (BuiltinParameter("x", "tensor"),), document, evaluate)


def _full(elaborator: Elaborator, value: Value, dimensions: tuple[DimensionValue, ...]) -> Value:
    """A tensor filled with a number."""
    return _filled(elaborator, value, *_new_shape(elaborator, dimensions), DType.F32)


def _arange(elaborator: Elaborator, n: Value) -> Value:
    """The integers from 0 to n - 1, as i32."""
    extent = whole_dimension(elaborator, n, "the number of integers")
    elaborator.expect_size(TensorType(DType.I32, (extent,)))
    # Without the dimension's name, so that `arange(n)[:, None] == arange(n)` may meet itself.
    return TensorValue(elaborator.emit(Iota((extent,), 0, DType.I32)), (Axis(origin=elaborator.here),))


def _random(elaborator: Elaborator, dimensions: tuple[DimensionValue, ...]) -> Value:
    """Numbers drawn uniformly from [0, 1), anew at each step."""
    shape, axes = _new_shape(elaborator, dimensions)
    return TensorValue(elaborator.draw(shape), axes)


def _random_like(elaborator: Elaborator, x: TensorValue) -> Value:
    """Numbers drawn uniformly from [0, 1), in the shape of `x`."""
    dtype = READ_AS.get(x.dtype, x.dtype) if x.dtype.is_float else DType.F32
    return cast(elaborator, TensorValue(elaborator.draw(x.shape), x.axes), dtype)


MOVEMENT = tuple(
    map(built_in, (_reshape, _transpose, _split, _concat, _reverse, _pad, _gather, _scatter_add, _einsum, _rearrange))
)

SOURCES: tuple[Builtin, ...] = (
    _constant("zeros", 0.0, "A tensor of zeros."),
    _constant("ones", 1.0, "A tensor of ones."),
    built_in(_full),
    _constant_like("zeros_like", 0.0, "Zeros in the shape and element type of `x`."),
    _constant_like("ones_like", 1.0, "Ones in the shape and element type of `x`."),
    built_in(_arange),
    Builtin("iota", (BuiltinParameter("n"),), "The integers from 0 to n - 1, as i32; the same as `arange`.", _arange),
    *map(built_in, (_random, _random_like)),
)
