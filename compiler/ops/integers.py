"""Which values of a graph hold whole numbers only, and how large they can be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Abs, Add, Cast, Maximum, Minimum, Multiply, Negate, Subtract, Where
from compiler.ops.indexing import Gather
from compiler.ops.movement import Concat, Reverse, Slice, Transpose
from compiler.ops.reduction import Max, Min
from compiler.ops.sources import Constant
from compiler.ops.spreading import Broadcast, Reshape, Sum
from compiler.types import BatchExtent, DType

_SMALL = {DType.BOOL: 1.0, DType.U8: 255.0}
_SAME = (Abs, Broadcast, Gather, Max, Min, Negate, Reshape, Reverse, Slice, Transpose)


class Bounds:
    """Looks backwards from a value of a graph under construction."""

    def __init__(self, builder: GraphBuilder) -> None:
        self._builder = builder
        self._known: dict[int, float | None] = {}

    def of(self, value: Value) -> float | None:
        """The largest magnitude of a value of whole numbers, `inf` where nothing limits it; None of other values."""
        if value.index not in self._known:
            self._known[value.index] = self._found(value)
        return self._known[value.index]

    @staticmethod
    def elements(value: Value, axes: Sequence[int]) -> float:
        """How many elements lie along some axes; `inf` along the batch."""
        extents = (value.type.shape[axis] for axis in axes)
        return math.prod(math.inf if isinstance(extent, BatchExtent) else extent for extent in extents)

    def _found(self, value: Value) -> float | None:
        dtype = value.type.dtype
        if dtype in _SMALL:
            return _SMALL[dtype]
        node = self._builder.definition(value)
        found = None if node is None else self._of_node(node)
        return math.inf if found is None and not dtype.is_float else found

    def _of_node(self, node: Node) -> float | None:
        match node.op:
            case Constant(number):
                return abs(float(number)) if float(number).is_integer() else None
            case Cast():
                return self.of(node.operands[0])
            case Where():
                return self._joined(node.operands[1:], max)
            case Maximum() | Minimum() | Concat():
                return self._joined(node.operands, max)
            case Add() | Subtract():
                return self._joined(node.operands, sum)
            case Multiply():
                return self._joined(node.operands, _product)
            case Sum(axes):
                return _times(self.of(node.operands[0]), self.elements(node.operands[0], axes))
            case Contraction(lhs, _, out):
                summed = [axis for axis, label in enumerate(lhs) if label not in out]
                return _times(self._joined(node.operands, _product), self.elements(node.operands[0], summed))
            case op if isinstance(op, _SAME):
                return self.of(node.operands[0])
            case _:
                return None

    def _joined(self, values: Sequence[Value], join: Callable[[Sequence[float]], float]) -> float | None:
        bounds = [self.of(value) for value in values]
        known = [bound for bound in bounds if bound is not None]
        return join(known) if len(known) == len(bounds) else None


def _product(bounds: Sequence[float]) -> float:
    return 0.0 if 0.0 in bounds else math.prod(bounds)


def _times(bound: float | None, count: float) -> float | None:
    return None if bound is None else _product((bound, count))
