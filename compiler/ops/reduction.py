"""Ops that combine elements along axes; `sum` stands in `spreading` beside its transpose, `broadcast`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Category, Cotangents, DifferentiableOp, FlatOp, Op, TypeRuleError, Types
from compiler.ops import rules
from compiler.ops.build import restored
from compiler.ops.elementwise import Cast, Symbolic
from compiler.ops.sources import BatchSize, Constant
from compiler.ops.spreading import Sum
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import DType, Shape, TensorType, size_of

__all__ = ["ArgMax", "CumulativeSum", "Max", "Min", "Moments", "Sum", "element_count"]


def element_count(builder: GraphBuilder, shape: Shape, axes: Sequence[int], dtype: DType) -> Value:
    """The number of elements that a reduction of `shape` over `axes` combines, as a scalar of `dtype`."""
    count, power = size_of(tuple(shape[a] for a in axes))
    if not power:
        return builder.emit(Constant(count, dtype))
    batch = found = Symbolic(builder, builder.emit(Cast(dtype), builder.emit(BatchSize())))
    for _ in range(power - 1):
        found = found * batch
    return (found if count == 1 else found * count).value


def _reduced(name: str, operands: Types, axes: Sequence[int], accepted: Sequence[DType]) -> TensorType:
    """The type of what is left of the single operand, which has elements over `axes`."""
    (operand,) = rules.expect_operands(name, operands, 1)
    rules.expect_dtype(name, operand, accepted)
    rules.expect_axes(name, axes, operand)
    if 0 in (operand.shape[a] for a in axes):
        raise TypeRuleError(f"{name} of no elements has no value: {operand} over the axes {list(axes)}")
    return TensorType(operand.dtype, rules.without_axes(operand.shape, axes))


@record
class _Extreme(DifferentiableOp):
    """The largest or smallest element over `axes`, as the function of NumPy of its name has it; NaN if there is one.

    Ties share the cotangent equally.
    """

    axes: tuple[int, ...]
    category = Category.REDUCTION

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        return (_reduced(self.name, operands, self.axes, rules.NUMBERS),)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        x, y, dy = Symbolic(builder, node.operands[0]), node.results[0], Symbolic(builder, cotangent)
        shape = x.value.type.shape
        reached = x.equals(Symbolic(builder, restored(builder, y, shape, self.axes)))
        ties = reached.cast(y.type.dtype).apply(Sum(self.axes))
        share = Symbolic(builder, restored(builder, (dy / ties).value, shape, self.axes))
        return (reached.choose(share, share.zeros()).value,)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (np.asarray(getattr(np, self.name)(operands[0], axis=self.axes)),)


@final
@record
class Max(_Extreme):
    name = "max"


@final
@record
class Min(_Extreme):
    name = "min"


@final
@record
class ArgMax(FlatOp):
    """The position of the largest element along `axis`, the first of ties; NaN counts as largest."""

    axis: int
    name = "argmax"
    category = Category.REDUCTION

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        return (TensorType(DType.I32, _reduced(self.name, operands, (self.axis,), rules.NUMBERS).shape),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (np.asarray(np.argmax(operands[0], axis=self.axis)).astype(np.int32),)


@final
@record
class CumulativeSum(DifferentiableOp):
    """Each element plus all before it along `axis` (all after it where `reverse`)."""

    axis: int
    reverse: bool
    name = "cumsum"
    category = Category.REDUCTION

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        rules.expect_operands(self.name, operands, 1)
        rules.expect_dtype(self.name, operands[0], (*rules.FLOATS, DType.I32, DType.I64))
        rules.expect_axis(self.name, self.axis, operands[0])
        return (operands[0],)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        return (builder.emit(CumulativeSum(self.axis, not self.reverse), cotangent),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        (x,) = operands
        wide = np.float64 if x.dtype.kind == "f" else x.dtype
        ordered = np.flip(x, self.axis) if self.reverse else x
        total = np.cumsum(ordered, axis=self.axis, dtype=wide).astype(x.dtype)
        return (np.flip(total, self.axis) if self.reverse else total,)


@final
@record
class Moments(Op):
    """The mean over `axes`, and the mean of the squared distances from it."""

    axes: tuple[int, ...]
    name = "moments"
    category = Category.REDUCTION

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        return (_reduced(self.name, operands, self.axes, rules.FLOATS),) * 2

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        x, mean = Symbolic(builder, node.operands[0]), node.results[0]
        type_ = x.value.type
        count = Symbolic(builder, element_count(builder, type_.shape, self.axes, type_.dtype))
        parts: list[Symbolic] = []
        if cotangents[0] is not None:
            parts.append(_spread_share(Symbolic(builder, cotangents[0]), count, type_.shape, self.axes))
        if cotangents[1] is not None:
            share = _spread_share(Symbolic(builder, cotangents[1]) * 2, count, type_.shape, self.axes)
            parts.append((x - Symbolic(builder, restored(builder, mean, type_.shape, self.axes))) * share)
        return ((parts[0] if len(parts) == 1 else parts[0] + parts[1]).value,)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        (x,) = operands
        wide = x.astype(np.float64)
        return np.mean(wide, axis=self.axes).astype(x.dtype), np.var(wide, axis=self.axes).astype(x.dtype)


def _spread_share(cotangent: Symbolic, count: Symbolic, shape: Shape, axes: Sequence[int]) -> Symbolic:
    """cotangent / count, repeated along the reduced axes."""
    builder = cotangent.builder
    counts = restored(builder, count.value, cotangent.value.type.shape, range(cotangent.value.type.rank))
    return Symbolic(builder, restored(builder, (cotangent / Symbolic(builder, counts)).value, shape, axes))


REDUCTIONS: tuple[type[Op], ...] = (Sum, Max, Min, ArgMax, CumulativeSum, Moments)
