"""Built-in reductions: `sum`, `mean` and their like, over axes by number or name, with masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from compiler.errors.diagnostics import hint
from compiler.frontend.axes import Axis
from compiler.frontend.builtins.table import Arguments, AxisValue, Builtin, BuiltinParameter, X, built_in
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.tensors import operators
from compiler.frontend.tensors.binding import expect_tensor
from compiler.frontend.tensors.shapes import broadcast, resolve_axes, resolve_axis, shown
from compiler.frontend.values import BatchValue, TensorValue, TupleValue, Value
from compiler.graph import ir
from compiler.ops.elementwise import Cast, Divide, Maximum
from compiler.ops.movement import Transpose
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments
from compiler.ops.spreading import Reshape, Sum
from compiler.types import BatchExtent, DType, depends_on_batch, static_elements

_AXIS = BuiltinParameter("axis", "axis", None, is_keyword_only=True)
_KEEP = BuiltinParameter("keepdims", "value", False, is_keyword_only=True)
_WHERE = BuiltinParameter("where", "value", None, is_keyword_only=True)


def _sum(elaborator: Elaborator, **arguments: Value) -> Value:
    tensor, axes = _operand(elaborator, arguments)
    return _kept(elaborator, arguments, tensor, axes, _total(elaborator, arguments, tensor, axes))


def _total(elaborator: Elaborator, arguments: Arguments, tensor: TensorValue, axes: Sequence[int]) -> ir.Value:
    tensor = operators.computable(elaborator, tensor)
    if tensor.dtype in (DType.BOOL, DType.U8):
        tensor = operators.cast(elaborator, tensor, DType.I32)
    mask = _mask(elaborator, arguments, tensor)
    if mask is not None:
        tensor = operators.choose(elaborator, mask, tensor, 0)
    return elaborator.emit(Sum(tuple(axes)), tensor.value)


def _mean(elaborator: Elaborator, **arguments: Value) -> Value:
    tensor, axes = _operand(elaborator, arguments)
    return _kept(
        elaborator, arguments, tensor, axes, _average(elaborator, arguments, operators.real(elaborator, tensor), axes)
    )


def _average(elaborator: Elaborator, arguments: Arguments, tensor: TensorValue, axes: Sequence[int]) -> ir.Value:
    total = _total(elaborator, arguments, tensor, axes)
    mask = _mask(elaborator, arguments, tensor)
    if mask is None:
        count = operators.scalar(elaborator, _count(tensor, axes), tensor.dtype)
        return elaborator.emit(Divide(), total, operators.spread(elaborator, count, total.type.shape))
    kept = elaborator.emit(
        Sum(tuple(axes)), elaborator.emit(Cast(tensor.dtype), operators.spread(elaborator, mask, tensor.shape))
    )
    one = operators.spread(elaborator, operators.scalar(elaborator, 1, tensor.dtype), kept.type.shape)
    # Where everything is masked, 0 / 1.
    return elaborator.emit(Divide(), total, elaborator.emit(Maximum(), kept, one))


def _count(tensor: TensorValue, axes: Sequence[int]) -> Value:
    extents = tuple(tensor.shape[axis] for axis in axes)
    count = math.prod(static_elements((extent,)) for extent in extents)
    return BatchValue(count) if depends_on_batch(extents) else count


def _variance(elaborator: Elaborator, **arguments: Value) -> Value:
    tensor, axes = _operand(elaborator, arguments)
    tensor = operators.real(elaborator, tensor)
    if _is_empty(tensor, axes):
        return _kept(elaborator, arguments, tensor, axes, _average(elaborator, arguments, tensor, axes))
    if _mask(elaborator, arguments, tensor) is None:
        _, variance = elaborator.emit_all(Moments(tuple(axes)), tensor.value)
        return _kept(elaborator, arguments, tensor, axes, variance)
    mean = _average(elaborator, arguments, tensor, axes)
    wide = operators.with_unit_axes(elaborator, TensorValue(mean, _without(tensor, axes)), list(axes))
    distance = operators.binary(elaborator, "-", tensor, wide)
    square = operators.binary(elaborator, "*", distance, distance)
    return _kept(elaborator, arguments, tensor, axes, _average(elaborator, arguments, square, axes))


def _moments(elaborator: Elaborator, **arguments: Value) -> Value:
    tensor, axes = _operand(elaborator, arguments)
    tensor = operators.real(elaborator, tensor)
    if _is_empty(tensor, axes):
        both = (_average(elaborator, arguments, tensor, axes),) * 2
    else:
        both = elaborator.emit_all(Moments(tuple(axes)), tensor.value)
    return TupleValue(tuple(_kept(elaborator, arguments, tensor, axes, value) for value in both))


def _extreme(name: str) -> Builtin:
    """`max` and `min`: elementwise of two, a reduction of one."""
    op, start = (Max, -math.inf) if name == "max" else (Min, math.inf)

    def evaluate(elaborator: Elaborator, x: tuple[Value, ...], **arguments: Value) -> Value:
        values = x
        is_reduction = any(arguments[option] not in (None, False) for option in ("axis", "keepdims", "where"))
        if len(values) == 1 and isinstance(values[0], tuple):
            values = values[0]
        elif len(values) == 1 and isinstance(values[0], TensorValue):
            return reduce(elaborator, {**arguments, "x": values[0]})
        if is_reduction:
            elaborator.fail("E0303", f"`{name}` over an axis takes one tensor, but {len(values)} values are given")
        if not values:
            elaborator.fail("E0302", f"`{name}` of nothing", hint(f"write `{name}(a, b)` or `{name}(x, axis = 0)`"))
        result = values[0]
        for value in values[1:]:
            result = operators.arithmetic(elaborator, name, result, value)
        return result

    def reduce(elaborator: Elaborator, arguments: Arguments) -> Value:
        tensor, axes = _operand(elaborator, arguments)
        tensor = operators.numeric(elaborator, tensor)
        mask = _mask(elaborator, arguments, tensor)
        if mask is not None:
            tensor = operators.choose(elaborator, mask, operators.real(elaborator, tensor), start)
        _expect_elements(elaborator, name, tensor, axes)
        return _kept(elaborator, arguments, tensor, axes, elaborator.emit(op(tuple(axes)), tensor.value))

    document = f"Elementwise {name}imum of two values, or the {name}imum of one tensor over axes."
    many = BuiltinParameter("x", is_variadic=True)
    return Builtin(name, (many, _AXIS, _KEEP, _WHERE), document, evaluate)


def _argmax(elaborator: Elaborator, x: TensorValue, *, axis: AxisValue = None, keepdims: Value = False) -> Value:
    """The position of the largest element along an axis; the first of ties."""
    tensor = operators.numeric(elaborator, x)
    if axis is None:
        count = _flat(elaborator, tensor)
        _expect_elements(elaborator, "argmax", tensor, range(tensor.rank))
        return TensorValue(elaborator.emit(ArgMax(0), elaborator.emit(Reshape((count,)), tensor.value)), ())
    place = resolve_axis(elaborator, tensor, axis)
    _expect_elements(elaborator, "argmax", tensor, (place,))
    largest = elaborator.emit(ArgMax(place), tensor.value)
    return _kept(elaborator, {"keepdims": keepdims}, tensor, (place,), largest)


def _flat(elaborator: Elaborator, tensor: TensorValue) -> int:
    if any(isinstance(extent, BatchExtent) for extent in tensor.shape):
        elaborator.fail(
            "E0406", "`argmax` over all axes would run over the batch", hint("give an axis: `argmax(x, axis = -1)`")
        )
    return static_elements(tensor.shape)


def _cumsum(elaborator: Elaborator, x: TensorValue, *, axis: AxisValue = -1, reverse: Value = False) -> Value:
    """Running sums along an axis."""
    tensor = operators.numeric(elaborator, x)
    op = CumulativeSum(resolve_axis(elaborator, tensor, axis), reverse is True)
    return TensorValue(elaborator.emit(op, tensor.value), tensor.axes)


def _truth(name: str) -> Builtin:
    """`all` and `any` of booleans: the smallest and largest of 0 and 1."""
    op = Min if name == "all" else Max

    def evaluate(elaborator: Elaborator, **arguments: Value) -> Value:
        tensor, axes = _operand(elaborator, arguments)
        if tensor.dtype is not DType.BOOL:
            elaborator.fail("E0416", f"`{name}` needs a tensor of bool, not {shown(elaborator, tensor)}")
        if _is_empty(tensor, axes):  # nothing is false, and nothing true
            shape = tuple(tensor.shape[i] for i in range(tensor.rank) if i not in axes)
            found = operators.spread(elaborator, operators.scalar(elaborator, name == "all", DType.BOOL), shape)
        else:
            numbers = elaborator.emit(op(tuple(axes)), elaborator.emit(Cast(DType.I32), tensor.value))
            found = elaborator.emit(Cast(DType.BOOL), numbers)
        return _kept(elaborator, arguments, tensor, axes, found)

    return Builtin(name, (X, _AXIS, _KEEP), f"Whether {name} of the elements along axes are true.", evaluate)


def _is_empty(tensor: TensorValue, axes: Sequence[int]) -> bool:
    return any(tensor.shape[axis] == 0 for axis in axes)


def _expect_elements(elaborator: Elaborator, name: str, tensor: TensorValue, axes: Sequence[int]) -> None:
    if _is_empty(tensor, axes):
        message = f"`{name}` over an axis of 0 elements, of {shown(elaborator, tensor)}"
        elaborator.fail("E0406", message, hint("no element is there to choose; `if` can ask for the size of an axis"))


def _operand(elaborator: Elaborator, arguments: Arguments) -> tuple[TensorValue, tuple[int, ...]]:
    value = arguments["x"]
    tensor = (
        operators.scalar(elaborator, value, DType.F32)
        if isinstance(value, int | float)
        else expect_tensor(elaborator, value, "`x`")
    )
    return tensor, resolve_axes(elaborator, tensor, arguments["axis"])


def _mask(elaborator: Elaborator, arguments: Arguments, tensor: TensorValue) -> TensorValue | None:
    """The mask of a reduction, where there is one, placed by its names where they say where it belongs."""
    value = arguments.get("where")
    if value is None or value is True:
        return None
    mask = expect_tensor(elaborator, value, "`where`")
    if mask.dtype is not DType.BOOL:
        elaborator.fail("E0416", f"`where` is a tensor of bool, not {shown(elaborator, mask)}")
    if is_placed_by_names(mask, tensor):
        mask = aligned(elaborator, mask, tensor)
    elif _has_leading_axes(mask, tensor):
        mask = operators.with_unit_axes(elaborator, mask, list(range(mask.rank, tensor.rank)))
    shape, _ = broadcast(elaborator, "where", mask, tensor)
    if shape != tensor.shape:
        elaborator.fail("E0401", f"the mask {shown(elaborator, mask)} is larger than {shown(elaborator, tensor)}")
    return mask


def is_placed_by_names(mask: TensorValue, tensor: TensorValue) -> bool:
    """Whether a tensor with more axes has each named dimension of the mask once."""
    names = [label for axis in tensor.axes for label in axis.labels]
    return mask.rank < tensor.rank and all(any(names.count(label) == 1 for label in axis.labels) for axis in mask.axes)


def _has_leading_axes(mask: TensorValue, tensor: TensorValue) -> bool:
    """Whether a mask of rows [batch, 40] stands before further axes: at the right, it would meet nothing it fits."""
    begins = mask.rank < tensor.rank and mask.shape == tensor.shape[: mask.rank]
    return begins and mask.rank > 0 and isinstance(mask.shape[0], BatchExtent)


def _without(tensor: TensorValue, axes: Sequence[int]) -> tuple[Axis, ...]:
    return tuple(axis for i, axis in enumerate(tensor.axes) if i not in axes)


def _kept(
    elaborator: Elaborator, arguments: Arguments, tensor: TensorValue, axes: Sequence[int], reduced: ir.Value
) -> TensorValue:
    """The result of a reduction, with axes of 1 in the places of the reduced ones if `keepdims` says so."""
    result = TensorValue(reduced, _without(tensor, axes))
    return operators.with_unit_axes(elaborator, result, list(axes)) if arguments["keepdims"] is True else result


def aligned(elaborator: Elaborator, value: TensorValue, to: TensorValue) -> TensorValue:
    """`align(v, x)`: each named dimension of `v` where `x` has it, and 1 elsewhere."""
    places: list[int] = []
    for extent, axis in zip(value.shape, value.axes, strict=True):
        found = {i for label in axis.labels for i, other in enumerate(to.axes) if label in other.labels}
        if len(found) != 1:
            name = max(axis.labels)[1] if axis.labels else str(extent)
            reason = "has no such dimension" if not found else "has it more than once"
            elaborator.fail(
                "E0406",
                f"`align` of {shown(elaborator, value)} to {shown(elaborator, to)}: "
                f"the second tensor {reason} for `{name}`",
                hint("only axes with the name of a dimension can be aligned; an index with `None` adds an axis of 1"),
            )
        places.append(found.pop())
    if len(set(places)) != len(places):
        elaborator.fail(
            "E0406", f"`align` of {shown(elaborator, value)}: two of its dimensions are the same one of the other"
        )
    order = sorted(range(len(places)), key=places.__getitem__)
    node = value.value
    if order != list(range(len(order))):
        node = elaborator.emit(Transpose(tuple(order)), node)
    moved = TensorValue(node, tuple(value.axes[i] for i in order))
    first = min(places, default=0)
    missing = [i - first for i in range(first, to.rank) if i not in places]
    return operators.with_unit_axes(elaborator, moved, missing)


def _align(elaborator: Elaborator, v: Value, x: TensorValue) -> Value:
    """`v` with each of its named dimensions where `x` has it, and 1 elsewhere."""
    return aligned(elaborator, v, x) if isinstance(v, TensorValue) else v


REDUCTIONS: tuple[Builtin, ...] = (
    Builtin("sum", (X, _AXIS, _KEEP, _WHERE), "The sum over axes, by default over all.", _sum),
    Builtin("mean", (X, _AXIS, _KEEP, _WHERE), "The mean over axes; 0 where everything is masked.", _mean),
    Builtin("variance", (X, _AXIS, _KEEP, _WHERE), "The mean squared distance from the mean over axes.", _variance),
    Builtin("moments", (X, _AXIS, _KEEP), "The mean and the variance over axes, both of one reading.", _moments),
    _extreme("max"),
    _extreme("min"),
    *map(built_in, (_argmax, _cumsum)),
    _truth("all"),
    _truth("any"),
    built_in(_align),
)
