"""`objective(p)` in an optimizer: the loss and its gradient at another place, on the batch of the step.

It stands for a copy of the model, the loss and their derivatives, which `training_step` puts in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node
from compiler.graph.op import Category, Op, TypeRuleError
from compiler.ops.elementwise import Cotangents, Types
from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.types import TensorType


@final
@record
class Objective(Op):
    """Of a point [n]: the loss there and its gradient [n]; with a direction [n], also the Hessian's product with it."""

    name = "objective"
    category = Category.CONTROL

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        if len(operands) not in (1, 2) or operands[0].rank != 1 or operands[-1] != operands[0]:
            shown = " and ".join(map(str, operands)) or "nothing"
            raise TypeRuleError(f"the objective takes a point, and a direction of the same type, but got {shown}")
        return (TensorType(operands[0].dtype), *operands)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        raise CompilerBug("autodiff", "the objective has not been put in its place")

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        raise CompilerBug("reference target", "the objective has not been put in its place")
