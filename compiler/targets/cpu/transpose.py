"""Blocks of LANES x LANES elements, transposed on their way from one place in memory to another, or in registers."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.nest.builder import Builder
from compiler.nest.ir import Operand, Value, vector
from compiler.support.numerics import LANES
from compiler.types import DType

SEGMENT = 16  # bytes of a register within which two-operand shuffles interleave, whatever its length


def move_transposed(nest: Builder, pieces: int, dtype: DType, rows: Sequence[Value], columns: Sequence[Value]) -> None:
    """Element j of the row at each pointer `rows[i]` becomes element i at the pointer `columns[j]`, which is aligned.

    The block goes in pieces of so many bytes, or in whole vectors: see `tiles.pieces_of`.
    """
    if not pieces:
        loaded = [nest.load(place, vector(dtype, LANES), dtype.size) for place in rows]
        for column, place in zip(transposed(nest, loaded), columns, strict=True):
            nest.store(column, place, 64)
        return
    lanes = pieces // dtype.size
    for column in range(0, LANES, SEGMENT // dtype.size):
        for row in range(0, LANES, lanes):
            piece = _piece(nest, pieces // SEGMENT, dtype, rows[row : row + lanes], column)
            for place, value in enumerate(piece, column):
                nest.store(value, nest.pointer(columns[place], row, dtype), pieces)


def _piece(nest: Builder, segments: int, dtype: DType, rows: Sequence[Value], column: int) -> list[Value]:
    """As many columns as a segment of a register holds elements, from `column` on, of rows that fill a register."""
    most = SEGMENT // dtype.size
    now: list[Value] = []
    for number in range(most):
        places = [nest.pointer(row, column, dtype) for row in rows[number::most]]
        loaded = [nest.load(place, vector(dtype, most), dtype.size) for place in places]
        if segments > 1:
            loaded = [nest.shuffle(loaded[0], loaded[1], range(most * segments))]
        now += loaded
    for _ in range(most.bit_length() - 1):
        pairs = list(zip(now[: most // 2], now[most // 2 :], strict=True))
        now = [_interleaved(nest, pair, most, segments, half) for pair in pairs for half in (0, 1)]
    return now


def _interleaved(nest: Builder, pair: tuple[Value, Value], most: int, segments: int, half: int) -> Value:
    """The lower or upper halves of the segments of two registers, element by element in turns."""
    firsts = [segment * most + half * most // 2 + k for segment in range(segments) for k in range(most // 2)]
    return nest.shuffle(*pair, [pick for first in firsts for pick in (first, first + most * segments)])


def transposed(nest: Builder, rows: Sequence[Operand]) -> list[Operand]:
    """The transpose of LANES vectors of LANES elements, in log2(LANES) rounds of two-operand shuffles."""
    now = list(rows)
    distance = 1
    while distance < LANES:
        following = list(now)
        for low in range(LANES):
            if low & distance:
                continue
            high = low | distance
            first = [lane if not lane & distance else LANES + (lane ^ distance) for lane in range(LANES)]
            second = [lane | distance if not lane & distance else LANES + lane for lane in range(LANES)]
            for place, picks in ((low, first), (high, second)):
                following[place] = nest.shuffle(now[low], now[high], picks)
        now = following
        distance *= 2
    return now
