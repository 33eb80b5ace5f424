"""A call of a function of the library beside an independent NumPy line, and the lines that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class FunctionCase:
    """`call` is an expression of `.dl` over the names of `operands`; `slopes` names those to differentiate by."""

    name: str
    call: str
    operands: dict[str, Array]
    expected: Callable[..., Any]
    slopes: tuple[str, ...] = ()
    extremes: tuple[float, ...] = field(default=())

    @property
    def id(self) -> str:
        kinds = "-".join(f"{array.dtype.name}{array.ndim}" for array in self.operands.values())
        return f"{self.call}:{kinds}"


def softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def log_softmax(x: Array, axis: int = -1) -> Array:
    return x - np.logaddexp.reduce(x, axis=axis, keepdims=True)
