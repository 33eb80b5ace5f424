"""Long sums over several axes, cut into blocks that stay in cache: the operands of a block, and its walk."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from math import ceil, prod

from compiler.loops.ir import ContractedAxis, TileContract
from compiler.nest.builder import Builder
from compiler.nest.ir import Index, Value
from compiler.schedule.addresses import count
from compiler.support.record import mutable_record, record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.multiply import SummedAxis
from compiler.types import DType


@record
class Block:
    """How much of the sum is taken at once: indices of the first axis; or one, and so many of the second."""

    first: int
    second: int | None
    elements: int


def block_of(contract: TileContract, deep: int) -> Block:
    """Blocks of about `deep` summed elements."""
    _, *rest = contract.k
    inner = prod(count(axis.extent) for axis in rest)
    if inner <= deep or not rest:
        first = max(1, deep // inner)
        return Block(first, None, first * inner)
    extent, inside = count(rest[0].extent), prod(count(axis.extent) for axis in rest[1:])
    most = max(1, deep // inside)
    second = ceil(extent / ceil(extent / most))  # blocks of equal size
    return Block(1, second, second * inside)


@record
class Operands:
    """Where a block of the sum starts in both operands."""

    left: Value
    right: Value


@mutable_record
class LongSum:
    """The sum of a contraction, block by block."""

    k: KernelNest
    contract: TileContract
    block: Block

    @property
    def type(self) -> DType:
        return self.contract.dtype

    @contextmanager
    def of_split(self, split: Index) -> Generator[tuple[list[SummedAxis], Operands, Operands]]:
        """A loop over the blocks of a split: the axes of one, where it starts, and where the one after it does."""
        nest, (head, *rest) = self.k.nest, self.contract.k
        second, whole = self.block.second, self.k.extent(head.extent)
        begin, end = (
            nest.binary("div", nest.mul(nest.add(split, step), whole), self.contract.splits) for step in (0, 1)
        )
        with nest.each(begin, end, self.block.first) as index:
            here = self.bases(index, 0)
            if second is None:
                length = nest.minimum(nest.sub(end, index), self.block.first)
                following = self.bases(nest.add(index, self.block.first), 0)
                yield summed_axes(length, (head, *rest)), here, following
                return
            extent = count(rest[0].extent)
            with nest.each(0, extent, second) as place:
                length = nest.minimum(nest.sub(extent, place), second)
                beyond = nest.add(place, length)
                wraps = nest.compare("ge", beyond, extent)
                later = nest.add(index, nest.converted(wraps, DType.I64))
                following = self.bases(later, nest.select(wraps, 0, beyond))
                yield summed_axes(length, rest), self.bases(index, place), following

    def bases(self, index: Index, place: Index) -> Operands:
        """Where a block starts in both operands, from its index of the first axis and its place on the second."""
        k, nest, contract, (head, *rest) = self.k, self.k.nest, self.contract, self.contract.k
        left, right = nest.mul(index, head.lhs_stride), nest.mul(index, head.rhs_stride)
        if rest:
            left = nest.add(left, nest.mul(place, rest[0].lhs_stride))
            right = nest.add(right, nest.mul(place, rest[0].rhs_stride))
        return Operands(
            nest.pointer(k.bases[contract.lhs], nest.add(left, contract.lhs_offset), self.type),
            nest.pointer(k.bases[contract.rhs], nest.add(right, contract.rhs_offset), self.type),
        )

    @contextmanager
    def each(
        self, axes: Sequence[SummedAxis], source: Value, stride: Callable[[SummedAxis], int], number: Index = 0
    ) -> Generator[tuple[Value, Index]]:
        """Loops over the elements of a block: the place of one in the operand, and its number."""
        nest, (axis, *rest) = self.k.nest, axes
        size = prod(_static(a) for a in rest)
        with nest.each(0, axis.extent) as index:
            here = nest.pointer(source, nest.mul(index, stride(axis)), self.type)
            place = nest.add(number, nest.mul(index, size))
            with self.each(rest, here, stride, place) if rest else nullcontext((here, place)) as found:
                yield found


def summed_axes(first: Index, axes: Sequence[ContractedAxis]) -> list[SummedAxis]:
    """The axes of a block, of which the outermost has `first` indices."""
    extents = [first, *(count(axis.extent) for axis in axes[1:])]
    return [SummedAxis(e, axis.lhs_stride, axis.rhs_stride) for e, axis in zip(extents, axes, strict=True)]


def walked(nest: Builder, axes: Sequence[SummedAxis], left: int = 0, right: int = 0, copy: int = 0) -> list[SummedAxis]:
    """The axes as tiles walk them, joined where one step serves; an operand that is copied has `left` or `right`
    elements of each element of the sum side by side, and `copy` of them are written."""
    found: list[SummedAxis] = []
    dense = 1
    for axis in reversed(axes):
        here = SummedAxis(axis.extent, left * dense or axis.lhs_stride, right * dense or axis.rhs_stride, copy * dense)
        if axis is not axes[0]:
            dense *= _static(axis)
        if found:
            inner, size = found[0], _static(found[0])
            strides = [s * size for s in (inner.lhs_stride, inner.rhs_stride, inner.copy_stride)]
            if strides == [here.lhs_stride, here.rhs_stride, here.copy_stride]:
                extent = nest.mul(axis.extent, size) if axis is axes[0] else _static(axis) * size
                found[0] = SummedAxis(extent, inner.lhs_stride, inner.rhs_stride, inner.copy_stride)
                continue
        found.insert(0, here)
    return found


def _static(axis: SummedAxis) -> int:
    assert isinstance(axis.extent, int)
    return axis.extent
