"""Built-in reductions: `sum`, `mean` and their like, over axes by number or name, with masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from compiler.diagnostics import hint
from compiler.frontend.builtins.table import Arguments, Builtin, BuiltinParameter
from compiler.frontend.machine import Machine
from compiler.frontend.tensors.binding import expect_tensor
from compiler.frontend.tensors.operators import (
    arithmetic,
    binary,
    cast,
    choose,
    numeric,
    real,
    scalar,
    spread,
    with_unit_axes,
)
from compiler.frontend.tensors.shapes import broadcast, resolve_axes, resolve_axis, shown
from compiler.frontend.values import Axis, BatchValue, TensorValue, Value
from compiler.graph import ir
from compiler.ops.elementwise import Cast, Divide, Maximum
from compiler.ops.movement import Transpose
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments
from compiler.ops.spreading import Reshape, Sum
from compiler.types import BatchExtent, DType, depends_on_batch, static_elements

_X = BuiltinParameter("x")
_AXIS = BuiltinParameter("axis", "axis", None, is_keyword_only=True)
_KEEP = BuiltinParameter("keepdims", "value", False, is_keyword_only=True)
_WHERE = BuiltinParameter("where", "value", None, is_keyword_only=True)


def _sum(machine: Machine, arguments: Arguments) -> Value:
    tensor, axes = _operand(machine, arguments)
    return _kept(machine, arguments, tensor, axes, _total(machine, arguments, tensor, axes))


def _total(machine: Machine, arguments: Arguments, tensor: TensorValue, axes: Sequence[int]) -> ir.Value:
    if tensor.dtype in (DType.BOOL, DType.U8):
        tensor = cast(machine, tensor, DType.I32)
    mask = _mask(machine, arguments, tensor)
    if mask is not None:
        tensor = choose(machine, mask, tensor, 0)
    return machine.emit(Sum(tuple(axes)), tensor.value)


def _mean(machine: Machine, arguments: Arguments) -> Value:
    tensor, axes = _operand(machine, arguments)
    return _kept(machine, arguments, tensor, axes, _average(machine, arguments, real(machine, tensor), axes))


def _average(machine: Machine, arguments: Arguments, tensor: TensorValue, axes: Sequence[int]) -> ir.Value:
    total = _total(machine, arguments, tensor, axes)
    mask = _mask(machine, arguments, tensor)
    if mask is None:
        count = scalar(machine, _count(tensor, axes), tensor.dtype)
        return machine.emit(Divide(), total, spread(machine, count, total.type.shape))
    kept = machine.emit(Sum(tuple(axes)), machine.emit(Cast(tensor.dtype), spread(machine, mask, tensor.shape)))
    one = spread(machine, scalar(machine, 1, tensor.dtype), kept.type.shape)
    # Where everything is masked, 0 / 1.
    return machine.emit(Divide(), total, machine.emit(Maximum(), kept, one))


def _count(tensor: TensorValue, axes: Sequence[int]) -> Value:
    extents = tuple(tensor.shape[axis] for axis in axes)
    count = math.prod(static_elements((extent,)) for extent in extents)
    return BatchValue(count) if depends_on_batch(extents) else count


def _variance(machine: Machine, arguments: Arguments) -> Value:
    tensor, axes = _operand(machine, arguments)
    tensor = real(machine, tensor)
    if _mask(machine, arguments, tensor) is None:
        _, variance = machine.emit_all(Moments(tuple(axes)), tensor.value)
        return _kept(machine, arguments, tensor, axes, variance)
    mean = _average(machine, arguments, tensor, axes)
    wide = with_unit_axes(machine, TensorValue(mean, _without(tensor, axes)), list(axes))
    distance = binary(machine, "-", tensor, wide)
    square = binary(machine, "*", distance, distance)
    return _kept(machine, arguments, tensor, axes, _average(machine, arguments, square, axes))


def _extreme(name: str) -> Builtin:
    """`max` and `min`: elementwise of two, a reduction of one."""
    op, start = (Max, -math.inf) if name == "max" else (Min, math.inf)

    def evaluate(machine: Machine, arguments: Arguments) -> Value:
        values = arguments["x"]
        assert isinstance(values, tuple)
        is_reduction = any(arguments[option] not in (None, False) for option in ("axis", "keepdims", "where"))
        if len(values) == 1 and isinstance(values[0], tuple):
            values = values[0]
        elif len(values) == 1 and isinstance(values[0], TensorValue):
            return reduce(machine, {**arguments, "x": values[0]})
        if is_reduction:
            machine.fail("E0303", f"`{name}` over an axis takes one tensor, but {len(values)} values are given")
        if not values:
            machine.fail("E0302", f"`{name}` of nothing", hint(f"write `{name}(a, b)` or `{name}(x, axis = 0)`"))
        result = values[0]
        for value in values[1:]:
            result = arithmetic(machine, name, result, value)
        return result

    def reduce(machine: Machine, arguments: Arguments) -> Value:
        tensor, axes = _operand(machine, arguments)
        tensor = numeric(machine, tensor)
        mask = _mask(machine, arguments, tensor)
        if mask is not None:
            tensor = choose(machine, mask, real(machine, tensor), start)
        if any(tensor.shape[axis] == 0 for axis in axes):
            machine.fail("E0406", f"`{name}` over an axis of 0 elements, of {shown(machine, tensor)}")
        return _kept(machine, arguments, tensor, axes, machine.emit(op(tuple(axes)), tensor.value))

    document = f"Elementwise {name}imum of two values, or the {name}imum of one tensor over axes."
    many = BuiltinParameter("x", is_variadic=True)
    return Builtin(name, (many, _AXIS, _KEEP, _WHERE), document, evaluate)


def _argmax(machine: Machine, arguments: Arguments) -> Value:
    tensor = numeric(machine, expect_tensor(machine, arguments["x"], "`x` of `argmax`"))
    if arguments["axis"] is None:
        value = machine.emit(Reshape((_flat(machine, tensor),)), tensor.value)
        return TensorValue(machine.emit(ArgMax(0), value), ())
    axis = resolve_axis(machine, tensor, arguments["axis"])
    return _kept(machine, arguments, tensor, (axis,), machine.emit(ArgMax(axis), tensor.value))


def _flat(machine: Machine, tensor: TensorValue) -> int:
    if any(isinstance(extent, BatchExtent) for extent in tensor.shape):
        machine.fail(
            "E0406", "`argmax` over all axes would run over the batch", hint("give an axis: `argmax(x, axis = -1)`")
        )
    return static_elements(tensor.shape)


def _cumsum(machine: Machine, arguments: Arguments) -> Value:
    tensor = numeric(machine, expect_tensor(machine, arguments["x"], "`x` of `cumsum`"))
    axis = resolve_axis(machine, tensor, arguments["axis"])
    is_reversed = arguments["reverse"] is True
    return TensorValue(machine.emit(CumulativeSum(axis, is_reversed), tensor.value), tensor.axes)


def _truth(name: str) -> Builtin:
    """`all` and `any` of booleans: the smallest and largest of 0 and 1."""
    op = Min if name == "all" else Max

    def evaluate(machine: Machine, arguments: Arguments) -> Value:
        tensor, axes = _operand(machine, arguments)
        if tensor.dtype is not DType.BOOL:
            machine.fail("E0416", f"`{name}` needs a tensor of bool, not {shown(machine, tensor)}")
        numbers = machine.emit(op(tuple(axes)), machine.emit(Cast(DType.I32), tensor.value))
        return _kept(machine, arguments, tensor, axes, machine.emit(Cast(DType.BOOL), numbers))

    return Builtin(name, (_X, _AXIS, _KEEP), f"Whether {name} of the elements along axes are true.", evaluate)


def _operand(machine: Machine, arguments: Arguments) -> tuple[TensorValue, tuple[int, ...]]:
    value = arguments["x"]
    tensor = (
        scalar(machine, value, DType.F32) if isinstance(value, int | float) else expect_tensor(machine, value, "`x`")
    )
    return tensor, resolve_axes(machine, tensor, arguments["axis"])


def _mask(machine: Machine, arguments: Arguments, tensor: TensorValue) -> TensorValue | None:
    """The mask of a reduction, where there is one, placed by its names where they say where it belongs."""
    value = arguments.get("where")
    if value is None or value is True:
        return None
    mask = expect_tensor(machine, value, "`where`")
    if mask.dtype is not DType.BOOL:
        machine.fail("E0416", f"`where` is a tensor of bool, not {shown(machine, mask)}")
    if is_placed_by_names(mask, tensor):
        mask = aligned(machine, mask, tensor)
    elif _has_leading_axes(mask, tensor):
        mask = with_unit_axes(machine, mask, list(range(mask.rank, tensor.rank)))
    shape, _ = broadcast(machine, "where", mask, tensor)
    if shape != tensor.shape:
        machine.fail("E0401", f"the mask {shown(machine, mask)} is larger than {shown(machine, tensor)}")
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
    machine: Machine, arguments: Arguments, tensor: TensorValue, axes: Sequence[int], reduced: ir.Value
) -> TensorValue:
    """The result of a reduction, with axes of 1 in the places of the reduced ones if `keepdims` says so."""
    result = TensorValue(reduced, _without(tensor, axes))
    return with_unit_axes(machine, result, list(axes)) if arguments["keepdims"] is True else result


def aligned(machine: Machine, value: TensorValue, to: TensorValue) -> TensorValue:
    """`align(v, x)`: each named dimension of `v` where `x` has it, and 1 elsewhere."""
    places: list[int] = []
    for extent, axis in zip(value.shape, value.axes, strict=True):
        found = {i for label in axis.labels for i, other in enumerate(to.axes) if label in other.labels}
        if len(found) != 1:
            name = max(axis.labels)[1] if axis.labels else str(extent)
            reason = "has no such dimension" if not found else "has it more than once"
            machine.fail(
                "E0406",
                f"`align` of {shown(machine, value)} to {shown(machine, to)}: the second tensor {reason} for `{name}`",
                hint("only axes with the name of a dimension can be aligned; an index with `None` adds an axis of 1"),
            )
        places.append(found.pop())
    if len(set(places)) != len(places):
        machine.fail(
            "E0406", f"`align` of {shown(machine, value)}: two of its dimensions are the same one of the other"
        )
    order = sorted(range(len(places)), key=places.__getitem__)
    node = value.value
    if order != list(range(len(order))):
        node = machine.emit(Transpose(tuple(order)), node)
    moved = TensorValue(node, tuple(value.axes[i] for i in order))
    first = min(places, default=0)
    missing = [i - first for i in range(first, to.rank) if i not in places]
    return with_unit_axes(machine, moved, missing)


def _align(machine: Machine, arguments: Arguments) -> Value:
    value = arguments["v"]
    to = expect_tensor(machine, arguments["x"], "`x` of `align`")
    return aligned(machine, value, to) if isinstance(value, TensorValue) else value


REDUCTIONS: tuple[Builtin, ...] = (
    Builtin("sum", (_X, _AXIS, _KEEP, _WHERE), "The sum over axes, by default over all.", _sum),
    Builtin("mean", (_X, _AXIS, _KEEP, _WHERE), "The mean over axes; 0 where everything is masked.", _mean),
    Builtin("variance", (_X, _AXIS, _KEEP, _WHERE), "The mean squared distance from the mean over axes.", _variance),
    _extreme("max"),
    _extreme("min"),
    Builtin(
        "argmax", (_X, _AXIS, _KEEP), "The position of the largest element along an axis; the first of ties.", _argmax
    ),
    Builtin(
        "cumsum",
        (_X, BuiltinParameter("axis", "axis", -1, True), BuiltinParameter("reverse", "value", False, True)),
        "Running sums along an axis.",
        _cumsum,
    ),
    _truth("all"),
    _truth("any"),
    Builtin(
        "align",
        (BuiltinParameter("v"), _X),
        "`v` with each of its named dimensions where `x` has it, and 1 elsewhere.",
        _align,
    ),
)
