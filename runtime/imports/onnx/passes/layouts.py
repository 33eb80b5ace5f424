"""The source of each element of a moved tensor: each axis as a product of parts of the axes of its source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from compiler.support.record import record
from runtime.imports.onnx.graph import Node
from runtime.imports.onnx.passes.matching import View

MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "Gather", "Split")


@record
class Part:
    """`size` elements of an axis of the source, `stride` apart."""

    axis: int
    stride: int
    size: int


Axes: TypeAlias = tuple[tuple[Part, ...], ...]


@record
class Layout:
    """A tensor in terms of another, at the first point of the free sizes.

    An axis runs through its parts like the digits of a number, the last of them fastest. `first` has, for each axis of
    the source, the index from which its parts count. An axis of one element has no part.
    """

    axes: Axes
    first: tuple[int, ...]

    @property
    def order(self) -> tuple[Part, ...]:
        """All parts, as the elements lie in memory."""
        return tuple(part for axis in self.axes for part in axis)


def whole(shape: Sequence[int]) -> Layout:
    """A tensor in terms of itself."""
    axes = tuple((Part(axis, 1, size),) if size != 1 else () for axis, size in enumerate(shape))
    return Layout(axes, (0,) * len(shape))


def regrouped(parts: Sequence[Part], shape: Sequence[int]) -> Axes | None:
    """The parts as axes of those sizes, in order; None where a size cuts through a part."""
    pending = list(parts)[::-1]
    axes: list[tuple[Part, ...]] = []
    for size in shape:
        taken: list[Part] = []
        while size > 1:
            if not pending:
                return None
            part = pending.pop()
            if size % part.size == 0:
                taken.append(part)
                size //= part.size
            elif part.size % size == 0:
                rest = part.size // size
                taken.append(Part(part.axis, part.stride * rest, size))
                pending.append(Part(part.axis, part.stride, rest))
                size = 1
            else:
                return None
        axes.append(joined(taken))
    return None if pending else tuple(axes)


def joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The same axis with neighbouring parts as one, where they are."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if last is not None and last.axis == part.axis and last.stride == part.stride * part.size:
            found[-1] = Part(part.axis, part.stride, last.size * part.size)
        else:
            found.append(part)
    return tuple(found)


def moved(view: View, node: Node, output: str, layout: Layout) -> Layout | None:
    """The layout behind a node that moves elements; None where it does more."""
    shape = view.graph.values[output].shapes[0]
    if node.op == "Transpose":
        order: list[int] = list(node.attributes.get("perm", range(len(layout.axes))[::-1]))
        return Layout(tuple(layout.axes[axis] for axis in order), layout.first)
    if node.op in ("Slice", "Split"):
        return _cut(view, node, output, layout)
    if node.op == "Gather":
        return _element(view, node, layout)
    axes = regrouped(layout.order, shape)
    return None if axes is None else Layout(axes, layout.first)


def _shifted(layout: Layout, axis: int, start: int, size: int | None) -> Layout | None:
    """A stretch of an axis that is one part; without a size, one element of it, and the axis goes."""
    axes, first = list(layout.axes), list(layout.first)
    if len(axes[axis]) == 1:
        part = axes[axis][0]
        first[part.axis] += part.stride * start
        axes[axis] = () if size in (None, 1) else (Part(part.axis, part.stride, size or 1),)
    elif axes[axis] or start:
        return None
    if size is None:
        del axes[axis]
    return Layout(tuple(axes), tuple(first))


def _cut(view: View, node: Node, output: str, layout: Layout) -> Layout | None:
    values = view.graph.values
    before, after = values[node.inputs[0]].shapes[0], values[output].shapes[0]
    changed = [axis for axis, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    if not changed:
        return layout
    if len(changed) > 1:
        return None
    axis = changed[0]
    if node.op == "Split":
        place = node.outputs.index(output)
        start = sum(values[name].shapes[0][axis] for name in node.outputs[:place])
    else:
        found = slice_start(view, node, axis, len(before))
        if found is None:
            return None
        start = found % before[axis]
    return _shifted(layout, axis, start, after[axis])


def slice_start(view: View, node: Node, axis: int, rank: int) -> int | None:
    """The first index that a `Slice` of step 1 takes along an axis."""
    if node.version < 10:
        starts, axes, steps = node.attributes["starts"], node.attributes.get("axes"), None
    else:
        contents = [
            None if i >= len(node.inputs) or not node.inputs[i] else _numbers(view, node.inputs[i]) for i in range(5)
        ]
        if contents[1] is None:
            return None
        starts, axes, steps = contents[1], contents[3], contents[4]
    axes = list(range(len(starts))) if axes is None else axes
    for i, one in enumerate(axes):
        if one % rank == axis:
            return int(starts[i]) if steps is None or steps[i] == 1 else None
    return 0


def _numbers(view: View, name: str) -> list[int] | None:
    content = view.graph.values[name].contents
    return None if content is None else [int(n) for n in np.asarray(content[0]).reshape(-1)]


def _element(view: View, node: Node, layout: Layout) -> Layout | None:
    index = view.graph.values[node.inputs[1]].constant
    if index is None or index.size != 1 or index.ndim > 1:
        return None
    axis = int(node.attributes.get("axis", 0)) % len(layout.axes)
    size = view.graph.values[node.inputs[0]].shapes[0][axis]
    return _shifted(layout, axis, int(index.reshape(-1)[0]) % size, None if index.ndim == 0 else 1)
