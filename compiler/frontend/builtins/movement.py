"""Built-in functions that move, cut, join and create tensors."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import Note, hint
from compiler.frontend.axes import Axis
from compiler.frontend.builtins.table import Arguments, Builtin, BuiltinParameter
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.tensors.binding import expect_tensor
from compiler.frontend.tensors.numbers import decided
from compiler.frontend.tensors.operators import cast, scalar, spread, widest
from compiler.frontend.tensors.products import einsum, rearrange
from compiler.frontend.tensors.shapes import origin_notes, resolve_axis, shown, whole_dimension
from compiler.frontend.values import NamedExtent, TensorValue, TupleValue, Value, describe, is_number
from compiler.ops.indexing import Gather
from compiler.ops.movement import Concat, Pad, Reverse, Slice, Transpose
from compiler.ops.sources import Iota
from compiler.ops.spreading import Reshape
from compiler.types import BatchExtent, DType, Extent, TensorType, depends_on_batch, elements, static_elements

_X = BuiltinParameter("x")
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


def _new_shape(elaborator: Elaborator, arguments: Arguments) -> tuple[tuple[Extent, ...], tuple[Axis, ...]]:
    shape, axes = _dimensions(elaborator, arguments["dimensions"])
    if -1 in shape:
        elaborator.fail("E0413", "a dimension of a new tensor must not be negative, but is -1")
    if sum(isinstance(extent, BatchExtent) for extent in shape) > 1:
        elaborator.fail("E0410", f"[{', '.join(map(str, shape))}] depends on the batch twice")
    elaborator.expect_size(TensorType(DType.F32, shape))
    return shape, axes


# Movement


def _gather(elaborator: Elaborator, arguments: Arguments) -> Value:
    tensor = expect_tensor(elaborator, arguments["x"], "`x` of `gather`")
    indices = expect_tensor(elaborator, arguments["indices"], "`indices` of `gather`")
    axis = resolve_axis(elaborator, tensor, arguments["axis"])
    if indices.dtype.is_float or indices.dtype is DType.BOOL:
        elaborator.fail("E0409", f"an index is a tensor of integers, not {shown(elaborator, indices)}")
    if axis == 0 or not indices.rank or indices.shape[0] != tensor.shape[0]:
        elaborator.fail(
            "E0409",
            f"`gather` along axis {axis} of {shown(elaborator, tensor)} with indices {shown(elaborator, indices)}: "
            "each row is picked from along a later axis, by its own row of indices",
            hint("`x[indices]` picks whole rows; `x[:, indices]` picks the same elements from every row"),
        )
    value = elaborator.emit(Gather(axis, by_row=True), tensor.value, indices.value)
    return TensorValue(value, (*tensor.axes[:axis], *indices.axes[1:], *tensor.axes[axis + 1 :]))


def _reshape(elaborator: Elaborator, arguments: Arguments) -> Value:
    tensor = expect_tensor(elaborator, arguments["x"], "`x` of `reshape`")
    shape, axes = _dimensions(elaborator, arguments["dimensions"])
    shape = _inferred(elaborator, tensor, shape)
    if elements(shape) != elements(tensor.shape):
        elaborator.fail(
            "E0407",
            f"{shown(elaborator, tensor)} has {elements(tensor.shape)} elements, but "
            f"[{', '.join(map(str, shape))}] has {elements(shape)}",
            *origin_notes(elaborator, *zip(tensor.shape, tensor.axes, strict=True)),
        )
    if sum(isinstance(extent, BatchExtent) for extent in shape) > 1:
        elaborator.fail("E0410", f"[{', '.join(map(str, shape))}] depends on the batch twice")
    known = _axes_left_whole(tensor, shape)
    merged = tuple(Axis(known[i].labels | a.labels, known[i].origin) if i in known else a for i, a in enumerate(axes))
    if shape == tensor.shape:
        return TensorValue(tensor.value, merged)
    return TensorValue(elaborator.emit(Reshape(shape), tensor.value), merged)


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
    total, part = static_elements(tensor.shape), static_elements(known)
    needs_batch = depends_on_batch(tensor.shape) and not depends_on_batch(known)
    if part == 0 or total % part or (depends_on_batch(known) and not depends_on_batch(tensor.shape)):
        elaborator.fail(
            "E0407",
            f"{shown(elaborator, tensor)} has {elements(tensor.shape)} elements, which "
            f"{' × '.join(map(str, known))} does not divide",
            *origin_notes(elaborator, *zip(tensor.shape, tensor.axes, strict=True)),
        )
    rest: Extent = BatchExtent(total // part) if needs_batch else total // part
    return (*shape[:place], rest, *shape[place + 1 :])


def _transpose(elaborator: Elaborator, arguments: Arguments) -> Value:
    tensor = expect_tensor(elaborator, arguments["x"], "`x` of `transpose`")
    given = arguments["axes"]
    assert isinstance(given, tuple)
    if len(given) == 1 and isinstance(given[0], tuple):
        given = given[0]
    order = tuple(resolve_axis(elaborator, tensor, axis) for axis in given)
    if sorted(order) != list(range(tensor.rank)):
        elaborator.fail(
            "E0406",
            f"`transpose` of {shown(elaborator, tensor)} needs each of its {tensor.rank} axes once, not "
            f"({', '.join(map(str, order))})",
            hint("`x.T` swaps the last two axes"),
        )
    return TensorValue(elaborator.emit(Transpose(order), tensor.value), tuple(tensor.axes[i] for i in order))


def _split(elaborator: Elaborator, arguments: Arguments) -> Value:
    tensor = expect_tensor(elaborator, arguments["x"], "`x` of `split`")
    axis = resolve_axis(elaborator, tensor, arguments["axis"])
    extent = tensor.shape[axis]
    if isinstance(extent, BatchExtent):
        elaborator.fail(
            "E0410",
            f"the axis {extent} of {shown(elaborator, tensor)} is known only at run time, so it cannot be split",
        )
    sizes = _sizes(elaborator, tensor, extent, arguments["n"])
    parts: list[Value] = []
    start = 0
    axes = (*tensor.axes[:axis], Axis(origin=elaborator.here), *tensor.axes[axis + 1 :])
    for size in sizes:
        starts = tuple(start if i == axis else 0 for i in range(tensor.rank))
        shape = tuple(size if i == axis else e for i, e in enumerate(tensor.shape))
        parts.append(TensorValue(elaborator.emit(Slice(starts, shape, (1,) * tensor.rank), tensor.value), axes))
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
        elaborator.fail(
            "E0411",
            f"{extent} elements cannot be split into {number} equal parts, of {shown(elaborator, tensor)}",
            hint("a list gives the size of each part: `split(x, [3, 5])`"),
        )
    return [extent // number] * number


def _count(elaborator: Elaborator, value: Value, what: str) -> int:
    extent = whole_dimension(elaborator, value, what)
    if isinstance(extent, BatchExtent):
        elaborator.fail("E0307", f"`batch` is known only at run time, so it cannot be {what}")
    return extent


def _concat(elaborator: Elaborator, arguments: Arguments) -> Value:
    values = arguments["x"]
    assert isinstance(values, tuple)
    if len(values) == 1 and isinstance(values[0], tuple):
        values = values[0]
    tensors = [expect_tensor(elaborator, value, "a part of `concat`") for value in values]
    if not tensors:
        elaborator.fail("E0302", "`concat` of nothing", hint("write `concat(a, b, axis = -1)`"))
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = widest(dtype, tensor.dtype)
    tensors = [cast(elaborator, tensor, dtype) for tensor in tensors]
    first = tensors[0]
    axis = resolve_axis(elaborator, first, arguments["axis"])
    for tensor in tensors[1:]:
        places = [i for i in range(first.rank) if i != axis]
        if tensor.rank != first.rank or any(tensor.shape[i] != first.shape[i] for i in places):
            elaborator.fail(
                "E0411",
                f"`concat` of {shown(elaborator, first)} and {shown(elaborator, tensor)} along axis {axis}: all other "
                "dimensions must be equal",
                *_differing(elaborator, first, tensor, axis),
            )
    if len(tensors) == 1:
        return first
    axes = [
        Axis(frozenset(label for t in tensors for label in t.axes[i].labels), a.origin)
        for i, a in enumerate(first.axes)
    ]
    axes[axis] = Axis(origin=elaborator.here)
    return TensorValue(elaborator.emit(Concat(axis), *(t.value for t in tensors)), tuple(axes))


def _differing(elaborator: Elaborator, first: TensorValue, second: TensorValue, axis: int) -> tuple[Note, ...]:
    """Where the dimensions come from that keep two tensors from being joined."""
    if first.rank != second.rank:
        return ()
    places = [i for i in range(first.rank) if i != axis and first.shape[i] != second.shape[i]]
    return origin_notes(elaborator, *((t.shape[i], t.axes[i]) for i in places for t in (first, second)))


def _reverse(elaborator: Elaborator, arguments: Arguments) -> Value:
    tensor = expect_tensor(elaborator, arguments["x"], "`x` of `reverse`")
    given = arguments["axes"]
    assert isinstance(given, tuple)
    axes = tuple(sorted({resolve_axis(elaborator, tensor, axis) for axis in given}))
    return TensorValue(elaborator.emit(Reverse(axes), tensor.value), tensor.axes) if axes else tensor


def _pad(elaborator: Elaborator, arguments: Arguments) -> Value:
    tensor = expect_tensor(elaborator, arguments["x"], "`x` of `pad`")
    axis = resolve_axis(elaborator, tensor, arguments["axis"])
    low = _count(elaborator, arguments["low"], "the padding before")
    high = _count(elaborator, arguments["high"], "the padding after")
    value = arguments["value"]
    if not is_number(value):
        elaborator.fail("E0312", f"`value` of `pad` is a number, not {describe(value)}")
    if isinstance(tensor.shape[axis], BatchExtent):
        elaborator.fail("E0410", f"the batch of {shown(elaborator, tensor)} cannot be padded")
    lows = tuple(low if i == axis else 0 for i in range(tensor.rank))
    highs = tuple(high if i == axis else 0 for i in range(tensor.rank))
    axes = (*tensor.axes[:axis], Axis(origin=elaborator.here), *tensor.axes[axis + 1 :])
    return TensorValue(elaborator.emit(Pad(lows, highs, float(decided(elaborator, value))), tensor.value), axes)


def _einsum(elaborator: Elaborator, arguments: Arguments) -> Value:
    tensors = arguments["x"]
    assert isinstance(tensors, tuple)
    return einsum(
        elaborator,
        _pattern(elaborator, arguments, "einsum"),
        [expect_tensor(elaborator, tensor, "an operand of `einsum`") for tensor in tensors],
    )


def _rearrange(elaborator: Elaborator, arguments: Arguments) -> Value:
    tensor = expect_tensor(elaborator, arguments["x"], "`x` of `rearrange`")
    sizes = {
        name: whole_dimension(elaborator, value, f"the size of `{name}`")
        for name, value in arguments.items()
        if name not in ("x", "pattern")
    }
    return rearrange(elaborator, tensor, _pattern(elaborator, arguments, "rearrange"), sizes)


def _pattern(elaborator: Elaborator, arguments: Arguments, name: str) -> str:
    pattern = arguments["pattern"]
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
    def evaluate(elaborator: Elaborator, arguments: Arguments) -> Value:
        return _filled(elaborator, value, *_new_shape(elaborator, arguments), DType.F32)

    return Builtin(name, (_DIMENSIONS,), document, evaluate)


def _constant_like(name: str, value: float, document: str) -> Builtin:
    def evaluate(elaborator: Elaborator, arguments: Arguments) -> Value:
        like = expect_tensor(elaborator, arguments["x"], f"`x` of `{name}`")
        return _filled(elaborator, value, like.shape, like.axes, like.dtype)

    return Builtin(name, (_X,), document, evaluate)


def _full(elaborator: Elaborator, arguments: Arguments) -> Value:
    return _filled(elaborator, arguments["value"], *_new_shape(elaborator, arguments), DType.F32)


def _arange(elaborator: Elaborator, arguments: Arguments) -> Value:
    extent = whole_dimension(elaborator, arguments["n"], "the number of integers")
    elaborator.expect_size(TensorType(DType.I32, (extent,)))
    # Without the dimension's name, so that `arange(n)[:, None] == arange(n)` may meet itself.
    return TensorValue(elaborator.emit(Iota((extent,), 0, DType.I32)), (Axis(origin=elaborator.here),))


def _random(elaborator: Elaborator, arguments: Arguments) -> Value:
    shape, axes = _new_shape(elaborator, arguments)
    return TensorValue(elaborator.draw(shape), axes)


def _random_like(elaborator: Elaborator, arguments: Arguments) -> Value:
    like = expect_tensor(elaborator, arguments["x"], "`x` of `random_like`")
    dtype = like.dtype if like.dtype.is_float else DType.F32
    return cast(elaborator, TensorValue(elaborator.draw(like.shape), like.axes), dtype)


_COUNT = (BuiltinParameter("n"),)

MOVEMENT: tuple[Builtin, ...] = (
    Builtin("reshape", (_X, _DIMENSIONS), "The same elements in another shape; one dimension may be -1.", _reshape),
    Builtin(
        "transpose",
        (_X, BuiltinParameter("axes", "axis", is_variadic=True)),
        "The axes in another order, given by numbers or names.",
        _transpose,
    ),
    Builtin(
        "split",
        (_X, BuiltinParameter("n"), BuiltinParameter("axis", "axis", -1, True)),
        "The tensor cut along an axis into `n` equal parts, or into parts of the sizes in a list.",
        _split,
    ),
    Builtin(
        "concat",
        (BuiltinParameter("x", is_variadic=True), BuiltinParameter("axis", "axis", -1, True)),
        "Tensors joined along an axis; also of a list.",
        _concat,
    ),
    Builtin(
        "reverse",
        (_X, BuiltinParameter("axes", "axis", is_variadic=True)),
        "The elements along axes from the last to the first.",
        _reverse,
    ),
    Builtin(
        "pad",
        (
            _X,
            BuiltinParameter("low"),
            BuiltinParameter("high"),
            BuiltinParameter("axis", "axis", -1, True),
            BuiltinParameter("value", "value", 0.0, True),
        ),
        "`low` elements of `value` before and `high` after, along an axis.",
        _pad,
    ),
    Builtin(
        "gather",
        (_X, BuiltinParameter("indices"), BuiltinParameter("axis", "axis", 1, True)),
        "Of each row of `x`, the elements along an axis at that row's own `indices`; one out of range is the nearest.",
        _gather,
    ),
    Builtin(
        "einsum",
        (BuiltinParameter("pattern"), BuiltinParameter("x", is_variadic=True)),
        'The product of tensors by axis names: `einsum("b i d, b j d -> b i j", q, k)`.',
        _einsum,
    ),
    Builtin(
        "rearrange",
        (_X, BuiltinParameter("pattern")),
        'Axes moved, split and merged by names: `rearrange(x, "b t (h d) -> b h t d", h = 8)`.',
        _rearrange,
        takes_any_keyword=True,
    ),
)

SOURCES: tuple[Builtin, ...] = (
    _constant("zeros", 0.0, "A tensor of zeros."),
    _constant("ones", 1.0, "A tensor of ones."),
    Builtin("full", (BuiltinParameter("value"), _DIMENSIONS), "A tensor filled with a number.", _full),
    _constant_like("zeros_like", 0.0, "Zeros in the shape and element type of `x`."),
    _constant_like("ones_like", 1.0, "Ones in the shape and element type of `x`."),
    Builtin("arange", _COUNT, "The integers from 0 to n - 1, as i32.", _arange),
    Builtin("iota", _COUNT, "The integers from 0 to n - 1, as i32; the same as `arange`.", _arange),
    Builtin("random", (_DIMENSIONS,), "Numbers drawn uniformly from [0, 1), anew at each step.", _random),
    Builtin("random_like", (_X,), "Numbers drawn uniformly from [0, 1), in the shape of `x`.", _random_like),
)
