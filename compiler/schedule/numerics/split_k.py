"""Split-k: a contraction whose sum is split; the partial sums are added later, as for a gradient over many places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np

from compiler.graph.op import Array, Category
from compiler.ops.contraction import Contraction, Labels
from compiler.schedule.numerics.internal_op import InternalOp
from compiler.support import numerics
from compiler.support.record import record
from compiler.types import TensorType


@final
@record
class SplitContraction(InternalOp):
    """As `Contraction`, with a first axis of `splits`: number p sums the indices n*p//splits to n*(p+1)//splits of the
    first label of `lhs` that is summed, whose extent is n."""

    lhs: Labels
    rhs: Labels
    out: Labels
    splits: int
    name: ClassVar[str] = "split_contraction"
    category: ClassVar[Category] = Category.CONTRACTION

    @property
    def whole(self) -> Contraction:
        return Contraction(self.lhs, self.rhs, self.out)

    @property
    def divided(self) -> int:
        """The label whose indices the splits share."""
        return next(label for label in self.lhs if label not in self.out)

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        (type_,) = self.whole.result_types(operands)
        return (TensorType(type_.dtype, (self.splits, *type_.shape)),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        left, right = operands
        axes = self.lhs.index(self.divided), self.rhs.index(self.divided)
        size = left.shape[axes[0]]
        found: list[Array] = []
        for split in range(self.splits):
            kept = slice(size * split // self.splits, size * (split + 1) // self.splits)
            pieces = [x[(slice(None),) * axis + (kept,)] for x, axis in zip((left, right), axes, strict=True)]
            found += self.whole.evaluate(pieces, batch)
        return (np.stack(found),)


def splits_for(elements: int) -> int:
    """How often a long sum with that many results is split: less for many of them, since each split costs memory."""
    return next((splits for most, splits in numerics.SPLITS if elements <= most), 1)
