"""The operands of a product in bf16, rounded and packed on their way into tiles.

A row of a left tile has pairs along the sum, a row of a right tile one of them for each of 16 columns. What does not
lie so in memory is transposed in registers, pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compiler.loops.ir import ContractedAxis, OuterAxis
from compiler.nest.builder import LINE, Builder
from compiler.nest.ir import Constant, Index, Operand, Value, Zeros, vector
from compiler.schedule.addresses import count
from compiler.schedule.numerics.internal_ops import BLOCK
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.products.tile_blocks import TILE
from compiler.targets.cpu.tiles import divided
from compiler.targets.cpu.transpose import transposed
from compiler.types import DType, Extent

_ALL = Constant(vector(DType.BOOL, LANES), True)
_NUMBERS, _PLACES = vector(DType.F32, LANES), vector(DType.I64, LANES)
_NEIGHBOURS = tuple((place, place + 1) for place in range(0, BLOCK, 2))
# a chain takes every second term, and a step of it the upper half of a word first: the even chain, then the odd one
_STEPS_OF_CHAINS = tuple((place + 2, place) for chain in (0, 1) for place in range(chain, BLOCK, 4))
_INTERLEAVED = tuple(pick for lane in range(LANES) for pick in (lane, LANES + lane))


def offset_of(
    nest: Builder, extent: Callable[[Extent], Index], axes: Sequence[tuple[Extent, int]], index: Index
) -> Index:
    """The sum of the digits of an index, each with its stride; axes are outermost first."""
    total: Index = 0
    for number, (size, stride) in reversed(list(enumerate(axes))):
        digit = index
        if number:
            index, digit = divided(nest, index, extent(size))
        total = nest.add(nest.mul(digit, stride), total)
    return total


@record(eq=False)
class Side:
    """One operand in scratch and in memory: `base` has index 0 of its axes.

    `places` are the offsets of its rows, or columns, and `summed` those along the sum: numbers in scratch. Neighbours
    along the sum, or the other axis, lie beside each other where it `runs_along_sum`, or `runs_across`. A left tile
    has the sum along its rows. Pairs are neighbours along the sum, or `in_steps` what a step of a chain takes.
    """

    nest: Builder
    base: Value
    target: Value
    places: Value
    summed: Value
    pitch: int
    runs_along_sum: bool
    runs_across: bool
    is_left: bool
    in_steps: bool

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Which terms of a block are the lower and the upper half of each word."""
        return _STEPS_OF_CHAINS if self.in_steps else _NEIGHBOURS

    @property
    def is_across(self) -> bool:
        """Whether vectors go across the sum."""
        return self.runs_across and not (self.is_left and self.runs_along_sum)

    @property
    def keeps_rows(self) -> bool:
        """Whether a row of a tile has the words of one row of the operand; else it has a word of each row or column.

        Vectors of sums take words of the left operand one by one, from either.
        """
        return self.is_left and not (self.in_steps and self.is_across)

    def pack(self, tiles: Index, length: Index, blocks: Index) -> None:
        """Pack so many tiles, and of each the blocks of `length` summed elements; zeros stand behind the last one.

        Neighbours in memory follow each other: block by block along the sum, tile by tile across it.
        """
        nest = self.nest
        whole = length // BLOCK if isinstance(length, int) else nest.binary("div", length, BLOCK)
        parts: list[tuple[Index, Index, Index | None]] = [(0, whole, None)]
        parts += [] if whole == blocks else [(whole, blocks, length)]  # none or one
        for first, behind, rest in parts:
            if self.is_across:
                with nest.each(first, behind) as block, nest.each(0, tiles) as tile:
                    self._store(tile, block, self._across(block, tile, rest), keeps_rows=False)
            else:
                with nest.each(0, tiles) as tile, nest.each(first, behind) as block:
                    self._store(tile, block, self._along_sum(block, tile, rest), keeps_rows=True)

    def _along_sum(self, block: Index, tile: Index, length: Index | None) -> list[Operand]:
        """The words of each row or column of a tile."""
        nest, first, picks = self.nest, self.nest.mul(block, BLOCK), [place for pair in self.pairs for place in pair]
        halves = [nest.add(first, half) for half in (0, LANES)]
        masks = [_ALL if length is None else self._below(half, length) for half in halves]
        starts = [self._entry(self.summed, half) for half in halves]
        wide = [] if self.runs_along_sum else [self._entries(self.summed, half) for half in halves]
        rows: list[Operand] = []
        for lane in range(LANES):
            place = self._entry(self.places, nest.add(nest.mul(tile, LANES), lane))
            row = nest.pointer(self.base, place, DType.F32)
            numbers: list[Operand] = []
            for half, mask in enumerate(masks):
                if wide:
                    numbers.append(nest.gather(row, wide[half], DType.F32, mask))
                else:
                    loaded = nest.load(nest.pointer(row, starts[half], DType.F32), _NUMBERS, DType.F32.size)
                    numbers.append(loaded if length is None else nest.select(mask, loaded, Zeros(_NUMBERS)))
            rows.append(self._joined(numbers, picks))
        return rows

    def _across(self, block: Index, tile: Index, length: Index | None) -> list[Operand]:
        """Each word of all rows or columns of a tile, from vectors whose elements are interleaved."""
        nest, first, words = self.nest, self.nest.mul(block, BLOCK), list[Operand]()
        start = nest.pointer(self.base, self._entry(self.places, nest.mul(tile, LANES)), DType.F32)
        for low, high in self.pairs:
            numbers: list[Operand] = []
            for place in (nest.add(first, low), nest.add(first, high)):
                row = nest.pointer(start, self._entry(self.summed, place), DType.F32)
                loaded = nest.load(row, _NUMBERS, DType.F32.size)
                is_term = None if length is None else nest.compare("lt", place, length)
                numbers.append(loaded if is_term is None else nest.select(is_term, loaded, Zeros(_NUMBERS)))
            words.append(self._joined(numbers, _INTERLEAVED))
        return words

    def _joined(self, numbers: Sequence[Operand], picks: Sequence[int]) -> Operand:
        """Two vectors, rounded, as one of pairs."""
        low, high = (self.nest.rounded(part) for part in numbers)
        return self.nest.as_words(self.nest.shuffle(low, high, picks))

    def _below(self, first: Index, length: Index) -> Value:
        """Which of the lanes from an index on are less than a length."""
        nest = self.nest
        lanes = nest.binary("add", nest.splat(first, LANES), Constant(_PLACES, tuple(range(LANES))), _PLACES)
        return nest.compare("lt", lanes, nest.splat(length, LANES))

    def _entry(self, table: Value, index: Index) -> Value:
        return self.nest.load(self.nest.pointer(table, index, DType.I64), vector(DType.I64, 1), DType.I64.size)

    def _entries(self, table: Value, index: Index) -> Value:
        return self.nest.load(self.nest.pointer(table, index, DType.I64), _PLACES, DType.I64.size)

    def _store(self, tile: Index, block: Index, vectors: Sequence[Operand], keeps_rows: bool) -> None:
        """Store a tile of vectors that go along its rows, where they keep them, or else across."""
        nest = self.nest
        place = nest.add(nest.mul(tile, self.pitch), nest.mul(block, TILE))
        target = nest.pointer(self.target, place, DType.U16)
        rows = vectors if keeps_rows == self.keeps_rows else transposed(nest, vectors)
        for number, row in enumerate(rows):
            nest.store(row, nest.pointer(target, number * LANES, DType.U32), LINE)


def runs_along(axes: Sequence[ContractedAxis], strides: Sequence[int]) -> bool:
    """Whether LANES neighbours along a sum, from a multiple of LANES on, lie beside each other."""
    return strides[-1] == 1 and (len(axes) == 1 or count(axes[-1].extent) % LANES == 0)


def runs_across(walked: Sequence[OuterAxis]) -> bool:
    """The same of rows of the left operand."""
    *outer, m = walked
    return m.lhs_stride == 1 and (not outer or (isinstance(m.extent, int) and m.extent % LANES == 0))
