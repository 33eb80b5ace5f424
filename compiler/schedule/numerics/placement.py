"""Writing one tensor into a part of another, for concatenation and padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np

from compiler.graph.ir import Node
from compiler.graph.op import Array, Category
from compiler.schedule.addresses import IndexMap, add, address, axis_maps
from compiler.schedule.numerics.internal_op import InternalOp
from compiler.support.record import record
from compiler.types import Shape, TensorType, at_batch, numpy_dtype


@final
@record
class Empty(InternalOp):
    """A tensor whose elements are all written by the `Insert`s that follow."""

    type: TensorType
    name: ClassVar[str] = "empty"
    category: ClassVar[Category] = Category.SOURCE

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        return (self.type,)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (np.zeros(at_batch(self.type.shape, batch), numpy_dtype(self.type.dtype)),)


@final
@record
class Insert(InternalOp):
    """(base, part) -> base with `part` at `starts`. The base is written in place and has no other use.

    With an `axis`, there is a third operand: the start along this axis, kept inside of it.
    """

    starts: tuple[int, ...]
    axis: int | None = None
    name: ClassVar[str] = "insert"
    category: ClassVar[Category] = Category.MOVEMENT

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        return (operands[0],)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        base, part, starts = operands[0].copy(), operands[1], list(self.starts)
        if self.axis is not None:
            starts[self.axis] = min(max(int(operands[2]), 0), base.shape[self.axis] - 1)
        base[tuple(slice(s, s + n) for s, n in zip(starts, part.shape, strict=True))] = part
        return (base,)


@final
@record
class Pick(InternalOp):
    """(x of rank 1, indices) -> x[indices], for indices that the program made itself and that may reach the batch."""

    name: ClassVar[str] = "pick"
    category: ClassVar[Category] = Category.INDEXING

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        return (TensorType(operands[0].dtype, operands[1].shape),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (operands[0][operands[1]],)


def starts_at(shape: Shape, axis: int, start: int) -> tuple[int, ...]:
    """`start` on `axis`, 0 elsewhere."""
    return tuple(start if k == axis else 0 for k in range(len(shape)))


def insert_map(node: Node) -> IndexMap:
    """Where an `Insert` puts the elements of its part."""
    op = node.op
    assert isinstance(op, Insert)
    part, whole = node.operands[1].type.shape, node.results[0].type.shape
    maps = tuple(add(IndexMap(s), f) for s, f in zip(op.starts, axis_maps(part), strict=True))
    return address(whole, maps)
