"""Tensors by names of axes: `einsum` and `@`, as contractions of two tensors, and `rearrange`, as einops defines it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from compiler.errors.diagnostics import hint
from compiler.frontend.axes import Axis
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.tensors.operators import cast, real, widest
from compiler.frontend.tensors.shapes import UNNAMED, broadcast, origin_notes, shown, shown_axis
from compiler.frontend.values import TensorValue
from compiler.graph import ir
from compiler.ops.build import filled
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Equal, Where
from compiler.ops.movement import Slice, Transpose
from compiler.ops.sources import Iota
from compiler.ops.spreading import Reshape, Sum
from compiler.types import BatchExtent, DType, Extent, TensorType, static_elements


def matrix_product(elaborator: Elaborator, left: TensorValue, right: TensorValue) -> TensorValue:
    """`left @ right` as NumPy defines it: over the last axis of `left` and the next-to-last of `right`."""
    if left.rank == 0 or right.rank == 0:
        message = f"`@` of {shown(elaborator, left)} and {shown(elaborator, right)}: a scalar has no axis to sum over"
        elaborator.fail("E0408", message)
    left, right = _same_type(elaborator, left, right)
    inner = -1, (-2 if right.rank > 1 else -1)
    _expect_equal(elaborator, left, right, *inner)
    stacked_left, stacked_right = left.rank - 2, right.rank - 2
    stack, axes = _stack(elaborator, left, right)
    rank = len(stack)
    labels = list(range(rank))
    row, column, summed = rank, rank + 1, rank + 2
    lhs, left_value = _operand(
        elaborator, left, stacked_left, stack, labels, [row, summed] if left.rank > 1 else [summed]
    )
    rhs, right_value = _operand(
        elaborator, right, stacked_right, stack, labels, [summed, column] if right.rank > 1 else [summed]
    )
    out = (*labels, *([row] if left.rank > 1 else []), *([column] if right.rank > 1 else []))
    value = elaborator.emit(Contraction(tuple(lhs), tuple(rhs), out), left_value, right_value)
    outer = ([left.axes[-2]] if left.rank > 1 else []) + ([right.axes[-1]] if right.rank > 1 else [])
    return TensorValue(value, (*axes, *outer))


def _same_type(elaborator: Elaborator, left: TensorValue, right: TensorValue) -> tuple[TensorValue, TensorValue]:
    left, right = real(elaborator, left), real(elaborator, right)
    dtype = widest(left.dtype, right.dtype)
    return cast(elaborator, left, dtype), cast(elaborator, right, dtype)


def _expect_equal(elaborator: Elaborator, left: TensorValue, right: TensorValue, place: int, other: int) -> None:
    if left.shape[place] == right.shape[other]:
        return
    a, b = (left.shape[place], left.axes[place]), (right.shape[other], right.axes[other])
    elaborator.fail(
        "E0408",
        f"`@` of {shown(elaborator, left)} and {shown(elaborator, right)}: the last axis of the left side, "
        f"{shown_axis(elaborator, *a)}, and the {'next-to-last' if right.rank > 1 else 'only'} axis of the right side, "
        f"{shown_axis(elaborator, *b)}, must be equal",
        *origin_notes(elaborator, a, b),
    )


def _stack(
    elaborator: Elaborator, left: TensorValue, right: TensorValue
) -> tuple[tuple[Extent, ...], tuple[Axis, ...]]:
    """The axes before the matrices, broadcast."""
    tensors = [
        TensorValue(ir.Value(-1, TensorType(t.dtype, t.shape[:-2])), t.axes[:-2]) for t in (left, right) if t.rank > 2
    ]
    if not tensors:
        return (), ()
    if len(tensors) == 1:
        return tensors[0].shape, tensors[0].axes
    return broadcast(elaborator, "@", tensors[0], tensors[1])


def _operand(
    elaborator: Elaborator,
    tensor: TensorValue,
    stacked: int,
    stack: Sequence[Extent],
    labels: Sequence[int],
    matrix: list[int],
) -> tuple[list[int], ir.Value]:
    """Labels of an operand. A stacked axis of 1 that meets a longer one is dropped, and so repeated."""
    own = list(labels[len(labels) - stacked :]) if stacked > 0 else []
    extents = tensor.shape[: len(own)]
    kept = [i for i, extent in enumerate(extents) if extent == stack[len(stack) - len(own) + i]]
    if len(kept) == len(own):
        return [*own, *matrix], tensor.value
    shape = (*(extents[i] for i in kept), *tensor.shape[len(own) :])
    return [*(own[i] for i in kept), *matrix], elaborator.emit(Reshape(shape), tensor.value)


def einsum(elaborator: Elaborator, pattern: str, tensors: Sequence[TensorValue]) -> TensorValue:
    """The product of tensors whose axes are named by a pattern such as `b i d, b j d -> b i j`."""
    inputs, output = _terms(elaborator, pattern, tensors)
    tensors, inputs = _without_repeats(elaborator, pattern, tensors, inputs)
    extents = _extents(elaborator, pattern, tensors, inputs)
    for name in output:
        if name not in extents:
            elaborator.fail("E0412", f'`{name}` stands on the right of "{pattern}", but in no operand')
    if len(set(output)) != len(output):
        elaborator.fail("E0412", f'a name stands twice on the right of "{pattern}"')
    numbers = {name: number for number, name in enumerate(extents)}
    known = [(real(elaborator, t), [numbers[n] for n in names]) for t, names in zip(tensors, inputs, strict=True)]
    wanted = [numbers[name] for name in output]
    current, labels = known[0]
    for position, (following, theirs) in enumerate(known[1:], 1):
        later = {label for _, names in known[position + 1 :] for label in names} | set(wanted)
        current, labels = _contracted(elaborator, (current, labels), (following, theirs), later, wanted)
    current, labels = _summed(elaborator, current, labels, set(wanted))
    if labels != wanted:
        permutation = tuple(labels.index(label) for label in wanted)
        value = elaborator.emit(Transpose(permutation), current.value)
        current = TensorValue(value, tuple(current.axes[i] for i in permutation))
    return current


def _without_repeats(
    elaborator: Elaborator, pattern: str, tensors: Sequence[TensorValue], inputs: Sequence[list[str]]
) -> tuple[list[TensorValue], list[list[str]]]:
    """Operands with the diagonal of two axes in place of both, as often as a name stands twice."""
    found, names = list(tensors), [list(each) for each in inputs]
    for number, own in enumerate(names):
        while (repeated := next((name for name in own if own.count(name) > 1), None)) is not None:
            first = own.index(repeated)
            second = own.index(repeated, first + 1)
            found[number] = _diagonal(elaborator, pattern, repeated, found[number], first, second)
            del own[second], own[first]
            own.append(repeated)
    return found, names


def _diagonal(
    elaborator: Elaborator, pattern: str, name: str, tensor: TensorValue, first: int, second: int
) -> TensorValue:
    """The elements whose places along two axes are the same, along a new last axis."""
    extents = [(tensor.shape[axis], tensor.axes[axis]) for axis in (first, second)]
    count = extents[0][0]
    if extents[1][0] != count:
        both = " and ".join(shown_axis(elaborator, *extent) for extent in extents)
        elaborator.fail("E0408", f'`{name}` in "{pattern}" is both {both}', *origin_notes(elaborator, *extents))
    kept = [axis for axis in range(tensor.rank) if axis not in (first, second)]
    if not isinstance(count, int):
        axes = (*(tensor.axes[axis] for axis in kept), tensor.axes[first])
        return TensorValue(_own_pairs(elaborator, tensor, first, second, kept), axes)
    shape = tuple(tensor.shape[axis] for axis in kept)
    turned = elaborator.emit(Transpose((*kept, first, second)), tensor.value)
    flat = elaborator.emit(Reshape((*shape, count * count)), turned)
    places = (*(0 for _ in kept), 0), (*shape, count), (*(1 for _ in kept), count + 1)
    return TensorValue(
        elaborator.emit(Slice(*places), flat), (*(tensor.axes[axis] for axis in kept), tensor.axes[first])
    )


def _own_pairs(elaborator: Elaborator, tensor: TensorValue, first: int, second: int, kept: Sequence[int]) -> ir.Value:
    """The diagonal along two axes of the batch: no stride says it, so all else is left out of a sum."""
    turned = elaborator.emit(Transpose((*kept, first, second)), tensor.value)
    shape, rank = turned.type.shape, turned.type.rank
    places = [elaborator.emit(Iota(shape, axis, DType.I32)) for axis in (rank - 2, rank - 1)]
    is_own, zero = elaborator.emit(Equal(), *places), filled(elaborator.builder, 0, turned.type)
    return elaborator.emit(Sum((rank - 1,)), elaborator.emit(Where(), is_own, turned, zero))


def _contracted(
    elaborator: Elaborator,
    left: tuple[TensorValue, list[int]],
    right: tuple[TensorValue, list[int]],
    later: set[int],
    wanted: Sequence[int],
) -> tuple[TensorValue, list[int]]:
    """The product of two, summed over what nothing later needs."""
    first, lhs = _summed(elaborator, left[0], left[1], later | set(right[1]))
    second, rhs = _summed(elaborator, right[0], right[1], later | set(lhs))
    first, second = _same_type(elaborator, first, second)
    kept = [label for label in (*lhs, *(r for r in rhs if r not in lhs)) if label in later]
    out = [label for label in wanted if label in kept] + [label for label in kept if label not in wanted]
    axes = dict(zip(rhs, second.axes, strict=True)) | dict(zip(lhs, first.axes, strict=True))
    value = elaborator.emit(Contraction(tuple(lhs), tuple(rhs), tuple(out)), first.value, second.value)
    return TensorValue(value, tuple(axes[label] for label in out)), out


def _summed(
    elaborator: Elaborator, tensor: TensorValue, labels: list[int], needed: set[int]
) -> tuple[TensorValue, list[int]]:
    gone = tuple(i for i, label in enumerate(labels) if label not in needed)
    if not gone:
        return tensor, labels
    kept = [i for i in range(tensor.rank) if i not in gone]
    value = elaborator.emit(Sum(gone), tensor.value)
    return TensorValue(value, tuple(tensor.axes[i] for i in kept)), [labels[i] for i in kept]


def _terms(elaborator: Elaborator, pattern: str, tensors: Sequence[TensorValue]) -> tuple[list[list[str]], list[str]]:
    sides = pattern.split("->")
    if len(sides) != 2:
        elaborator.fail("E0412", f'"{pattern}" needs one `->` between the operands and the result')
    operands = sides[0].split(",")
    if len(operands) != len(tensors):
        elaborator.fail("E0412", f'"{pattern}" names {len(operands)} operands, but {len(tensors)} tensors are given')
    is_compact = _is_compact(operands, sides[1], tensors)
    inputs: list[list[str]] = []
    rest: list[str] = []
    for term, tensor in zip(operands, tensors, strict=True):
        names = _names(term, is_compact)
        if "..." in names:
            count = tensor.rank - len(names) + 1
            place = names.index("...")
            dots = [f"…{i}" for i in range(-count, 0)]
            rest = dots if len(dots) > len(rest) else rest
            names[place : place + 1] = dots
        if len(names) != tensor.rank:
            message = f'"{term.strip()}" names {len(names)} axes, but the tensor is {shown(elaborator, tensor)}'
            elaborator.fail("E0412", message, hint('names stand apart: "b i d"'))
        inputs.append(names)
    output: list[str] = []
    for name in _names(sides[1], is_compact):
        output += rest if name == "..." else [name]
    return inputs, output


def _is_compact(operands: Sequence[str], result: str, tensors: Sequence[TensorValue]) -> bool:
    """Whether each letter is a name: no term has a space, and as words they would not fit."""
    if any(len(term.split()) > 1 for term in (*operands, result)):
        return False
    words = {term.strip() for term in operands}
    fits = all(len(term.split()) == t.rank for term, t in zip(operands, tensors, strict=True))
    return not fits or result.strip() not in words | {""}


def _names(term: str, is_compact: bool) -> list[str]:
    term = term.strip()
    if not is_compact:
        return term.split()
    before, dots, after = term.partition("...")
    return [*before, *([dots] if dots else []), *after]


def _extents(
    elaborator: Elaborator, pattern: str, tensors: Sequence[TensorValue], inputs: Sequence[Sequence[str]]
) -> dict[str, Extent]:
    extents: dict[str, Extent] = {}
    axes: dict[str, Axis] = {}
    for tensor, names in zip(tensors, inputs, strict=True):
        for name, extent, axis in zip(names, tensor.shape, tensor.axes, strict=True):
            if extents.setdefault(name, extent) != extent:
                first = (extents[name], axes.get(name, UNNAMED))
                elaborator.fail(
                    "E0408",
                    f'`{name}` in "{pattern}" is {shown_axis(elaborator, *first)} in one tensor and '
                    f"{shown_axis(elaborator, extent, axis)} in another",
                    *origin_notes(elaborator, first, (extent, axis)),
                )
            axes.setdefault(name, axis)
    return extents


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
        advice = hint("to sum an axis away, use `sum` or `einsum`; to add one, an index with `None`")
        elaborator.fail("E0412", f'`{lonely}` stands on one side only of "{pattern}"', advice)
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
            message = f'the sizes of {" and ".join(f"`{name}`" for name in unknown)} in "{pattern}" are not known'
            elaborator.fail("E0412", message, hint(f"give all but one: `rearrange(x, …, {unknown[0]} = 4)`"))
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
