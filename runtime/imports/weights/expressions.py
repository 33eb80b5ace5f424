"""The tensor of a model as a sum of tensors of a file, each after steps that move its elements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce

import numpy as np

from compiler.driver import Array
from compiler.support.record import record

Extents = tuple[int, ...]


class Unfitting(Exception):
    """A step that a tensor of this shape does not take; the text says why."""


@record
class Step:
    """`transpose` takes all axes in their new order, `reshape` the new extents, `rows` and `columns` a stretch
    [from, to) of the first and of the last axis, `blocks` the new order of equal parts of the last axis.
    """

    name: str
    numbers: Extents

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.numbers))})"

    def shape_of(self, shape: Extents) -> Extents:
        """The shape behind the step. Raises Unfitting."""
        numbers = self.numbers
        match self.name:
            case "transpose" if sorted(numbers) == list(range(len(shape))):
                return tuple(shape[axis] for axis in numbers)
            case "reshape" if math.prod(numbers) == math.prod(shape) and all(n >= 0 for n in numbers):
                return numbers
            case "rows" if shape and len(numbers) == 2 and 0 <= numbers[0] < numbers[1] <= shape[0]:
                return (numbers[1] - numbers[0], *shape[1:])
            case "columns" if shape and len(numbers) == 2 and 0 <= numbers[0] < numbers[1] <= shape[-1]:
                return (*shape[:-1], numbers[1] - numbers[0])
            case "blocks" if shape and sorted(numbers) == list(range(len(numbers))) and shape[-1] % len(numbers) == 0:
                return shape
            case _:
                raise Unfitting(f"`{self}` does not fit the shape {list(shape)}")

    def applied(self, values: Array) -> Array:
        """The elements behind the step. Raises Unfitting."""
        shape = self.shape_of(values.shape)
        first, *_ = self.numbers or (0,)
        match self.name:
            case "transpose":
                return values.transpose(self.numbers)
            case "reshape":
                return values.reshape(shape)
            case "rows":
                return values[first : self.numbers[1]]
            case "columns":
                return values[..., first : self.numbers[1]]
            case _:
                parts = np.split(values, len(self.numbers), axis=-1)
                return np.concatenate([parts[number] for number in self.numbers], axis=-1)


STEPS = ("transpose", "reshape", "rows", "columns", "blocks")


@record
class Term:
    """One tensor of the file, and the steps from left to right."""

    name: str
    steps: tuple[Step, ...] = ()

    def then(self, name: str, *numbers: int) -> Term:
        return Term(self.name, (*self.steps, Step(name, numbers)))

    def shape_of(self, shapes: Mapping[str, Extents]) -> Extents:
        """Raises Unfitting."""
        return reduce(lambda shape, step: step.shape_of(shape), self.steps, shapes[self.name])


@record
class Expression:
    """A sum of terms of one shape, which mostly has one."""

    terms: tuple[Term, ...]

    def shape_of(self, shapes: Mapping[str, Extents]) -> Extents:
        """Raises Unfitting where a step does not fit, or terms differ."""
        found = {term.shape_of(shapes) for term in self.terms}
        if len(found) != 1:
            raise Unfitting("the terms of the sum have different shapes")
        return found.pop()

    def value(self, tensors: Mapping[str, Array]) -> Array:
        """The tensor of the model, contiguous. Raises Unfitting."""
        parts = [reduce(lambda array, step: step.applied(array), t.steps, tensors[t.name]) for t in self.terms]
        return np.ascontiguousarray(reduce(np.add, parts))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(term.name for term in self.terms)


def tensor(name: str) -> Term:
    """A tensor of the file as it is."""
    return Term(name)


def alone(term: Term) -> Expression:
    return Expression((term,))
