"""Which windows an element was read by: along a folded axis, positions of one residue modulo the stride are alike."""

from __future__ import annotations

from compiler.ops.window import Fold
from compiler.support.record import record
from compiler.types import Extent


@record
class Tap:
    """Element `p * stride + residue` was read by window `p + shift` at this tap."""

    number: int
    shift: int


@record
class FoldedAxis:
    """A folded axis: the elements of a residue class, the taps of each class, and the zeros that their slices need."""

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
