"""Ranges of a grid as rectangles: they cover each item once, and whole rows stand together."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from native import host

from compiler.loops.printer import FRAME
from compiler.nest.arguments import BufferPointer
from compiler.nest.builder import Builder
from compiler.nest.ir import ADDRESS, INDEX, Items, Nest
from compiler.targets.cpu.rectangles import over_equal, over_rectangles
from compiler.targets.cpu.tiles import rows_of_item
from compiler.targets.llvm.jit import Library, compile_module
from compiler.targets.llvm.to_llvm import to_llvm
from compiler.tuning import Tuning
from compiler.types import DType

COLUMNS, MOST = 5, 3


def visited(begin: int, end: int) -> list[tuple[int, ...]]:
    """Rectangles (top, rows, left, right) of the items of a grid; whole rows come in groups of at most MOST."""
    nest = Builder()
    out = nest.given(0, ADDRESS)

    with over_rectangles(nest, COLUMNS) as share, over_equal(nest, share.top, share.bottom, MOST) as (first, count):
        place = nest.load(out, INDEX, 8)
        numbers = (first, count, share.left, share.right)
        for offset, number in enumerate(numbers, 1):
            nest.store(number, nest.pointer(out, nest.add(place, offset), DType.I64), 8)
        nest.store(nest.add(place, len(numbers)), out, 8)
    whole = Nest((BufferPointer(0),), Items(1), nest.body, nest.count, frozenset((FRAME,)), 0, 0)
    library = Library([compile_module(to_llvm(whole, host()), host(), verify=True)], ["KERNEL"], host())
    written = np.zeros(400, np.int64)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    call(library.address("KERNEL"))(np.array([written.ctypes.data]).ctypes.data, begin, end, 0)
    return [tuple(row) for row in written[1 : written[0] + 1].reshape(-1, 4).tolist()]


@pytest.mark.parametrize(("begin", "end"), [(0, 40), (0, 3), (2, 4), (3, 10), (5, 15), (4, 6), (7, 38), (39, 40)])
def test_each_item_is_in_one_rectangle(begin: int, end: int) -> None:
    found = [
        row * COLUMNS + column
        for top, rows, left, right in visited(begin, end)
        for row in range(top, top + rows)
        for column in range(left, right)
    ]
    assert sorted(found) == list(range(begin, end))


def test_whole_rows_are_taken_together() -> None:
    assert visited(0, 20) == [(0, 2, 0, 5), (2, 2, 0, 5)]
    assert visited(3, 17) == [(0, 1, 3, 5), (1, 2, 0, 5), (3, 1, 0, 2)]


@pytest.mark.parametrize("panels", [1, 12, 16, 24, 96, 256, 1000])
@pytest.mark.parametrize("tiles", [1, 5, 43, 86, 342])
def test_items_are_many_and_not_small(tiles: int, panels: int) -> None:
    tuning = Tuning()
    each, least = rows_of_item(tiles, panels, tuning), tuning.item_tiles
    items = -(-tiles // each)
    assert each >= min(least, tiles // 2) or tiles < 2 * least
    assert items * panels >= min(tuning.product_items, tiles // (2 * least) * panels)
