"""Sizes that follow from free sizes: the numbers at several points to an expression of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from runtime.imports.onnx.graph import Unsupported

BATCH = "batch"
# The sizes at which a model is examined: far from those that models have, and prime, so that no quotient is whole.
_SIZES = (131, 137, 139, 149, 151, 157, 163, 167)


def points_of(names: Sequence[str]) -> list[dict[str, int]]:
    """Points that tell the free sizes apart: one for each size that changes alone, and one where all of them do."""
    base = {name: _SIZES[(2 * i) % len(_SIZES)] for i, name in enumerate(names)}
    moved = {name: _SIZES[(2 * i + 1) % len(_SIZES)] for i, name in enumerate(names)}
    points = [base]
    points += [{**base, name: moved[name]} for name in names]
    if len(names) > 1:
        points.append(moved)
    return points


def expression(numbers: Sequence[int], points: Sequence[Mapping[str, int]]) -> str:
    """The text of a whole number that is `numbers[i]` at point i: `12`, `2 * batch`, `time - 1`. Raises Unsupported."""
    if len(set(numbers)) == 1:
        return str(int(numbers[0]))
    names = list(points[0])
    for count in range(1, len(names) + 1):
        for chosen in combinations(names, count):
            products = [_product(point, chosen) for point in points]
            found = _affine(numbers, products, " * ".join(chosen))
            if found is not None:
                return found
    shown = ", ".join(str(number) for number in numbers)
    raise Unsupported(f"a size that is {shown} for {_said(points)}", "give the axes fixed sizes with --size NAME=N")


def _product(point: Mapping[str, int], names: Sequence[str]) -> int:
    result = 1
    for name in names:
        result *= point[name]
    return result


def _affine(numbers: Sequence[int], products: Sequence[int], text: str) -> str | None:
    """`a * text + b` or `(text + b) // a`, if that is `numbers`."""
    span = max(products) - min(products)
    low, high = products.index(min(products)), products.index(max(products))
    rise = numbers[high] - numbers[low]
    if span == 0 or rise == 0:
        return None
    if rise % span == 0:
        factor = rise // span
        rest = numbers[low] - factor * products[low]
        if all(n == factor * p + rest for n, p in zip(numbers, products, strict=True)):
            scaled = text if factor == 1 else f"{factor} * {text}"
            return scaled if rest == 0 else f"{scaled} {'+' if rest > 0 else '-'} {abs(rest)}"
    for divisor in (2, 3, 4, 8, 16, 32):
        for rest in range(-divisor, divisor + 1):
            if all(n == (p + rest) // divisor for n, p in zip(numbers, products, strict=True)):
                inner = text if rest == 0 else f"({text} {'+' if rest > 0 else '-'} {abs(rest)})"
                return f"{inner} // {divisor}"
    return None


def _said(points: Sequence[Mapping[str, int]]) -> str:
    return "; ".join(" and ".join(f"{name} = {size}" for name, size in point.items()) for point in points)
