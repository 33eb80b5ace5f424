"""Ops that move elements without computing; `broadcast` and `reshape` stand in `spreading` beside `sum`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Category, Cotangents, DifferentiableOp, Op, TypeRuleError, Types
from compiler.ops import rules
from compiler.ops.spreading import Broadcast, Reshape
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import BatchExtent, Extent, Shape, TensorType, at_batch, batch_axes, is_of_pairs

__all__ = ["Broadcast", "Concat", "Pad", "Reshape", "Reverse", "Slice", "Transpose"]


@final
@record
class Transpose(DifferentiableOp):
    """Result axis i is operand axis `permutation[i]`."""

    permutation: tuple[int, ...]
    name = "transpose"
    category = Category.MOVEMENT

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        (operand,) = rules.expect_operands(self.name, operands, 1)
        if sorted(self.permutation) != list(range(operand.rank)):
            raise TypeRuleError(f"transpose: {list(self.permutation)} does not order the axes of {operand}")
        return (TensorType(operand.dtype, tuple(operand.shape[a] for a in self.permutation)),)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        return (builder.emit(Transpose(inverse(self.permutation)), cotangent),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (np.transpose(operands[0], self.permutation),)


def inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `permutation`."""
    places = {axis: i for i, axis in enumerate(permutation)}
    return tuple(places[i] for i in range(len(permutation)))


@final
@record
class Slice(DifferentiableOp):
    """Along each axis, `sizes` elements from `starts` on, `steps` apart; a batch axis is always whole."""

    starts: tuple[int, ...]
    sizes: Shape
    steps: tuple[int, ...]
    name = "slice"
    category = Category.MOVEMENT

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        (operand,) = rules.expect_operands(self.name, operands, 1)
        if not len(self.starts) == len(self.sizes) == len(self.steps) == operand.rank:
            raise TypeRuleError(f"slice needs a start, a size and a step for each axis of {operand}")
        for axis, extent in enumerate(operand.shape):
            self._expect_inside(axis, extent, operand)
        return (TensorType(operand.dtype, self.sizes),)

    def _expect_inside(self, axis: int, extent: Extent, operand: TensorType) -> None:
        start, size, step = self.starts[axis], self.sizes[axis], self.steps[axis]
        if isinstance(extent, BatchExtent) or isinstance(size, BatchExtent):
            if (start, size, step) != (0, extent, 1):
                raise TypeRuleError(f"axis {axis} of {operand} is the batch, which cannot be cut")
        elif step < 1 or start < 0 or size < 0 or (size > 0 and start + (size - 1) * step >= extent):
            elements = f"{size} elements from {start} on with step {step}"
            raise TypeRuleError(f"slice takes {elements} along axis {axis} of {operand}, which has {extent}")

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        shape = node.operands[0].type.shape
        for axis, step in enumerate(self.steps):
            if step > 1:
                cotangent = _dilate(builder, cotangent, axis, step)
        high = tuple(
            0 if isinstance(whole, BatchExtent) or isinstance(used, BatchExtent) else whole - start - used
            for whole, used, start in zip(shape, cotangent.type.shape, self.starts, strict=True)
        )
        return (builder.emit(Pad(self.starts, high, 0.0), cotangent),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        ends = zip(self.starts, at_batch(self.sizes, batch), self.steps, strict=True)
        return (operands[0][tuple(slice(start, start + size * step, step) for start, size, step in ends)],)


def _dilate(builder: GraphBuilder, value: Value, axis: int, step: int) -> Value:
    """`step - 1` zeros between the elements along a static `axis`."""
    shape = value.type.shape
    size = shape[axis]
    assert isinstance(size, int)
    before, after = shape[:axis], shape[axis + 1 :]
    apart = builder.emit(Reshape((*before, size, 1, *after)), value)
    high = tuple(step - 1 if i == axis + 1 else 0 for i in range(len(shape) + 1))
    padded = builder.emit(Pad((0,) * len(high), high, 0.0), apart)
    joined = builder.emit(Reshape((*before, size * step, *after)), padded)
    sizes = (*before, max(0, (size - 1) * step + 1), *after)
    return builder.emit(Slice((0,) * len(shape), sizes, (1,) * len(shape)), joined)


@final
@record(eq=False)
class Pad(DifferentiableOp):
    """`low` elements of `value` before, and `high` behind, each axis."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    value: float
    name = "pad"
    category = Category.MOVEMENT

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pad) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[tuple[int, ...], tuple[int, ...], str]:
        return self.low, self.high, repr(float(self.value))

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        (operand,) = rules.expect_operands(self.name, operands, 1)
        if not len(self.low) == len(self.high) == operand.rank:
            raise TypeRuleError(f"pad needs a low and a high width for each axis of {operand}")
        if min((*self.low, *self.high), default=0) < 0:
            raise TypeRuleError(f"pad widths cannot be negative, but got {list(self.low)} and {list(self.high)}")
        return (TensorType(operand.dtype, tuple(self._extent(axis, operand) for axis in range(operand.rank))),)

    def _extent(self, axis: int, operand: TensorType) -> Extent:
        extent, added = operand.shape[axis], self.low[axis] + self.high[axis]
        if not isinstance(extent, BatchExtent):
            return extent + added
        if added:
            raise TypeRuleError(f"axis {axis} of {operand} is the batch, which cannot be padded")
        return extent

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        shape = node.operands[0].type.shape
        return (builder.emit(Slice(self.low, shape, (1,) * len(shape)), cotangent),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        (x,) = operands
        fill = np.asarray(self.value).astype(x.dtype)
        return (np.pad(x, tuple(zip(self.low, self.high, strict=True)), constant_values=fill) if x.ndim else x,)


@final
@record
class Concat(DifferentiableOp):
    """The operands one after the other along `axis`."""

    axis: int
    name = "concat"
    category = Category.MOVEMENT

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        if not operands:
            raise TypeRuleError("concat needs at least one tensor")
        first = operands[0]
        rules.expect_axis(self.name, self.axis, first)
        for other in operands[1:]:
            if other.dtype is not first.dtype or other.rank != first.rank or self._rest(other) != self._rest(first):
                raise TypeRuleError(f"concat along axis {self.axis}: {first} and {other} differ in more than that axis")
        total = 0
        for operand in operands:
            extent = operand.shape[self.axis]
            if isinstance(extent, BatchExtent):
                raise TypeRuleError(f"axis {self.axis} of {operand} is the batch, along which nothing is concatenated")
            total += extent
        return (TensorType(first.dtype, (*first.shape[: self.axis], total, *first.shape[self.axis + 1 :])),)

    def _rest(self, operand: TensorType) -> tuple[Shape, Shape]:
        return operand.shape[: self.axis], operand.shape[self.axis + 1 :]

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        slices: list[Value] = []
        start, rank = 0, cotangent.type.rank
        for operand in node.operands:
            starts = tuple(start if i == self.axis else 0 for i in range(rank))
            slices.append(builder.emit(Slice(starts, operand.type.shape, (1,) * rank), cotangent))
            extent = operand.type.shape[self.axis]
            assert isinstance(extent, int)
            start += extent
        return slices

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (np.concatenate(operands, axis=self.axis),)


@final
@record
class Reverse(DifferentiableOp):
    """The elements in opposite order along `axes`."""

    axes: tuple[int, ...]
    name = "reverse"
    category = Category.MOVEMENT

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        rules.expect_operands(self.name, operands, 1)
        rules.expect_axes(self.name, self.axes, operands[0])
        shape = operands[0].shape
        if is_of_pairs(shape) and {*batch_axes(shape)} & {*self.axes}:
            raise TypeRuleError(f"the rows of {operands[0]}, which holds pairs of them, cannot be reversed")
        return (operands[0],)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        return (builder.emit(self, cotangent),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (np.flip(operands[0], self.axes),)


MOVEMENTS: tuple[type[Op], ...] = (Reshape, Transpose, Broadcast, Slice, Pad, Concat, Reverse)
