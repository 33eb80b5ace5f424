"""How a block of threads goes along the sum of its tile: in stretches of blocks of the sum.

A block of the sum is added as a whole where all rows of the tile have all of it. Where the sum ends within it, or the
edge of a triangle crosses it, each thread adds those elements that its rows have, and no others: not even zeros, which
would make +0 of a sum that is -0; such sums of rounded factors are +0 in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import TypeAlias

from compiler.loops.ir import TileContract, Triangle
from compiler.nest.builder import Builder
from compiler.nest.ir import Index, Operand, Value, Zeros, type_of
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.kernel_nest import KernelNest
from compiler.targets.cpu.tiles import ceiling
from compiler.targets.gpu.block_places import Place
from compiler.targets.gpu.block_shapes import BlockShape

Counts: TypeAlias = Callable[[int], Value]  # whether an element counts for a row of the thread
# The sums with so many elements of a block of the sum, from one of them on; those that count, where that is said.
Add: TypeAlias = Callable[[Sequence[Operand], Index, int, Counts | None], Sequence[Operand]]


@record
class Stretch:
    """Blocks of the sum, which all rows of the tile have, or some of them have in part."""

    begin: Index
    end: Index
    is_whole: bool


def has_whole_blocks(contract: TileContract, shape: BlockShape) -> bool:
    """Whether it is known that no block of the sum is left in part behind the others."""
    extents = [axis.extent for axis in contract.k]
    summed = prod(extent if isinstance(extent, int) else 1 for extent in extents)
    is_known = contract.splits == 1 and all(isinstance(extent, int) for extent in extents)
    return is_known and summed % shape.depth == 0


@record(eq=False)
class SumWalk:
    """The way of a block of threads along the sum of its tile."""

    nest: Builder
    contract: TileContract
    shape: BlockShape
    place: Place

    def stretches(self) -> list[Stretch]:
        nest, depth, row = self.nest, self.shape.depth, self.place.row
        whole: Index = _quotient(nest, self.place.depth, depth)
        blocks, diagonal, below = ceiling(nest, self.place.depth, depth), _quotient(nest, row, depth), self.below
        if self.contract.rounding is not None:
            return [Stretch(0, blocks, True)]  # matrices are whole: zeros fill the last ones
        found = [Stretch(0, whole, True)]
        if self.contract.triangle is Triangle.SUM_TO_ROW:
            end = nest.minimum(_quotient(nest, below, depth), blocks)
            return [Stretch(0, diagonal, True), Stretch(diagonal, end, False)]
        if self.contract.triangle is Triangle.SUM_FROM_ROW:
            crossed = nest.minimum(_quotient(nest, below, depth), blocks)
            whole = nest.maximum(whole, crossed)
            found = [Stretch(diagonal, crossed, False), Stretch(crossed, whole, True)]
        return found if has_whole_blocks(self.contract, self.shape) else [*found, Stretch(whole, blocks, False)]

    @property
    def below(self) -> Index:
        """The first row below the tile: tiles begin and end where blocks of the sum do."""
        return self.nest.add(self.place.row, self.shape.height)

    def partly(self, number: Index, sums: Sequence[Operand], add: Add) -> Sequence[Operand]:
        """The sums with those elements of a block of the sum that each row of the thread has."""
        nest, rows, triangle = self.nest, self.shape.rows, self.contract.triangle
        start = nest.mul(number, self.shape.depth)
        end = nest.minimum(nest.sub(self.place.depth, start), self.shape.depth)
        own = nest.sub(nest.add(self.place.row, nest.mul(self.place.group, rows)), start)  # of the first row
        if triangle is Triangle.SUM_TO_ROW:
            all_, some = (self._within(nest.add(own, past), end) for past in (1, rows))
            sums = self._each(0, all_, sums, add)
            return self._each(all_, some, sums, add, lambda e, row: nest.compare("le", e, nest.add(own, row)))
        if triangle is Triangle.SUM_FROM_ROW:
            some, all_ = (self._within(nest.add(own, past), end) for past in (0, rows - 1))
            sums = self._each(some, all_, sums, add, lambda e, row: nest.compare("ge", e, nest.add(own, row)))
            return self._each(all_, end, sums, add)
        return self._each(0, end, sums, add)

    def _within(self, place: Index, end: Index) -> Value:
        return self.nest.maximum(self.nest.minimum(place, end), 0)

    def _each(
        self,
        begin: Index,
        end: Index,
        sums: Sequence[Operand],
        add: Add,
        counts: Callable[[Value, int], Value] | None = None,
    ) -> Sequence[Operand]:
        def one(element: Value, carried: list[Value]) -> Sequence[Operand]:
            return add(carried, element, 1, None if counts is None else partial(counts, element))

        return self.nest.loop(begin, end, 1, sums, one)


def multiplied(
    nest: Builder,
    sums: Sequence[Operand],
    factors: Sequence[Sequence[Operand]],
    rows: Sequence[Callable[[], Sequence[Operand]]],
    counts: Counts | None,
) -> list[Operand]:
    """The sums with products of some elements: `factors` has the vectors of each, `rows` load it for each row."""
    found = list(sums)
    for row, loaded in enumerate(rows):
        is_there = None if counts is None else counts(row)
        for scalar, vectors in zip(loaded(), factors, strict=True):
            factor = nest.splat(scalar, LANES)
            for slot, other in enumerate(vectors, row * len(vectors)):
                total = nest.fma(factor, other, found[slot])
                found[slot] = total if is_there is None else nest.select(is_there, total, found[slot])
    return found


def within_columns(
    k: KernelNest, contract: TileContract, shape: BlockShape, place: Place, sums: Sequence[Operand]
) -> list[Operand]:
    """The sums of a thread, with 0 for results beyond a triangle."""
    if contract.triangle not in (Triangle.COLUMNS_TO_ROW, Triangle.COLUMNS_FROM_ROW):
        return list(sums)
    nest, found = k.nest, list[Operand]()
    first = nest.add(place.row, nest.mul(place.group, shape.rows))
    for slot, value in enumerate(sums):
        row, part = divmod(slot, shape.vectors)
        here, number, zeros = nest.add(place.column, part * LANES), nest.add(first, row), Zeros(type_of(value))
        if contract.triangle is Triangle.COLUMNS_TO_ROW:
            found.append(nest.select(k.mask_below(here, nest.add(number, 1)), value, zeros))
        else:
            found.append(nest.select(k.mask_below(here, number), zeros, value))
    return found


def _quotient(nest: Builder, number: Index, divisor: int) -> Index:
    return number // divisor if isinstance(number, int) else nest.binary("div", number, divisor)
