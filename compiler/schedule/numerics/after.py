"""An identity that waits: it keeps a rematerialised value from being computed early, beside its first computation."""

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
class After(Op):
    """(x, gate) -> x, for readers that come behind the kernel that makes `gate`. It is a view: nothing is executed."""

    name: ClassVar[str] = "after"
    category: ClassVar[Category] = Category.MOVEMENT

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        return (operands[0],)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        raise CompilerBug("autodiff", "what is computed again is decided after differentiation")

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (operands[0],)

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        return ()
