"""A step of a product in bf16 in vectors of sums, which take pairs of terms."""

from __future__ import annotations

from compiler.nest.builder import LINE, Builder
from compiler.nest.ir import Constant, Index, Operand, Value, Zeros, vector
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.products.tile_blocks import TILE, rows_at_once
from compiler.types import DType

_SUMS, _WORDS, _WORD = vector(DType.F32, LANES), vector(DType.U32, LANES), vector(DType.U32, 1)
_NEGATIVE_ZEROS = Constant(_WORDS, 0x80008000)
_CHAINS, _STEPS = 2, LANES // 2  # of a block: a step takes a word of each row


@record(eq=False)
class Steps:
    """A step of a product: its sums, packed tiles of both operands, `pitch` elements apart, and the number of blocks.

    It has so many tiles of rows and columns, its `shape`. Tiles of the left operand may have the words of a row in one
    line (`keeps_rows`); else a line has a word of each row.
    """

    nest: Builder
    sums: Value
    left: Value
    right: Value
    blocks: Index
    pitch: int
    shape: tuple[int, int]
    keeps_rows: bool

    def add(self) -> None:
        """Add all blocks to the sums, some rows at a time, which stay in registers for a chain of a block."""
        nest, rows = self.nest, rows_at_once(self.shape)
        between = LANES if self.keeps_rows else 1
        with nest.each(0, self.shape[0]) as tile, nest.each(0, LANES, rows) as row, nest.each(0, self.blocks) as block:
            place = nest.mul(block, TILE // 2)
            start = nest.pointer(self.left, nest.mul(tile, self.pitch), DType.U16)
            left = nest.pointer(start, nest.add(place, nest.mul(row, between)), DType.U32)
            right = nest.pointer(self.right, place, DType.U32)
            above = nest.mul(nest.add(nest.mul(tile, LANES), row), self.shape[1] * LANES)
            self._block(nest.pointer(self.sums, above, DType.F32), left, right, rows)

    def _block(self, sums: Value, left: Value, right: Value, rows: int) -> None:
        even, odd = (self._chains(number, left, right, rows) for number in range(_CHAINS))
        for number, chains in enumerate(zip(even, odd, strict=True)):
            target = self.nest.pointer(sums, number * LANES, DType.F32)
            total = self.nest.load(target, _SUMS, LINE)
            self.nest.store(self._sum(total, self._sum(*chains)), target, LINE)

    def _chains(self, number: int, left: Value, right: Value, rows: int) -> list[Operand]:
        """One of the chains of each sum of a block, row by row."""
        nest, columns = self.nest, self.shape[1]
        chains: list[Operand] = [Zeros(_SUMS)] * (rows * columns)
        for word in range(number * _STEPS, (number + 1) * _STEPS):
            places = [self.pitch // 2 * column + word * LANES for column in range(columns)]
            words = [nest.load(nest.pointer(right, place, DType.U32), _WORDS, LINE) for place in places]
            for row in range(rows):
                place = row * LANES + word if self.keeps_rows else word * LANES + row
                pair = nest.splat(nest.load(nest.pointer(left, place, DType.U32), _WORD, DType.U32.size), LANES)
                for chain, factor in enumerate(words, row * columns):
                    chains[chain] = nest.pair_fma(pair, factor, chains[chain])
            nest.fence()
        return chains

    def _sum(self, left: Operand, right: Operand) -> Value:
        """The sum of both; -0 * 0 is added to it, which makes 0 of a subnormal number and leaves all others."""
        total = self.nest.binary("add", left, right, _SUMS)
        return self.nest.pair_fma(_NEGATIVE_ZEROS, Zeros(_WORDS), total)
