"""A small typed graph: the nodes of an ONNX model with the types and known contents of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compiler.errors.diagnostics import DataError
from compiler.support.record import mutable_record, record

Tensor: TypeAlias = NDArray[Any]
Attribute: TypeAlias = Any  # int, float, str, Tensor, a graph, or a list of these: as ONNX holds them

DTYPES = {
    **{"float16": "f16", "float32": "f32", "float64": "f64", "bool": "bool"},
    **{"int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64"},
    **{"uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64"},
}
"""The `.dl` names of NumPy's element types."""
STORED = ("float16", "int8", "int16", "uint16", "uint32", "uint64")  # those in which nothing is computed

CLAMPED = "clamped"  # of a `Gather`: its indices are clamped into the axis, and count from no end
HIDING = "hiding"  # of a `Softmax`: it is 0 where all elements along its axis are -inf


class Unsupported(DataError):
    """An operator, or a form of it, that has no `.dl` text: what it is, and how one may write it.

    `unknown` is a value that would have to be known.
    """

    def __init__(self, message: str, how: str = "", unknown: str = "") -> None:
        super().__init__(message, fix=how)
        self.unknown = unknown


class Undecided(Unsupported):
    """As `Unsupported`, where it would help to know the inputs on which `names` depend."""

    def __init__(self, message: str, names: frozenset[str]) -> None:
        super().__init__(message)
        self.names = names


@record
class Value:
    """A tensor of the model.

    `dtype` is NumPy's name. `shapes` has the shape at each point of the free sizes, and `contents` the tensor at each
    point where it is known. `weight` names the initialisers from which it was made, the first decides its own name.
    """

    name: str
    dtype: str
    shapes: tuple[tuple[int, ...], ...]
    contents: tuple[Tensor, ...] | None = None
    weight: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        return len(self.shapes[0])

    @property
    def is_constant(self) -> bool:
        """Whether the tensor is known and the same at every point."""
        return self.contents is not None and all(
            one.shape == self.contents[0].shape
            and np.array_equal(one, self.contents[0], equal_nan=one.dtype.kind == "f")
            for one in self.contents[1:]
        )

    @property
    def constant(self) -> Tensor | None:
        return self.contents[0] if self.contents is not None and self.is_constant else None


@record
class Node:
    """One operation. Absent optional inputs are empty names."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])
    place: str = ""
    version: int = 0


@mutable_record
class Graph:
    """`nodes` in execution order. `sizes` has, for each point, the size of each free axis by its name.

    `may_be_negative` are inputs whose whole numbers may count from the end, `empty` outputs without elements, which are
    left out.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: list[Node]
    values: dict[str, Value]
    sizes: Sequence[Mapping[str, int]]
    may_be_negative: frozenset[str] = frozenset()
    empty: tuple[str, ...] = ()
    readers_now: dict[str, int] = field(default_factory=dict[str, int])

    def count_readers(self) -> None:
        """Count how often each value is read, outputs of the graph included."""
        counts: dict[str, int] = {}
        for node in self.nodes:
            for name in node.inputs:
                counts[name] = counts.get(name, 0) + 1
        for name in self.outputs:
            counts[name] = counts.get(name, 0) + 1
        self.readers_now = counts


def takes_all(value: Value, index: Value) -> bool:
    """Whether an index takes each element of the first axis once, in order."""
    if not value.rank or index.contents is None:
        return False
    sizes = (shape[0] for shape in value.shapes)
    return all(np.array_equal(c.reshape(-1), np.arange(n)) for c, n in zip(index.contents, sizes, strict=True))
