"""An op that only the schedule makes, and the two of them that are identities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Array, Category, Op
from compiler.support.record import record
from compiler.types import TensorType


class InternalOp(Op):
    """It appears after differentiation, and tests of the language's ops leave it out."""

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        raise CompilerBug("autodiff", f"the op {self.name} is made after differentiation")


class _Identity(InternalOp):
    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        return (operands[0],)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (operands[0],)


@final
@record
class Copy(_Identity):
    """The operand, stored densely: where a view cannot serve."""

    name: ClassVar[str] = "copy"
    category: ClassVar[Category] = Category.ELEMENTWISE


@final
@record
class After(_Identity):
    """(x, gate) -> x, for readers that come behind the kernel that makes `gate`. It is a view: nothing is executed.

    So a rematerialised value is not computed early, beside its first computation.
    """

    name: ClassVar[str] = "after"
    category: ClassVar[Category] = Category.MOVEMENT
