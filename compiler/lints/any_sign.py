"""Values of a graph that can be any number, because a trained parameter moves them without bound."""

from __future__ import annotations

from collections.abc import Collection

from compiler.graph.ir import Graph, Node, Role, Value
from compiler.lints.flow import unchanged
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Divide, Multiply, Negate, Subtract, Where
from compiler.ops.indexing import Gather
from compiler.ops.movement import Concat
from compiler.ops.reduction import CumulativeSum, Max, Min, Moments
from compiler.ops.spreading import Sum

_EVERY = -1


class AnySign:
    """Of each value, the parameters that move it and those that it depends on at all: a bit for each parameter.

    What is on both sides of a sum or product may keep it above 0, as in `h + sqrt(h^2 + 1)`, and counts for neither.
    """

    def __init__(self, graph: Graph, frozen: Collection[str]) -> None:
        self._moving: dict[int, int] = {}
        self._reading: dict[int, int] = {}
        trained = [e.value for e in graph.inputs if e.role is Role.PARAMETER and e.name not in frozen]
        for number, value in enumerate(trained):
            self._moving[value.index] = self._reading[value.index] = 1 << number
        for entry in graph.inputs:
            if entry.name == "(carry)":  # of the steps of a scan before
                self._reading[entry.value.index] = _EVERY
        for node in graph.nodes:
            read = 0
            for operand in node.operands:
                read |= self._reading.get(operand.index, 0)
            for place, result in enumerate(node.results):
                self._reading[result.index] = read
                self._moving[result.index] = self._moved(node, place, result)

    def __getitem__(self, value: Value) -> bool:
        """Whether training can make the value any number, a negative one as well as a positive one."""
        return self._moving.get(value.index, 0) != 0

    def _moved(self, node: Node, place: int, result: Value) -> int:
        moving = [self._moving.get(operand.index, 0) for operand in node.operands]
        before = unchanged(node, result)
        if before is not None:
            return self._moving.get(before.index, 0)
        match node.op:
            case Divide():
                return moving[0] & ~self._read(node, 1)
            case Add() | Subtract() | Multiply() | Contraction():
                return (moving[0] & ~self._read(node, 1)) | (moving[1] & ~self._read(node, 0))
            case Negate() | Sum() | CumulativeSum() | Max() | Min() | Gather():
                return moving[0]
            case Moments():
                return moving[0] if place == 0 else 0
            case Where():
                return (moving[1] | moving[2]) & ~self._read(node, 0)
            case Concat():  # a part of it may be taken, which can be any of them
                return max(moving) if all(moving) else 0
            case _:
                return 0

    def _read(self, node: Node, side: int) -> int:
        return self._reading.get(node.operands[side].index, 0)
