"""The product of two tensors, summed over shared axes: matrix products, outer products, einsum of two operands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias, final

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Category, Cotangents, DifferentiableOp, TypeRuleError, Types
from compiler.ops import rules
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import Extent, TensorType

Labels: TypeAlias = tuple[int, ...]


@final
@record
class Contraction(DifferentiableOp):
    """An einsum: one label for each axis; labels that `out` lacks are summed, and both operands have them."""

    lhs: Labels
    rhs: Labels
    out: Labels
    name = "contraction"
    category = Category.CONTRACTION

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        left, right = rules.expect_operands(self.name, operands, 2)
        rules.expect_dtype(self.name, left, rules.FLOATS)
        if left.dtype is not right.dtype:
            raise TypeRuleError(f"contraction needs tensors of one element type, but got {left} and {right}")
        self._expect_labels(left, right)
        extents: dict[int, Extent] = {}
        for operand, labels in ((left, self.lhs), (right, self.rhs)):
            for label, extent in zip(labels, operand.shape, strict=True):
                if extents.setdefault(label, extent) != extent:
                    raise TypeRuleError(f"the product of {left} and {right} pairs {extents[label]} with {extent}")
        shape = tuple(extents[label] for label in self.out)
        return (TensorType(left.dtype, shape),)

    def _expect_labels(self, left: TensorType, right: TensorType) -> None:
        if len(self.lhs) != left.rank or len(self.rhs) != right.rank:
            raise TypeRuleError(f"contraction needs a label for each axis of {left} and {right}, but has {self}")
        if any(len(set(labels)) != len(labels) for labels in (self.lhs, self.rhs, self.out)):
            raise TypeRuleError(f"a label stands twice in one tensor of {self}")
        known, kept = {*self.lhs, *self.rhs}, set(self.out)
        if not kept <= known or not known - kept <= {*self.lhs} & {*self.rhs}:
            raise TypeRuleError(f"a label of {self} that one tensor lacks must be in both others")

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        left, right = node.operands
        return (
            builder.emit(Contraction(self.out, self.rhs, self.lhs), cotangent, right),
            builder.emit(Contraction(self.lhs, self.out, self.rhs), left, cotangent),
        )

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (self.stacked(operands, np.matmul),)

    def stacked(self, operands: Sequence[Array], multiply: Callable[[Array, Array], Array]) -> Array:
        """As one stack of matrix products: [shared, left, summed] @ [shared, summed, right]."""
        left, right = operands
        summed = [label for label in self.lhs if label not in self.out]
        shared = [label for label in self.out if label in self.lhs and label in self.rhs]
        only_left = [label for label in self.out if label in self.lhs and label not in self.rhs]
        only_right = [label for label in self.out if label not in self.lhs]
        sizes = dict(zip((*self.lhs, *self.rhs), (*left.shape, *right.shape), strict=True))

        def arranged(x: Array, labels: Labels, *groups: list[int]) -> Array:
            order = [labels.index(label) for group in groups for label in group]
            return x.transpose(order).reshape([math.prod(sizes[label] for label in group) for group in groups])

        with np.errstate(all="ignore"):
            product = multiply(
                arranged(left, self.lhs, shared, only_left, summed),
                arranged(right, self.rhs, shared, summed, only_right),
            )
        result = [*shared, *only_left, *only_right]
        return product.reshape([sizes[label] for label in result]).transpose([result.index(i) for i in self.out])
