"""A range of the items of a grid as at most three rectangles, so that a thread works on whole rows of it together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compiler.nest.builder import Builder
from compiler.nest.ir import BEGIN, END, TRUTH, Index, Operand, Value
from compiler.support.record import record
from compiler.targets.cpu.tiles import ceiling, divided
from compiler.tuning import Tuning
from compiler.types import DType


@record
class Rectangle:
    """Rows from `top` to below `bottom` and columns from `left` to below `right`."""

    top: Index
    bottom: Index
    left: Index
    right: Index


def rows_of_item(tiles: int, panels: int, tuning: Tuning) -> int:
    """How many of the `tiles` of rows make an item: few enough for many threads, and two threads have equally many."""
    rows = max(2, min(tiles // tuning.item_tiles, -(-tuning.product_items // panels)))
    return -(-tiles // (rows + rows % 2))


def over_equal(nest: Builder, start: Index, stop: Index, most: int, body: Callable[[Index, Index], None]) -> None:
    """Run `body` for the begin and the size of groups, as equal as can be, of at most so many."""
    count = nest.sub(stop, start)
    groups = ceiling(nest, count, most)

    def group(number: Value, carried: list[Value]) -> Sequence[Operand]:
        before, behind = (divided(nest, nest.mul(count, nest.add(number, step)), groups)[0] for step in (0, 1))
        body(nest.add(start, before), nest.sub(behind, before))
        return []

    nest.loop(0, groups, 1, [], group)


def over_rectangles(nest: Builder, columns: int, body: Callable[[Rectangle], None]) -> None:
    """Run `body` for what the items `%begin` to `%end` cover of a grid that is numbered row by row.

    That is the rest of a row, then whole rows, then the begin of a row; some of them may be missing.
    """
    width = columns
    first, skipped = divided(nest, BEGIN, width)
    last, taken = divided(nest, END, width)
    is_one = nest.compare("eq", first, last)
    is_cut = nest.compare("gt", skipped, 0)
    head = nest.add(first, nest.converted(nest.binary("or", is_one, is_cut, TRUTH), DType.I64))
    middle = nest.select(is_one, last, head)
    end_of_head = nest.select(is_one, taken, width)
    tail = nest.converted(nest.compare("gt", taken, 0), DType.I64)
    tail = nest.add(last, nest.select(is_one, 0, tail))

    def piece(number: Value, carried: list[Value]) -> Sequence[Operand]:
        is_head = nest.compare("eq", number, 0)
        is_middle = nest.compare("eq", number, 1)

        def of(one: Index, two: Index, three: Index) -> Index:
            later = nest.select(is_middle, two, three)
            return nest.select(is_head, one, later)

        top, bottom = of(first, middle, last), of(head, last, tail)
        left, right = of(skipped, 0, 0), of(end_of_head, width, taken)
        nest.when(nest.compare("lt", top, bottom), lambda: body(Rectangle(top, bottom, left, right)))
        return []

    nest.loop(0, 3, 1, [], piece)
