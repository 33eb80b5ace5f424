"""Ops whose element positions come from a tensor of indices; an index out of range is clamped into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Category, Cotangents, DifferentiableOp, TypeRuleError, Types
from compiler.ops import rules
from compiler.ops.build import filled
from compiler.ops.spreading import Reshape
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import BatchExtent, DType, TensorType, depends_on_batch


@final
@record
class Gather(DifferentiableOp):
    """Operands (x, indices): along `axis` of x, the elements at the indices; their axes stand in its place.

    With `by_row`, axis 0 of both counts rows, and each row of x is picked from by its own row of indices.
    """

    axis: int
    by_row: bool = False
    name = "gather"
    category = Category.INDEXING

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        x, indices = rules.expect_operands(self.name, operands, 2)
        rules.expect_dtype("the second operand of gather", indices, rules.INTEGERS)
        rules.expect_axis(self.name, self.axis, x)
        extent = x.shape[self.axis]
        if isinstance(extent, BatchExtent):
            raise TypeRuleError(f"axis {self.axis} of {x} is the batch, from which rows cannot be picked by index")
        if extent == 0:
            raise TypeRuleError(f"axis {self.axis} of {x} is empty, so no index can pick from it")
        _expect_rows(self.name, self.axis, self.by_row, x, indices)
        shape = (*x.shape[: self.axis], *indices.shape[self.by_row :], *x.shape[self.axis + 1 :])
        return (TensorType(x.dtype, shape),)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        x, indices = node.operands
        extent = x.type.shape[self.axis]
        assert isinstance(extent, int)
        return builder.emit(ScatterAdd(self.axis, extent, self.by_row), indices, cotangent), None

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        x, indices = operands
        places = np.clip(indices, 0, x.shape[self.axis] - 1)
        if self.by_row:
            rows = zip(x, places, strict=True)
            taken = [np.take(row, own, axis=self.axis - 1) for row, own in rows]
            empty = (0, *x.shape[1 : self.axis], *places.shape[1:], *x.shape[self.axis + 1 :])
            return (np.stack(taken) if taken else np.zeros(empty, x.dtype),)
        return (np.take(x, places, axis=self.axis),)


@final
@record
class ScatterAdd(DifferentiableOp):
    """Operands (indices, updates): zeros with `extent` elements along `axis`, the updates added in index order.

    The axes of `indices` stand in `updates` from `axis` on, as in the result of `gather`; so does `by_row`.
    """

    axis: int
    extent: int
    by_row: bool = False
    name = "scatter_add"
    category = Category.INDEXING

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        indices, updates = rules.expect_operands(self.name, operands, 2)
        rules.expect_dtype("the first operand of scatter_add", indices, rules.INTEGERS)
        rules.expect_dtype("the second operand of scatter_add", updates, (*rules.FLOATS, DType.I32, DType.I64))
        _expect_rows(self.name, self.axis, self.by_row, updates, indices)
        end = self.axis + indices.rank - self.by_row
        if self.axis < 0 or updates.shape[self.axis : end] != indices.shape[self.by_row :] or self.extent < 1:
            raise TypeRuleError(
                f"scatter_add along axis {self.axis} of extent {self.extent}: the axes of the indices {indices} "
                f"do not stand there in the updates {updates}"
            )
        return (TensorType(updates.dtype, (*updates.shape[: self.axis], self.extent, *updates.shape[end:])),)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        return None, builder.emit(Gather(self.axis, self.by_row), cotangent, node.operands[0])

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        indices, updates = operands
        if not self.by_row:
            return (self._sums(indices, updates, self.axis),)
        pairs = zip(indices, updates, strict=True)
        found = [self._sums(own, row, self.axis - 1) for own, row in pairs]
        empty = (0, *updates.shape[1 : self.axis], self.extent, *updates.shape[self.axis + indices.ndim - 1 :])
        return (np.stack(found) if found else np.zeros(empty, updates.dtype),)

    def _sums(self, indices: Array, updates: Array, axis: int) -> Array:
        before, after = updates.shape[:axis], updates.shape[axis + indices.ndim :]
        rows = np.moveaxis(updates.reshape((*before, indices.size, *after)), axis, 0)
        result = np.zeros((self.extent, *before, *after), updates.dtype)
        np.add.at(result, np.clip(indices.reshape(-1), 0, self.extent - 1), rows)
        return np.moveaxis(result, 0, axis)


@final
@record
class Put(DifferentiableOp):
    """Operands (x, part, index): x with `part`, of extent 1 along `axis`, in the place of the element at the index."""

    axis: int
    name = "put"
    category = Category.INDEXING

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        x, part, index = rules.expect_operands(self.name, operands, 3)
        rules.expect_axis(self.name, self.axis, x)
        rules.expect_dtype("the third operand of put", index, rules.INTEGERS)
        shape = (*x.shape[: self.axis], 1, *x.shape[self.axis + 1 :])
        if index.shape or part != TensorType(x.dtype, shape) or not isinstance(x.shape[self.axis], int):
            raise TypeRuleError(f"put along axis {self.axis}: {part} at {index} is no part of {x}")
        return (x,)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        _, part, index = node.operands
        place = builder.emit(Reshape((1,)), index)
        kept = builder.emit(self, cotangent, filled(builder, 0, part.type.of_slope), index)
        return kept, builder.emit(Gather(self.axis), cotangent, place), None

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        x, part, index = operands
        result = x.copy()
        place = min(max(int(index), 0), x.shape[self.axis] - 1)
        result[(slice(None),) * self.axis + (slice(place, place + 1),)] = part
        return (result,)


def _expect_rows(name: str, axis: int, by_row: bool, x: TensorType, indices: TensorType) -> None:
    if not by_row:
        return
    if axis < 1 or not indices.shape or indices.shape[0] != x.shape[0]:
        raise TypeRuleError(f"{name} by row needs as many rows of indices as of {x}, but got {indices}")
    if depends_on_batch((*x.shape[1:], *indices.shape[1:])):
        raise TypeRuleError(f"{name} by row needs the batch of {x} and {indices} as their first axis")
