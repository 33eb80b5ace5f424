"""A range of the items of a grid as at most three rectangles, so that a thread works on whole rows of it together."""

from __future__ import annotations

from collections.abc import Callable

from compiler.record import record
from compiler.targets.cpu.text import Text
from compiler.targets.cpu.tiles import ceiling, divided

ITEMS = 512  # as many as many threads share evenly
FEWEST_TILES = 4  # of rows in an item


@record
class Rectangle:
    """Rows from `top` to below `bottom` and columns from `left` to below `right`."""

    top: str
    bottom: str
    left: str
    right: str


def rows_of_item(tiles: int, panels: int) -> int:
    """How many of the `tiles` of rows make an item: few enough for many threads, and two threads have equally many."""
    rows = max(2, min(tiles // FEWEST_TILES, -(-ITEMS // panels)))
    return -(-tiles // (rows + rows % 2))


def over_equal(text: Text, start: str, stop: str, most: int, body: Callable[[str, str], None]) -> None:
    """Run `body` for the begin and the size of groups, as equal as can be, of at most so many."""
    count = text.let(f"sub i64 {stop}, {start}")
    groups = ceiling(text, count, most)

    def group(number: str, carried: list[str]) -> list[str]:
        before, behind = (divided(text, text.mul(count, text.add(number, step)), groups)[0] for step in (0, 1))
        body(text.add(start, before), text.let(f"sub i64 {behind}, {before}"))
        return []

    text.loop("0", groups, 1, [], group)


def over_rectangles(text: Text, columns: int, body: Callable[[Rectangle], None]) -> None:
    """Run `body` for what the items `%begin` to `%end` cover of a grid that is numbered row by row.

    That is the rest of a row, then whole rows, then the begin of a row; some of them may be missing.
    """
    width = str(columns)
    first, skipped = divided(text, "%begin", width)
    last, taken = divided(text, "%end", width)
    is_one = text.let(f"icmp eq i64 {first}, {last}")
    is_cut = text.let(f"icmp sgt i64 {skipped}, 0")
    head = text.add(first, text.let(f"zext i1 {text.let(f'or i1 {is_one}, {is_cut}')} to i64"))
    middle = text.let(f"select i1 {is_one}, i64 {last}, i64 {head}")
    end_of_head = text.let(f"select i1 {is_one}, i64 {taken}, i64 {width}")
    tail = text.let(f"zext i1 {text.let(f'icmp sgt i64 {taken}, 0')} to i64")
    tail = text.add(last, text.let(f"select i1 {is_one}, i64 0, i64 {tail}"))

    def piece(number: str, carried: list[str]) -> list[str]:
        is_head = text.let(f"icmp eq i64 {number}, 0")
        is_middle = text.let(f"icmp eq i64 {number}, 1")

        def of(one: str, two: str, three: str) -> str:
            later = text.let(f"select i1 {is_middle}, i64 {two}, i64 {three}")
            return text.let(f"select i1 {is_head}, i64 {one}, i64 {later}")

        top, bottom = of(first, middle, last), of(head, last, tail)
        left, right = of(skipped, "0", "0"), of(end_of_head, width, taken)
        text.when(text.let(f"icmp slt i64 {top}, {bottom}"), lambda: body(Rectangle(top, bottom, left, right)))
        return []

    text.loop("0", "3", 1, [], piece)
