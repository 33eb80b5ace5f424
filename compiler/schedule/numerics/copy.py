"""An identity that makes its operand dense: inserted by the schedule where a view cannot serve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Array, Category, Op, Sample
from compiler.support.record import record
from compiler.types import TensorType


@final
@record
class Copy(Op):
    """The operand, stored densely. It appears after differentiation only."""

    name: ClassVar[str] = "copy"
    category: ClassVar[Category] = Category.ELEMENTWISE

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        return (operands[0],)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        raise CompilerBug("autodiff", "a copy is made after differentiation")

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (operands[0],)

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        return ()
