"""The interface of a primitive: its type rule, gradient and NumPy meaning."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.types import TensorType

if TYPE_CHECKING:
    from abc import ABC

    from compiler.graph.builder import GraphBuilder
    from compiler.graph.ir import Node, Value
else:
    # The type checker finds an op that lacks a method. At run time, isinstance of an ABC's subclass is many times
    # slower than of a plain class, and passes ask little else.
    ABC = object


Types: TypeAlias = Sequence[TensorType]
Cotangents: TypeAlias = "Sequence[Value | None]"


class Category(Enum):
    """How an op touches its elements; fusion, lowering and cost know categories, not single ops."""

    ELEMENTWISE = "elementwise"
    SOURCE = "source"  # no tensor operand decides an element: constant, iota, random
    REDUCTION = "reduction"
    MOVEMENT = "movement"
    CONTRACTION = "contraction"
    INDEXING = "indexing"
    CONTROL = "control"


class TypeRuleError(Exception):
    """Operand types that an op does not accept. The elaborator turns it into a `SourceError` at the user's line."""


@record
class Op(ABC):
    """One primitive. Subclasses with static attributes are records, whose fields these are; others equal by class."""

    name: ClassVar[str]
    category: ClassVar[Category]

    @abstractmethod
    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        """The types of the results. Raises `TypeRuleError`."""

    @abstractmethod
    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        """The cotangent of each operand (None where it is zero), for the cotangents of the results, some not None."""

    @abstractmethod
    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        """The meaning, in NumPy. `batch` is the run-time batch size."""


class DifferentiableOp(Op):
    """An op with one result."""

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        (cotangent,) = cotangents
        assert cotangent is not None
        return self.slopes(builder, node, cotangent)

    @abstractmethod
    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        """The cotangent of each operand (None where it is zero), for that of the result."""


class FlatOp(Op):
    """An op whose results do not change with its operands, or are not differentiated: no cotangent leads through it."""

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        return (None,) * len(node.operands)


def with_fields(op: Op, change: Callable[[object], object]) -> Op:
    """The op with `change` of the value of each of its fields."""
    assert is_dataclass(op)
    values = [(field.name, getattr(op, field.name)) for field in fields(op)]
    changes: dict[str, Any] = {name: new for name, value in values if (new := change(value)) is not value}
    return replace(op, **changes) if changes else op
