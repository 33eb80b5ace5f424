"""A law of simplification, and the workbench on which laws are applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Op
from compiler.ops.build import constant_of, filled
from compiler.ops.spreading import Broadcast

Kind = TypeVar("Kind", bound=Op)
# Of a workbench, an op and its operands: a value equal to the single result, made of smaller or fewer nodes; None where
# the law does not apply.
Law: TypeAlias = Callable[..., Value | None]


class Workbench:
    """Emits nodes that are simplified at once, so that a law may rely on the form of its operands.

    Where the graph `becomes_double` later, arithmetic of constants is done in f64 already.
    """

    def __init__(
        self, builder: GraphBuilder, laws: Mapping[type[Op], tuple[Law, ...]], becomes_double: bool = False
    ) -> None:
        self.builder, self._laws, self.becomes_double = builder, laws, becomes_double

    def simplified(self, node: Node) -> Value | None:
        """The result of the first law that applies to `node`; what has no elements is made of nothing."""
        if 0 in node.results[0].type.shape and len(node.results) == 1:
            is_filled = isinstance(node.op, Broadcast) and self.number(node.operands[0]) is not None
            return None if is_filled else self.filled_like(node.results[0], 0)
        for law in self._laws.get(type(node.op), ()):
            value = law(self, node.op, *node.operands)
            if value is not None:
                return value
        return None

    def emit(self, op: Op, *operands: Value) -> Value:
        """The single result of `op`, or a simpler equal of it."""
        (type_,) = op.result_types([operand.type for operand in operands])
        node = Node(op, operands, (self.builder.value(type_),), self.builder.origins)
        value = self.simplified(node)
        if value is not None:
            return value
        self.builder.append(node)
        return node.results[0]

    def made_by(self, value: Value, *kinds: type[Op]) -> Node | None:
        """The node that gives `value`, if its op is one of `kinds`."""
        node = self.builder.definition(value)
        return node if node is not None and isinstance(node.op, kinds) else None

    def made(self, value: Value, kind: type[Kind]) -> tuple[Kind, tuple[Value, ...]] | None:
        """The op of that kind that gives `value`, with its operands."""
        node = self.builder.definition(value)
        return (node.op, node.operands) if node is not None and isinstance(node.op, kind) else None

    def number(self, value: Value) -> float | int | bool | None:
        """The constant that every element of `value` is."""
        return constant_of(self.builder, value)

    def filled(self, op: Op, operands: tuple[Value, ...], number: float) -> Value:
        """A tensor of the type of an op's result."""
        return filled(self.builder, number, op.result_types([operand.type for operand in operands])[0])

    def filled_like(self, value: Value, number: float) -> Value:
        return filled(self.builder, number, value.type)
