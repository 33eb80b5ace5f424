"""The ops that a graph has only after its order is fixed: `fix_numerics` and `rematerialise` introduce them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, TypeAlias, final

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node
from compiler.graph.op import Category, Cotangents, Op, Types
from compiler.loops.ir import Triangle
from compiler.ops.contraction import Contraction, Labels
from compiler.ops.pairs import FitRows
from compiler.ops.rules import ROUNDINGS, round_to_bf16, without_axes
from compiler.support import numerics
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import Rounding, Shape, TensorType, at_batch, numpy_dtype


class InternalOp(Op):
    """It appears after differentiation, and tests of the language's ops leave it out."""

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        raise CompilerBug("autodiff", f"the op {self.name} is made after differentiation")


class _Identity(InternalOp):
    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        return (operands[0],)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (operands[0],)


@final
@record
class Copy(_Identity):
    """The operand, stored densely: where a view cannot serve."""

    name: ClassVar[str] = "copy"
    category: ClassVar[Category] = Category.ELEMENTWISE


@final
@record
class After(_Identity):
    """(x, gate) -> x, for readers that come behind the kernel that makes `gate`. It is a view: nothing is executed.

    So a rematerialised value is not computed early, beside its first computation.
    """

    name: ClassVar[str] = "after"
    category: ClassVar[Category] = Category.MOVEMENT


@final
@record
class ProductSum(InternalOp):
    """(x, y) -> the sum of x * y over `axes`, neighbours in storage that are not the innermost, in their order."""

    axes: tuple[int, ...]
    name: ClassVar[str] = "product_sum"
    category: ClassVar[Category] = Category.REDUCTION

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        return (TensorType(operands[0].dtype, without_axes(operands[0].shape, self.axes)),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (np.asarray(np.sum(operands[0] * operands[1], axis=self.axes, dtype=operands[0].dtype)),)


@final
@record
class Empty(InternalOp):
    """A tensor whose elements are all written by the `Insert`s that follow."""

    type: TensorType
    name: ClassVar[str] = "empty"
    category: ClassVar[Category] = Category.SOURCE

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        return (self.type,)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (np.zeros(at_batch(self.type.shape, batch), numpy_dtype(self.type.dtype)),)


@final
@record
class Insert(InternalOp):
    """(base, part) -> base with `part` at `starts`. The base is written in place and has no other use.

    With an `axis`, there is a third operand: the start along this axis, kept inside of it.
    """

    starts: tuple[int, ...]
    axis: int | None = None
    name: ClassVar[str] = "insert"
    category: ClassVar[Category] = Category.MOVEMENT

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        return (operands[0],)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        base, part, starts = operands[0].copy(), operands[1], list(self.starts)
        if self.axis is not None:
            starts[self.axis] = min(max(int(operands[2]), 0), base.shape[self.axis] - 1)
        base[tuple(slice(s, s + n) for s, n in zip(starts, part.shape, strict=True))] = part
        return (base,)


@final
@record
class Pick(InternalOp):
    """(x of rank 1, indices) -> x[indices], for indices that the program made itself and that may reach the batch."""

    name: ClassVar[str] = "pick"
    category: ClassVar[Category] = Category.INDEXING

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        return (TensorType(operands[0].dtype, operands[1].shape),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (operands[0][operands[1]],)


@record
class _Product(InternalOp):
    lhs: Labels
    rhs: Labels
    out: Labels
    category: ClassVar[Category] = Category.CONTRACTION

    @property
    def whole(self) -> Contraction:
        return Contraction(self.lhs, self.rhs, self.out)

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        return self.whole.result_types(operands)


@record
class _InSplits(_Product):
    """With several `splits`, the result has a first axis of them.

    Number p sums the indices n*p//splits to n*(p+1)//splits of the first label of `lhs` that is summed, of extent n.
    """

    splits: int = 1

    @property
    def divided(self) -> int:
        """The label whose indices the splits share."""
        return next(label for label in self.lhs if label not in self.out)

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        (type_,) = self.whole.result_types(operands)
        return (type_ if self.splits == 1 else TensorType(type_.dtype, (self.splits, *type_.shape)),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        if self.splits == 1:
            return (self.summed(operands, batch),)
        left, right = operands
        axes = self.lhs.index(self.divided), self.rhs.index(self.divided)
        size = left.shape[axes[0]]
        found: list[Array] = []
        for split in range(self.splits):
            kept = slice(size * split // self.splits, size * (split + 1) // self.splits)
            pieces = [x[(slice(None),) * axis + (kept,)] for x, axis in zip((left, right), axes, strict=True)]
            found.append(self.summed(pieces, batch))
        return (np.stack(found),)

    def summed(self, operands: Sequence[Array], batch: int) -> Array:
        """The product of some of the summed indices."""
        return self.whole.evaluate(operands, batch)[0]


@final
@record
class SplitContraction(_InSplits):
    """As `Contraction`, in several splits."""

    name: ClassVar[str] = "split_contraction"


@final
@record
class OrderedContraction(_Product):
    """As `Contraction`, of the elements whose index along the label `early` is at most that along `late`.

    One of these is a label of the rows: in `out` and `lhs`, and not in `rhs`. The other is the only label that is
    summed, and what lies beyond is not added; or it is the only one of the columns, and what lies beyond is 0.
    """

    early: int
    late: int
    name: ClassVar[str] = "ordered_contraction"

    @property
    def row(self) -> int:
        return self.early if self.early in self.out and self.early in self.lhs else self.late

    @property
    def triangle(self) -> Triangle:
        other = self.late if self.row == self.early else self.early
        if other in self.out:
            return Triangle.COLUMNS_TO_ROW if other == self.early else Triangle.COLUMNS_FROM_ROW
        return Triangle.SUM_TO_ROW if other == self.early else Triangle.SUM_FROM_ROW

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


@final
@record
class RoundedContraction(_Product):
    """As `Contraction` of f32, in which factors are rounded to bf16 and terms are added in f32 in a stated order.

    Of each BLOCK terms, one chain of fused multiply-adds takes those at even places, from 0 on, and one those at odd
    places. Both are added, then added to the sum, which begins as 0. A last block is filled up with zeros. Subnormal
    numbers count as 0: the factors, the sums of chains after each term, and the sums of blocks. Tiles of AMX compute
    this, and so do pairs of terms, two places apart, of AVX512-BF16 ("Intel 64 and IA-32 Architectures Software
    Developer's Manual", TDPBF16PS and VDPBF16PS).
    """

    name: ClassVar[str] = "rounded_contraction"

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (self.whole.stacked(operands, product_in_bf16),)


@record
class _Chained(_InSplits):
    """As `Contraction` of f32, in which factors are rounded; each element is one chain of fused multiply-adds.

    It goes in the order of the sum, from 0 on, and begins as 0; in the end, -0 becomes 0. A GPU computes it so, but
    where its instructions for matrices add up terms: the order within one of these is the device's own.
    """

    rounding: ClassVar[Rounding]

    def summed(self, operands: Sequence[Array], batch: int) -> Array:
        return self.whole.stacked(operands, partial(chain_of_rounded, rounding=self.rounding))


@final
@record
class Bf16Contraction(_Chained):
    name: ClassVar[str] = "bf16_contraction"
    rounding: ClassVar[Rounding] = Rounding.BF16


@final
@record
class Tf32Contraction(_Chained):
    name: ClassVar[str] = "tf32_contraction"
    rounding: ClassVar[Rounding] = Rounding.TF32


CHAINED = (Bf16Contraction, Tf32Contraction)
Chained: TypeAlias = type[Bf16Contraction | Tf32Contraction]
Rounded: TypeAlias = type[RoundedContraction] | Chained
"""Products of rounded factors, each in its own order."""


def chain_of_rounded(left: Array, right: Array, rounding: Rounding) -> Array:
    """The products of [..., m, k] and [..., k, n] that `Bf16Contraction` and `Tf32Contraction` define, bit by bit.

    A term is exact in f64, and its sum with a number of f32 is rounded to f64 and then to f32 as if at once: see
    `multiply_add_in_bf16`.
    """
    left, right = (ROUNDINGS[rounding](x).astype(np.float64) for x in (left, right))
    around = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    total = np.zeros((*around, left.shape[-2], right.shape[-1]), np.float32)
    for place in range(left.shape[-1]):
        total = (left[..., :, place, None] * right[..., None, place, :] + total).astype(np.float32)
    return total + np.float32(0)


BLOCK = 32  # terms of a product in bf16 that are summed by themselves, in two chains


def product_in_bf16(left: Array, right: Array, start: Array | None = None) -> Array:
    """The products of [..., m, k] and [..., k, n] that `RoundedContraction` defines, bit by bit, added to `start`."""
    depth = left.shape[-1]
    rest = -depth % BLOCK
    left = np.concatenate([left, np.zeros((*left.shape[:-1], rest), np.float32)], -1)
    right = np.concatenate([right, np.zeros((*right.shape[:-2], rest, right.shape[-1]), np.float32)], -2)
    left, right = (round_to_bf16(without_subnormal(x)) for x in (left, right))
    around = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    total = np.zeros((*around, left.shape[-2], right.shape[-1]), np.float32)
    total = total if start is None else without_subnormal(start)
    for first in range(0, depth, BLOCK):
        chains = [np.zeros_like(total), np.zeros_like(total)]
        for place in range(first, first + BLOCK):
            factors = left[..., :, place, None], right[..., None, place, :]
            chains[place % 2] = multiply_add_in_bf16(*factors, chains[place % 2])
        total = without_subnormal(total + without_subnormal(chains[0] + chains[1]))
    return total


def multiply_add_in_bf16(left: Array, right: Array, addend: Array) -> Array:
    """`left * right + addend` of factors in bf16, rounded to 24 digits once, and 0 where that is subnormal.

    Rounding comes first: what is just below the smallest normal number becomes it where 24 digits have no other. A term
    is exact in f64, and the sum of numbers of 24 digits that is rounded to f64 first is rounded to f32 as if at once
    (Figueroa, "When is double rounding innocuous?", 1995).
    """
    total = left.astype(np.float64) * right + without_subnormal(addend)
    return np.where(np.abs(total) < _LEAST_NORMAL, np.copysign(0, total), total).astype(np.float32)


_LEAST_NORMAL = 2.0**-126 - 2.0**-151  # rounded to 24 digits, it is the smallest normal number


def without_subnormal(values: Array) -> Array:
    """Values with 0 of the same sign for subnormal numbers."""
    return np.where(np.abs(values) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), values), values)


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


INTERNAL_OPS: tuple[type[Op], ...] = (
    Copy,
    Empty,
    Insert,
    FitRows,
    Pick,
    SplitContraction,
    OrderedContraction,
    RoundedContraction,
    *CHAINED,
    ProductSum,
    After,
)
