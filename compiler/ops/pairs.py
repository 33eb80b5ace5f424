"""`fit_rows`: the rows of a batch on an axis of known length, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Category, Cotangents, DifferentiableOp, Types
from compiler.ops import rules
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import Extent, TensorType, size_at


@final
@record
class FitRows(DifferentiableOp):
    """The first elements along `axis`, so that it has the `extent`; zeros stand where the operand has no more."""

    axis: int
    extent: Extent
    name = "fit_rows"
    category = Category.MOVEMENT

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        (x,) = rules.expect_operands(self.name, operands, 1)
        rules.expect_axis(self.name, self.axis, x)
        return (TensorType(x.dtype, (*x.shape[: self.axis], self.extent, *x.shape[self.axis + 1 :])),)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        return (builder.emit(FitRows(self.axis, node.operands[0].type.shape[self.axis]), cotangent),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        (x,) = operands
        size = size_at(self.extent, batch)
        first = x[(slice(None),) * self.axis + (slice(size),)]
        missing = [(0, size - first.shape[axis] if axis == self.axis else 0) for axis in range(x.ndim)]
        return (np.pad(first, missing),)
