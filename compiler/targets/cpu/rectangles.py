"""A range of the items of a grid as at most three rectangles, so that a thread works on whole rows of it together."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from compiler.nest.builder import Builder
from compiler.nest.ir import BEGIN, END, TRUTH, Index
from compiler.support.record import record
from compiler.targets.cpu.tiles import ceiling, divided
from compiler.types import DType


@record
class Rectangle:
    """Rows from `top` to below `bottom` and columns from `left` to below `right`."""

    top: Index
    bottom: Index
    left: Index
    right: Index


@contextmanager
def over_equal(nest: Builder, start: Index, stop: Index, most: int) -> Generator[tuple[Index, Index]]:
    """A loop over groups, as equal as can be, of at most so many: the begin and the size of one."""
    count = nest.sub(stop, start)
    groups = ceiling(nest, count, most)
    with nest.each(0, groups) as number:
        before, behind = (divided(nest, nest.mul(count, nest.add(number, step)), groups)[0] for step in (0, 1))
        yield nest.add(start, before), nest.sub(behind, before)


@contextmanager
def over_rectangles(nest: Builder, columns: int) -> Generator[Rectangle]:
    """A loop over what the items `%begin` to `%end` cover of a grid that is numbered row by row.

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
    with nest.each(0, 3) as number:
        is_head = nest.compare("eq", number, 0)
        is_middle = nest.compare("eq", number, 1)

        def of(one: Index, two: Index, three: Index) -> Index:
            later = nest.select(is_middle, two, three)
            return nest.select(is_head, one, later)

        top, bottom = of(first, middle, last), of(head, last, tail)
        left, right = of(skipped, 0, 0), of(end_of_head, width, taken)
        with nest.when(nest.compare("lt", top, bottom)):
            yield Rectangle(top, bottom, left, right)
