"""The inputs of a `scan`: the sequences it runs over, its axis, and its settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from compiler.errors.diagnostics import Note, hint
from compiler.frontend.axes import Axis
from compiler.frontend.bodies.scan_values import known
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.tensors.numbers import decided
from compiler.frontend.tensors.operators import binary, logic
from compiler.frontend.tensors.shapes import UNNAMED, origin_notes, resolve_axis, shown
from compiler.frontend.values import AxisName, TensorValue, Value, describe, is_number
from compiler.ops.movement import Transpose
from compiler.ops.sources import Iota
from compiler.support.record import record
from compiler.syntax import tree
from compiler.types import BatchExtent, DType


@record
class ScannedSteps:
    """Tensors with the scanned axis first: the inputs, whether a step counts, and whether a gradient stops before it.

    `place` is where stacks of what is emitted have the scanned axis; a negative one counts from the end.
    """

    length: int
    place: int
    axis: Axis
    is_reversed: bool
    stacks: tuple[TensorValue, ...]
    mask: TensorValue | None
    cuts: TensorValue | None


def steps_of(elaborator: Elaborator, scan: tree.Scan) -> ScannedSteps:
    """Evaluate everything before the body but the carries."""
    values = [known(elaborator, scanned.value) for scanned in scan.inputs]
    axis = elaborator.evaluate_axis(scan.axis)
    lengths: list[int] = []
    stacks: list[TensorValue] = []
    place: int | None = None
    named = Axis(origin=scan.inputs[0].span)
    for scanned, value in zip(scan.inputs, values, strict=True):
        elaborator.span = scanned.value.span
        if isinstance(value, TensorValue):
            found = resolve_axis(elaborator, value, axis)
            if place is None:
                place, named = found, value.axes[found]
            value = _axis_first(elaborator, value, found)
        else:
            value = _positions(elaborator, value)
        lengths.append(_length(elaborator, scan, value, lengths))
        stacks.append(value)
    if place is None:
        place = _place_of_stacks(elaborator, scan, axis)
    options = {option.name: option for option in scan.options}
    is_reversed = _reversed(elaborator, options.get("reverse"))
    mask = _mask(elaborator, options.get("where"), axis, place, lengths[0])
    cuts = _cuts(elaborator, options.get("truncate"), lengths[0], is_reversed)
    return ScannedSteps(lengths[0], place, named, is_reversed, tuple(stacks), mask, cuts)


def _axis_first(elaborator: Elaborator, tensor: TensorValue, place: int) -> TensorValue:
    if isinstance(tensor.shape[place], BatchExtent):
        elaborator.fail(
            "E0419",
            f"a `scan` over the batch, of {shown(elaborator, tensor)}: the rows of a batch do not follow one another",
            hint("scan over another axis, of a length that is known when the program is elaborated"),
        )
    order = (place, *(i for i in range(tensor.rank) if i != place))
    value = tensor.value if place == 0 else elaborator.emit(Transpose(order), tensor.value)
    return TensorValue(value, tuple(tensor.axes[i] for i in order))


def _positions(elaborator: Elaborator, value: Value) -> TensorValue:
    if not isinstance(value, range):
        elaborator.fail(
            "E0312",
            f"a `scan` runs over a tensor or a range, not {describe(value)}",
            hint("a `for` runs over a list"),
        )
    if not value:
        elaborator.fail("E0419", f"a `scan` needs at least one step, and {describe(value)} has none")
    positions = TensorValue(elaborator.emit(Iota((len(value),), 0, DType.I32)), (Axis(origin=elaborator.here),))
    return binary(elaborator, "+", positions, value.start) if value.start else positions


def _length(elaborator: Elaborator, scan: tree.Scan, stack: TensorValue, before: Sequence[int]) -> int:
    length = stack.shape[0]
    assert isinstance(length, int)
    if length == 0:
        elaborator.fail("E0419", "a `scan` needs at least one step, and this axis is 0 long")
    if before and length != before[0]:
        names = [scanned.name for scanned in scan.inputs]
        elaborator.fail(
            "E0419",
            f"the inputs of this `scan` have different lengths: `{names[0]}` {before[0]}, `{names[len(before)]}` "
            f"{length}",
            Note(f"`{names[0]}` comes from here", scan.inputs[0].span),
            *origin_notes(elaborator, (length, stack.axes[0])),
        )
    return length


def _place_of_stacks(elaborator: Elaborator, scan: tree.Scan, axis: Value) -> int:
    """The axis of a scan over ranges alone, which no tensor has."""
    elaborator.span = scan.axis.span
    if isinstance(axis, AxisName) or not is_number(axis):
        elaborator.fail(
            "E0406",
            "a range has no dimensions that could be named",
            hint("`over 1` says where the emitted tensors have the axis of the steps"),
        )
    return int(decided(elaborator, axis))


def _reversed(elaborator: Elaborator, option: tree.Keyword | None) -> bool:
    value = False if option is None else known(elaborator, option.value)
    if not isinstance(value, bool):
        elaborator.fail("E0312", f"`reverse` is `true` or `false`, not {describe(value)}")
    return value


def _mask(
    elaborator: Elaborator, option: tree.Keyword | None, axis: Value, place: int, length: int
) -> TensorValue | None:
    value = None if option is None else known(elaborator, option.value)
    if value is None or value is True:
        return None
    if not isinstance(value, TensorValue):
        elaborator.fail("E0312", f"`where` of a `scan` is a tensor of bool, not {describe(value)}")
    if value.dtype is not DType.BOOL:
        elaborator.fail("E0416", f"`where` is a tensor of bool, not {shown(elaborator, value)}")
    wanted = axis if isinstance(axis, AxisName) else place
    found = 0 if value.rank == 1 else resolve_axis(elaborator, value, wanted)
    if value.shape[found] != length:
        _mask_of_another_length(elaborator, value, length)
    return _axis_first(elaborator, value, found)


def _mask_of_another_length(elaborator: Elaborator, mask: TensorValue, length: int) -> NoReturn:
    elaborator.fail("E0419", f"this `scan` has {length} steps, and its mask is {shown(elaborator, mask)}")


def _cuts(elaborator: Elaborator, option: tree.Keyword | None, length: int, is_reversed: bool) -> TensorValue | None:
    """For each step but the first, whether its number is a multiple of `truncate`."""
    value = None if option is None else known(elaborator, option.value)
    if value is None:
        return None
    number = decided(elaborator, value) if is_number(value) else 0
    if not isinstance(number, int) or number < 1:
        elaborator.fail("E0312", f"`truncate` is a whole number of steps from 1, not {describe(value)}")
    if number >= length:
        return None
    count = TensorValue(elaborator.emit(Iota((length,), 0, DType.I32)), (UNNAMED,))
    if is_reversed:
        count = binary(elaborator, "-", length - 1, count)
    is_multiple = binary(elaborator, "==", binary(elaborator, "%", count, number), 0)
    return logic(elaborator, "and", is_multiple, binary(elaborator, "!=", count, 0))
