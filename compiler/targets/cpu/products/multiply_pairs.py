"""A step of a product in bf16 in vectors of sums, which take pairs of terms."""

from __future__ import annotations

from compiler.nest.builder import LINE, Builder
from compiler.nest.ir import Constant, Index, Operand, Value, Zeros, vector
from compiler.support.numerics import LANES
from compiler.support.record import record
from compiler.targets.cpu.products.tile_blocks import TILE, rows_at_once
from compiler.types import DType

_SUMS, _WORDS = vector(DType.F32, LANES), vector(DType.U32, LANES)
_NEGATIVE_ZEROS = Constant(_WORDS, 0x80008000)
_CHAINS, _STEPS = 2, LANES // 2  # of a block: a step takes a word of each row


def multiply_pairs(
    nest: Builder, sums: Value, left: Value, right: Value, blocks: Index, pitch: int, shape: tuple[int, int]
) -> None:
    """As `nest.ir.MultiplyTiles`, of tiles whose pairs are steps of chains."""
    tiles, columns = shape
    rows = rows_at_once(shape)
    with nest.each(0, tiles) as tile, nest.each(0, LANES, rows) as first, nest.each(0, blocks) as block:
        place = nest.mul(block, TILE // 2)
        above = nest.pointer(left, nest.mul(tile, pitch), DType.U16)
        lefts = nest.pointer(above, nest.add(place, nest.mul(first, LANES)), DType.U32)
        rights = [nest.pointer(right, nest.add(place, pitch // 2 * column), DType.U32) for column in range(columns)]
        row = nest.add(nest.mul(tile, LANES), first)
        _Block(nest, nest.pointer(sums, nest.mul(row, columns * LANES), DType.F32), lefts, rights, rows).add()


@record(eq=False)
class _Block:
    """A block of so many rows in registers: its sums, its rows of the left operand, and tiles of the right one."""

    nest: Builder
    sums: Value
    lefts: Value
    rights: list[Value]
    rows: int

    def add(self) -> None:
        """Add the block to its sums: one chain of all of them, then the other."""
        even, odd = (self._chain(number) for number in range(_CHAINS))
        for place, pair in enumerate(zip(even, odd, strict=True)):
            target = self.nest.pointer(self.sums, place * LANES, DType.F32)
            total = self.nest.load(target, _SUMS, LINE)
            self.nest.store(self._added(total, self._added(*pair)), target, LINE)

    def _chain(self, number: int) -> list[Operand]:
        nest, chains = self.nest, list[Operand]([Zeros(_SUMS)]) * (self.rows * len(self.rights))
        for word in range(number * _STEPS, (number + 1) * _STEPS):
            columns = [nest.load(nest.pointer(right, word * LANES, DType.U32), _WORDS, LINE) for right in self.rights]
            for row in range(self.rows):
                place = nest.pointer(self.lefts, row * LANES + word, DType.U32)
                pair = nest.splat(nest.load(place, vector(DType.U32, 1), DType.U32.size), LANES)
                for column, words in enumerate(columns, row * len(columns)):
                    chains[column] = nest.pair_fma(pair, words, chains[column])
            nest.fence()
        return chains

    def _added(self, left: Operand, right: Operand) -> Value:
        """The sum of both; -0 * 0 is added to it, which makes 0 of a subnormal number and leaves all others."""
        total = self.nest.binary("add", left, right, _SUMS)
        return self.nest.pair_fma(_NEGATIVE_ZEROS, Zeros(_WORDS), total)
