"""Small subgraphs that gradients and passes have in common."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Value
from compiler.ops import rules
from compiler.ops.sources import Constant
from compiler.ops.spreading import Broadcast, Reshape
from compiler.types import DType, Shape, TensorType


def filled(builder: GraphBuilder, value: float, type_: TensorType) -> Value:
    """A tensor of `type_` whose every element is `value`."""
    number = value if type_.dtype.is_float else bool(value) if type_.dtype is DType.BOOL else int(value)
    return spread(builder, builder.emit(Constant(number, type_.dtype)), type_.shape)


def spread(builder: GraphBuilder, scalar: Value, shape: Shape) -> Value:
    """A scalar repeated to `shape`."""
    return builder.emit(Broadcast(shape, ()), scalar) if shape else scalar


def restored(builder: GraphBuilder, reduced: Value, shape: Shape, axes: Sequence[int]) -> Value:
    """The result of a reduction of `shape` over `axes`, repeated along those axes again."""
    return builder.emit(Broadcast(shape, rules.other_axes(len(shape), axes)), reduced) if axes else reduced


def constant_of(builder: GraphBuilder, value: Value) -> float | int | bool | None:
    """The number that every element of `value` is known to be, seen through broadcasts and reshapes."""
    node = builder.definition(value)
    while node is not None:
        op = node.op
        if isinstance(op, Constant):
            return op.value
        if not isinstance(op, (Broadcast, Reshape)):
            return None
        node = builder.definition(node.operands[0])
    return None
