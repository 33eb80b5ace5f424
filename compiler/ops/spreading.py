"""`broadcast`, `sum` and `reshape`: each is made of the others under differentiation, so they share a module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from compiler.graph.op import Category, Cotangents, DifferentiableOp, TypeRuleError
from compiler.ops import rules
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import DType, Extent, Shape, TensorType, at_batch, depends_on_batch, is_of_pairs, size_of, size_text

if TYPE_CHECKING:
    from compiler.graph.builder import GraphBuilder
    from compiler.graph.ir import Node, Value


@final
@record
class Broadcast(DifferentiableOp):
    """Operand axis i becomes result axis `axes[i]` (increasing); an extent 1 is repeated, other axes are new."""

    shape: Shape
    axes: tuple[int, ...]
    name = "broadcast"
    category = Category.MOVEMENT

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        rules.expect_operands(self.name, operands, 1)
        operand, result = operands[0], TensorType(operands[0].dtype, self.shape)
        if len(self.axes) != operand.rank:
            raise TypeRuleError(f"broadcast needs a place for each axis of {operand}, but got {list(self.axes)}")
        rules.expect_axes(self.name, self.axes, result)
        for extent, axis in zip(operand.shape, self.axes, strict=True):
            if extent != 1 and extent != self.shape[axis]:
                raise TypeRuleError(f"{operand} cannot be broadcast to {result}: {extent} meets {self.shape[axis]}")
        return (result,)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        operand = node.operands[0].type
        kept = tuple(a for e, a in zip(operand.shape, self.axes, strict=True) if e == self.shape[a])
        repeated = rules.other_axes(len(self.shape), kept)
        summed = builder.emit(Sum(repeated), cotangent) if repeated else cotangent
        return (summed if summed.type.shape == operand.shape else builder.emit(Reshape(operand.shape), summed),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        shape = [1] * len(self.shape)
        for extent, axis in zip(operands[0].shape, self.axes, strict=True):
            shape[axis] = extent
        return (np.broadcast_to(operands[0].reshape(shape), at_batch(self.shape, batch)),)


@final
@record
class Sum(DifferentiableOp):
    """The sum over `axes`, which are dropped."""

    axes: tuple[int, ...]
    name = "sum"
    category = Category.REDUCTION

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        (operand,) = rules.expect_operands(self.name, operands, 1)
        rules.expect_dtype(self.name, operand, (*rules.FLOATS, DType.I32, DType.I64))
        rules.expect_axes(self.name, self.axes, operand)
        return (TensorType(operand.dtype, rules.without_axes(operand.shape, self.axes)),)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        shape = node.operands[0].type.shape
        return (builder.emit(Broadcast(shape, rules.other_axes(len(shape), self.axes)), cotangent),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        (x,) = operands
        wide = np.float64 if x.dtype.kind == "f" else x.dtype
        return (np.sum(x, axis=self.axes, dtype=wide).astype(x.dtype),)


def keeps_rows(before: Shape, after: Shape) -> bool:
    """Whether a reshape leaves each axis of the batch one, of which a row is so many neighbours: [batch, 3] may become
    [3*batch], and [3, batch] may not."""
    sides = [list(before), list(after)]
    while sides[0] and sides[1]:
        group = [[side.pop(0)] for side in sides]
        while (sizes := [_power_first(part) for part in group])[0] != sizes[1]:
            shorter = 0 if sizes[0] < sizes[1] else 1
            if not sides[shorter]:
                return False
            group[shorter].append(sides[shorter].pop(0))
        if any(depends_on_batch(tuple(part[_units(part) + 1 :])) for part in group):
            return False
    return all(extent == 1 for side in sides for extent in side)


def _power_first(extents: Sequence[Extent]) -> tuple[int, int]:
    count, power = size_of(tuple(extents))
    return power, count


def _units(extents: Sequence[Extent]) -> int:
    """How many extents of 1 stand first."""
    return next((place for place, extent in enumerate(extents) if extent != 1), len(extents))


@final
@record
class Reshape(DifferentiableOp):
    """The same elements in row-major order under another shape."""

    shape: Shape
    name = "reshape"
    category = Category.MOVEMENT

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        rules.expect_operands(self.name, operands, 1)
        operand, result = operands[0], TensorType(operands[0].dtype, self.shape)
        if size_of(operand.shape) != size_of(self.shape):
            before, after = size_text(operand.shape), size_text(self.shape)
            raise TypeRuleError(f"{operand} has {before} elements and cannot be reshaped to {result} with {after}")
        if is_of_pairs(self.shape) and not keeps_rows(operand.shape, self.shape):
            raise TypeRuleError(f"a reshape of {operand} to {result} would tear rows of the batch apart")
        return (result,)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        return (builder.emit(Reshape(node.operands[0].type.shape), cotangent),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (operands[0].reshape(at_batch(self.shape, batch)),)
