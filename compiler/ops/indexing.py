"""Ops whose element positions come from a tensor of indices; an index out of range is clamped into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node
from compiler.graph.op import Array, Category, Op, Sample, TypeRuleError
from compiler.ops.elementwise import Cotangents, Types
from compiler.ops.rules import (
    FLOATS,
    INTEGERS,
    expect_axis,
    expect_dtype,
    expect_one_batch_extent,
    expect_operands,
)
from compiler.record import record
from compiler.types import BatchExtent, DType, TensorType

_BATCH = BatchExtent()


@final
@record
class Gather(Op):
    """Operands (x, indices): along `axis` of x, the elements at the indices; their axes stand in its place."""

    axis: int
    name = "gather"
    category = Category.INDEXING

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        expect_operands(self.name, operands, 2)
        x, indices = operands
        expect_dtype("the second operand of gather", indices, INTEGERS)
        expect_axis(self.name, self.axis, x)
        extent = x.shape[self.axis]
        if isinstance(extent, BatchExtent):
            raise TypeRuleError(f"axis {self.axis} of {x} is the batch, from which rows cannot be picked by index")
        if extent == 0:
            raise TypeRuleError(f"axis {self.axis} of {x} is empty, so no index can pick from it")
        shape = (*x.shape[: self.axis], *indices.shape, *x.shape[self.axis + 1 :])
        expect_one_batch_extent(self.name, shape)
        return (TensorType(x.dtype, shape),)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        if cotangents[0] is None:
            return (None, None)
        x, indices = node.operands
        extent = x.type.shape[self.axis]
        assert isinstance(extent, int)
        return builder.emit(ScatterAdd(self.axis, extent), indices, cotangents[0]), None

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        x, indices = operands
        return (np.take(x, np.clip(indices, 0, x.shape[self.axis] - 1), axis=self.axis),)

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        return (
            Sample(cls(0), (TensorType(DType.F32, (5, 3)), TensorType(DType.I32, (_BATCH,))), ((-2, 2), (0, 5))),
            Sample(cls(1), (TensorType(DType.F32, (_BATCH, 4)), TensorType(DType.I64, (2, 3))), ((-2, 2), (-1, 6))),
            Sample(cls(0), (TensorType(DType.F32, (4,)), TensorType(DType.U8)), ((-2, 2), (0, 4))),
            Sample(cls(0), (TensorType(DType.I32, (4, 2)), TensorType(DType.I32, (3,))), ((-9, 9), (0, 4))),
        )


@final
@record
class ScatterAdd(Op):
    """Operands (indices, updates): zeros with `extent` elements along `axis`, the updates added in index order.

    The axes of `indices` stand in `updates` from `axis` on, as in the result of `gather`.
    """

    axis: int
    extent: int
    name = "scatter_add"
    category = Category.INDEXING

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        expect_operands(self.name, operands, 2)
        indices, updates = operands
        expect_dtype("the first operand of scatter_add", indices, INTEGERS)
        expect_dtype("the second operand of scatter_add", updates, (*FLOATS, DType.I32, DType.I64))
        end = self.axis + indices.rank
        if self.axis < 0 or updates.shape[self.axis : end] != indices.shape or self.extent < 1:
            raise TypeRuleError(
                f"scatter_add along axis {self.axis} of extent {self.extent}: the axes of the indices {indices} "
                f"do not stand there in the updates {updates}"
            )
        return (TensorType(updates.dtype, (*updates.shape[: self.axis], self.extent, *updates.shape[end:])),)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        if cotangents[0] is None:
            return (None, None)
        return None, builder.emit(Gather(self.axis), cotangents[0], node.operands[0])

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        indices, updates = operands
        before, after = updates.shape[: self.axis], updates.shape[self.axis + indices.ndim :]
        rows = np.moveaxis(updates.reshape((*before, indices.size, *after)), self.axis, 0)
        result = np.zeros((self.extent, *before, *after), updates.dtype)
        np.add.at(result, np.clip(indices.reshape(-1), 0, self.extent - 1), rows)
        return (np.moveaxis(result, 0, self.axis),)

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        return (
            Sample(
                cls(0, 5), (TensorType(DType.I32, (_BATCH,)), TensorType(DType.F32, (_BATCH, 3))), ((0, 5), (-2, 2))
            ),
            Sample(
                cls(1, 4), (TensorType(DType.I64, (2, 3)), TensorType(DType.F32, (_BATCH, 2, 3))), ((-1, 6), (-2, 2))
            ),
            Sample(cls(0, 3), (TensorType(DType.U8), TensorType(DType.F32)), ((0, 3), (-2, 2))),
        )
