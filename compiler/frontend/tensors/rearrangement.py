"""`rearrange`: axes moved, split and merged by a pattern, as einops defines it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from compiler.errors.diagnostics import hint
from compiler.frontend.axes import Axis
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.tensors.shapes import shown, shown_axis
from compiler.frontend.values import TensorValue
from compiler.ops.movement import Transpose
from compiler.ops.spreading import Reshape
from compiler.types import BatchExtent, Extent, static_elements

AxisNames = list[str]
_REST: AxisNames = ["…"]  # `...` outside of brackets: one axis for each that it stands for


def rearrange(elaborator: Elaborator, tensor: TensorValue, pattern: str, sizes: Mapping[str, Extent]) -> TensorValue:
    """The tensor with its axes as on the right of the pattern. `sizes` gives extents that a split needs."""
    sides = pattern.split("->")
    if len(sides) != 2:
        elaborator.fail("E0412", f'"{pattern}" needs one `->`')
    left, right = (_groups(elaborator, pattern, side) for side in sides)
    left, right = _with_rest(elaborator, pattern, tensor, left, right)
    if len(left) != tensor.rank:
        elaborator.fail(
            "E0412", f'"{sides[0].strip()}" names {len(left)} axes, but the tensor is {shown(elaborator, tensor)}'
        )
    names, wanted = [n for g in left for n in g], [n for g in right for n in g]
    _expect_same_names(elaborator, pattern, names, wanted, sizes)
    extents, axes = _split_extents(elaborator, pattern, tensor, left, sizes)
    value = tensor.value
    split = tuple(extents[name] for name in names)
    if split != tensor.shape:
        value = elaborator.emit(Reshape(split), value)
    permutation = tuple(names.index(name) for name in wanted)
    if permutation != tuple(range(len(names))):
        value = elaborator.emit(Transpose(permutation), value)
    shape = tuple(_product(elaborator, pattern, [extents[name] for name in group]) for group in right)
    if shape != value.type.shape:
        value = elaborator.emit(Reshape(shape), value)
    return TensorValue(value, tuple(axes[g[0]] if len(g) == 1 else Axis(origin=elaborator.here) for g in right))


def _groups(elaborator: Elaborator, pattern: str, side: str) -> list[AxisNames]:
    """`b (h d) 1` as [[b], [h, d], []]."""
    groups: list[AxisNames] = []
    inside: AxisNames | None = None
    for token in side.replace("(", " ( ").replace(")", " ) ").split():
        if token == "(" and inside is None:
            inside = []
        elif token == ")" and inside is not None:
            groups.append(inside)
            inside = None
        elif token in "()":
            elaborator.fail("E0412", f'the brackets of "{pattern}" do not match')
        elif token != "1" and token != "..." and not token.isidentifier():
            elaborator.fail("E0412", f'`{token}` in "{pattern}" is not a name', hint("only 1 may stand for an extent"))
        elif inside is not None:
            inside += [] if token == "1" else [token]
        else:
            groups.append(_REST if token == "..." else [] if token == "1" else [token])
    if inside is not None:
        elaborator.fail("E0412", f'the brackets of "{pattern}" do not match')
    return groups


def _with_rest(
    elaborator: Elaborator, pattern: str, tensor: TensorValue, left: list[AxisNames], right: list[AxisNames]
) -> tuple[list[AxisNames], list[AxisNames]]:
    """`...` replaced by a name for each axis that it stands for."""
    if _REST not in left:
        return left, right
    dots = [f"…{i}" for i in range(tensor.rank - len(left) + 1)]
    place = left.index(_REST)
    left = [*left[:place], *([dot] for dot in dots), *left[place + 1 :]]
    result: list[AxisNames] = []
    for group in right:
        if group == _REST:
            result += [[dot] for dot in dots]
        elif "..." in group:
            at = group.index("...")
            result.append([*group[:at], *dots, *group[at + 1 :]])
        else:
            result.append(group)
    return left, result


def _expect_same_names(
    elaborator: Elaborator, pattern: str, left: list[str], right: list[str], sizes: Mapping[str, Extent]
) -> None:
    for side in (left, right):
        twice = next((name for name in side if side.count(name) > 1), None)
        if twice is not None:
            elaborator.fail("E0412", f'`{twice}` stands twice on one side of "{pattern}"')
    lonely = next((name for name in (*left, *right) if (name in left) != (name in right)), None)
    if lonely is not None:
        elaborator.fail(
            "E0412",
            f'`{lonely}` stands on one side only of "{pattern}"',
            hint("to sum an axis away, use `sum` or `einsum`; to add one, an index with `None`"),
        )
    unknown = next((name for name in sizes if name not in left), None)
    if unknown is not None:
        elaborator.fail("E0412", f'`{unknown}` is given a size, but does not stand in "{pattern}"')


def _split_extents(
    elaborator: Elaborator, pattern: str, tensor: TensorValue, left: list[AxisNames], sizes: Mapping[str, Extent]
) -> tuple[dict[str, Extent], dict[str, Axis]]:
    """The extent of each name, and its axis where a name stands for a whole axis."""
    extents: dict[str, Extent] = {}
    axes: dict[str, Axis] = {}
    for group, extent, axis in zip(left, tensor.shape, tensor.axes, strict=True):
        unknown = [name for name in group if name not in sizes]
        known = _product(elaborator, pattern, [sizes[name] for name in group if name in sizes])
        whole = f"`{shown_axis(elaborator, extent, axis)}`"
        if len(unknown) > 1:
            elaborator.fail(
                "E0412",
                f'the sizes of {" and ".join(f"`{name}`" for name in unknown)} in "{pattern}" are not known',
                hint(f"give all but one: `rearrange(x, …, {unknown[0]} = 4)`"),
            )
        rest = _quotient(extent, known)
        if rest is None or (not unknown and rest != 1):
            parts = " × ".join(f"`{name}` = {sizes[name]}" for name in group if name in sizes)
            elaborator.fail("E0412", f'the axis {whole} cannot be split as "{pattern}" says, with {parts}')
        for name in group:
            extents[name] = sizes.get(name, rest)
            axes[name] = axis if len(group) == 1 else Axis(origin=elaborator.here)
    return extents, axes


def _quotient(extent: Extent, divisor: Extent) -> Extent | None:
    whole, part = static_elements((extent,)), static_elements((divisor,))
    if part == 0 or whole % part:
        return None
    if isinstance(divisor, BatchExtent):
        return whole // part if isinstance(extent, BatchExtent) else None
    return BatchExtent(whole // part) if isinstance(extent, BatchExtent) else whole // part


def _product(elaborator: Elaborator, pattern: str, extents: list[Extent]) -> Extent:
    if sum(isinstance(extent, BatchExtent) for extent in extents) > 1:
        elaborator.fail("E0410", f'"{pattern}" would merge two axes that depend on the batch')
    count = math.prod(static_elements((extent,)) for extent in extents)
    return BatchExtent(count) if any(isinstance(e, BatchExtent) for e in extents) else count
