"""A contraction of which a causal mask leaves a triangle: of the terms of its sums, or of its results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from compiler.graph.op import Category
from compiler.loops.ir import Triangle
from compiler.ops.contraction import Contraction, Labels
from compiler.schedule.numerics.internal_op import InternalOp
from compiler.support import numerics
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import Shape, TensorType


@final
@record
class OrderedContraction(InternalOp):
    """As `Contraction`, of the elements whose index along the label `early` is at most that along `late`.

    One of these is a label of the rows: in `out` and `lhs`, and not in `rhs`. The other is the only label that is
    summed, and what lies beyond is not added; or it is the only one of the columns, and what lies beyond is 0.
    """

    lhs: Labels
    rhs: Labels
    out: Labels
    early: int
    late: int
    name: ClassVar[str] = "ordered_contraction"
    category: ClassVar[Category] = Category.CONTRACTION

    @property
    def whole(self) -> Contraction:
        return Contraction(self.lhs, self.rhs, self.out)

    @property
    def row(self) -> int:
        return self.early if self.early in self.out and self.early in self.lhs else self.late

    @property
    def triangle(self) -> Triangle:
        other = self.late if self.row == self.early else self.early
        if other in self.out:
            return Triangle.COLUMNS_TO_ROW if other == self.early else Triangle.COLUMNS_FROM_ROW
        return Triangle.SUM_TO_ROW if other == self.early else Triangle.SUM_FROM_ROW

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        return self.whole.result_types(operands)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        left, right = operands
        if self.triangle in (Triangle.SUM_TO_ROW, Triangle.SUM_FROM_ROW):
            return self.whole.evaluate((self._within(left, self.lhs), right), batch)
        return (self._within(self.whole.evaluate(operands, batch)[0], self.out),)

    def _within(self, array: Array, labels: Labels) -> Array:
        early, late = labels.index(self.early), labels.index(self.late)
        seen = np.tri(array.shape[late], array.shape[early], dtype=np.bool_)
        order = [axis for axis in range(array.ndim) if axis not in (early, late)] + [late, early]
        found = np.where(seen, array.transpose(order), np.zeros((), array.dtype))
        return found.transpose([order.index(axis) for axis in range(array.ndim)])


def ordered(whole: Contraction, shapes: tuple[Shape, Shape], order: tuple[int, int]) -> OrderedContraction | None:
    """The contraction with the order of its labels (early, late), where it has the form for it."""
    extents = dict(zip((*whole.lhs, *whole.rhs), (*shapes[0], *shapes[1]), strict=True))
    early, late = (extents[label] for label in order)
    if not isinstance(early, int) or early != late or early < numerics.FEWEST_ORDERED:
        return None
    rows = {label for label in whole.lhs if label in whole.out and label not in whole.rhs}
    summed = {label for label in whole.lhs if label not in whole.out}
    columns = {label for label in whole.out if label not in whole.lhs}
    if len(summed) != 1:
        return None  # a tile is multiplied along one axis
    if any({first} & rows and {second} in (summed, columns) for first, second in (order, order[::-1])):
        return OrderedContraction(whole.lhs, whole.rhs, whole.out, *order)
    return None
