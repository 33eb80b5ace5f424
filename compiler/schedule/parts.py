"""A contraction whose sum is split into parts that are added later, as for a weight gradient over many places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np

from compiler.diagnostics import CompilerBug
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Array, Category, Op, Sample
from compiler.ops.contraction import Contraction, Labels
from compiler.record import record
from compiler.types import TensorType

MOST_PARTS = 16
_LARGEST = ((1 << 13, 16), (1 << 14, 8), (1 << 16, 4), (1 << 20, 2))  # elements of the result, and parts up to there


@final
@record
class PartialContraction(Op):
    """As `Contraction`, with a first axis of `parts`: part p sums the indices n*p//parts to n*(p+1)//parts of the first
    label of `lhs` that is summed, whose extent is n."""

    lhs: Labels
    rhs: Labels
    out: Labels
    parts: int
    name: ClassVar[str] = "partial_contraction"
    category: ClassVar[Category] = Category.CONTRACTION

    @property
    def whole(self) -> Contraction:
        return Contraction(self.lhs, self.rhs, self.out)

    @property
    def divided(self) -> int:
        """The label whose indices the parts share."""
        return next(label for label in self.lhs if label not in self.out)

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        (type_,) = self.whole.result_types(operands)
        return (TensorType(type_.dtype, (self.parts, *type_.shape)),)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        raise CompilerBug("autodiff", "a sum is cut into parts after differentiation")

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        left, right = operands
        axes = self.lhs.index(self.divided), self.rhs.index(self.divided)
        size = left.shape[axes[0]]
        found: list[Array] = []
        for part in range(self.parts):
            kept = slice(size * part // self.parts, size * (part + 1) // self.parts)
            pieces = [x[(slice(None),) * axis + (kept,)] for x, axis in zip((left, right), axes, strict=True)]
            found += self.whole.evaluate(pieces, batch)
        return (np.stack(found),)

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        return ()


def parts_for(elements: int) -> int:
    """Into how many parts a long sum with that many results is cut: fewer for large ones, whose parts cost memory."""
    return next((parts for most, parts in _LARGEST if elements <= most), 1)
