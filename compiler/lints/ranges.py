"""The values of a graph to the intervals in which their elements lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from compiler.frontend.applications import Application
from compiler.frontend.program import Program
from compiler.graph.ir import Graph, GraphInput, Node, Role, Value
from compiler.graph.op import Op
from compiler.lints.flow import Flow, unchanged
from compiler.ops import elementwise, intervals
from compiler.ops.contraction import Contraction
from compiler.ops.indexing import Gather, ScatterAdd
from compiler.ops.intervals import EVERY, LEAST, NOT_NEGATIVE, UNIT, Range
from compiler.ops.mathematics import Function, Power
from compiler.ops.movement import Concat, Pad
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments
from compiler.ops.sources import BatchSize, Constant, Iota, RandomUniform, Threefry
from compiler.ops.spreading import Sum
from compiler.ops.window import Fold
from compiler.types import DType, static_elements

_OF_TYPE = {d: Range(*map(float, d.limits)) for d in (DType.U8, DType.BOOL, DType.I8, DType.I16, DType.U16, DType.U32)}
_TRUTHS = (elementwise.Comparison, elementwise.And, elementwise.Or, elementwise.Not)
_OF_ONE: Mapping[type[Op], Callable[[Range], Range]] = {
    elementwise.Negate: intervals.negated,
    elementwise.Floor: intervals.rounded_down,
    elementwise.Abs: intervals.magnitude,
    Max: lambda x: x,
    Min: lambda x: x,
    Fold: lambda x: intervals.joined(Range(0.0, 0.0), intervals.total(x, None)),
}
_OF_TWO: Mapping[type[Op], Callable[[Range, Range], Range]] = {
    elementwise.Add: intervals.added,
    elementwise.Subtract: lambda a, b: intervals.added(a, intervals.negated(b)),
    elementwise.Multiply: intervals.multiplied,
    elementwise.Divide: intervals.divided,
    Power: intervals.raised,
    elementwise.Maximum: intervals.maximum,
    elementwise.Minimum: intervals.minimum,
    Contraction: lambda x, y: intervals.total(intervals.multiplied(x, y), None),
    Gather: lambda x, _: x,
    ScatterAdd: lambda _, y: intervals.joined(Range(0.0, 0.0), intervals.total(y, None)),
}


class Ranges:
    """The interval of each value, by index; of those that are `known`, that one."""

    def __init__(
        self,
        program: Program,
        graph: Graph,
        applications: Sequence[Application] = (),
        known: Mapping[int, Range] | None = None,
    ) -> None:
        self.flow = Flow(graph)
        known = known or {}
        self._numbers = self.flow.numbers()
        self._found = {entry.value.index: _of_input(program, entry) for entry in graph.inputs}
        softmaxes = [a for a in applications if a.is_library and a.declaration.name == "softmax"]
        # In exact arithmetic it is positive; in f32, an element 104 below the largest is 0.
        self.softmaxes = {result.index: application for application in softmaxes for result in application.results}
        for node in graph.nodes:
            for result, found in zip(node.results, self._of_node(node), strict=True):
                narrow = UNIT if result.index in self.softmaxes else found
                self._found[result.index] = known.get(result.index, narrow)

    def __getitem__(self, value: Value) -> Range:
        return self._found[value.index]

    def _of_node(self, node: Node) -> tuple[Range, ...]:
        known = [self[operand] for operand in node.operands]
        kind = type(node.op)
        if isinstance(node.op, elementwise.Cast) and not node.op.dtype.is_float:
            return (intervals.rounded_down(known[0]),)
        if all(unchanged(node, result) is not None for result in node.results):
            return tuple(self[operand] for r in node.results if (operand := unchanged(node, r)) is not None)
        if isinstance(node.op, Moments):
            return known[0], NOT_NEGATIVE
        if isinstance(node.op, _TRUTHS):
            return (UNIT,)
        if isinstance(node.op, elementwise.Multiply) and node.operands[0] == node.operands[1]:
            return (intervals.squared(known[0]),)
        if isinstance(node.op, Function):
            return (node.op.interval(known[0]),)
        if kind in _OF_ONE:
            return (_OF_ONE[kind](known[0]),)
        if kind in _OF_TWO:
            return (_OF_TWO[kind](known[0], known[1]),)
        return (self._of_others(node, known),) if len(node.results) == 1 else (EVERY,) * len(node.results)

    def _of_others(self, node: Node, known: list[Range]) -> Range:
        match node.op:
            case Constant(value):
                return Range(float(value), float(value))
            case Iota(shape, axis):
                extent = shape[axis]
                return Range(0.0, float(extent - 1) if isinstance(extent, int) else math.inf)
            case BatchSize():
                return Range(1.0, math.inf)
            case RandomUniform() | Threefry(DType.F32 | DType.F64):
                return Range(0.0, 1 - 2.0**-24)
            case ArgMax():
                return NOT_NEGATIVE
            case elementwise.Modulo():
                return intervals.remainder(known[0], known[1], not node.results[0].type.dtype.is_float)
            case Sum() | CumulativeSum():
                return intervals.total(known[0], _count(node))
            case Concat():
                return intervals.joined(*known)
            case Pad(_, _, value):
                return intervals.joined(known[0], Range(value, value))
            case elementwise.Where():
                condition, kept, other = node.operands
                return intervals.joined(self._under(condition, True, kept), self._under(condition, False, other))
            case _:
                return EVERY

    def _under(self, condition: Value, holds: bool, value: Value) -> Range:
        """The interval of a value where a comparison of it with a number holds, or does not."""
        node = self.flow.maker(self.flow.source(condition))
        found = self[value]
        if node is None or len(node.operands) != 2:
            return found
        left, right = node.operands
        compared, *sides = (self._numbers[self.flow.source(v).index] for v in (value, left, right))
        is_left, is_right = (side == compared for side in sides)
        if is_left == is_right:
            return found
        bound = self[right if is_left else left]
        return _narrowed(found, node, holds, is_left, bound)


def _narrowed(found: Range, node: Node, holds: bool, is_left: bool, bound: Range) -> Range:
    match node.op:
        case elementwise.NotEqual() | elementwise.Equal():
            is_other = holds is isinstance(node.op, elementwise.NotEqual)
            return found.without_zero() if is_other and bound == Range(0.0, 0.0) else found
        case elementwise.Less() | elementwise.LessEqual():
            # The value is the larger side of what holds, or the smaller side of what does not.
            if holds is is_left:
                return Range(found.low, min(found.high, bound.high))
            is_strict = isinstance(node.op, elementwise.Less) is holds
            low = LEAST if is_strict and bound.low == 0 else bound.low
            return Range(max(found.low, low), found.high)
        case _:
            return found


def _count(node: Node) -> int | None:
    """How many elements each sum has, where that is known."""
    before, after = node.operands[0].type.shape, node.results[0].type.shape
    if not isinstance(node.op, Sum) or any(not isinstance(e, int) for e in (*before, *after)):
        return None
    return static_elements(before) // max(static_elements(after), 1)


def _of_input(program: Program, entry: GraphInput) -> Range:
    if entry.role is Role.SETTING:
        return _of_setting({s.name: s.value for s in program.settings}, entry.name)
    if entry.role is not Role.DATA:
        return EVERY
    spec = next((spec for spec in program.inputs if spec.name == entry.name), None)
    known = _OF_TYPE.get(entry.value.type.dtype, EVERY)
    if spec is None or spec.low is None or spec.high is None:
        return known
    return Range(float(spec.low), float(spec.high - 1))


def _of_setting(values: Mapping[str, object], name: str) -> Range:
    """A number that is known, or the length of the training."""
    value = values.get(name)
    if isinstance(value, int | float):
        return Range(float(value), float(value))
    return Range(1.0, math.inf) if name in ("total_steps", "steps_per_epoch") else EVERY
