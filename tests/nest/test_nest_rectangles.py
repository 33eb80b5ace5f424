"""Items that a thread takes as rectangles: they stay inside, and store all elements of a product, each once."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from nest_reader import read_nest
from nests import call_of

from compiler.loops.ir import (
    Access,
    BufferArgument,
    ContractedAxis,
    ContractionKernel,
    IndexTerm,
    Load,
    Space,
    Stage,
    Store,
    TileContract,
)
from compiler.machine import AVX2
from compiler.nest.call import Call, cuts_items
from compiler.nest.printer import print_nest
from compiler.nest.verify_memory import BOUNDS, Law, unproved
from compiler.ops import OPS
from compiler.targets.cpu.emit import emit
from compiler.targets.cpu.specialisation import specialisation
from compiler.types import BatchExtent, DType, Extent


def rectangles(is_blocked_along_sum: bool, rows: Extent = 512) -> tuple[str, Call]:
    """A product whose items a thread takes as rectangles, in blocks of rows or with copies of both operands."""
    axis, apart = (ContractedAxis(512, 512, 512), 1) if is_blocked_along_sum else (ContractedAxis(512, 1, 512), 512)
    contract = TileContract(0, 1, 3, rows, 512, (axis,), (), 0, 0, apart, 1, 1, DType.F32)
    machine = replace(AVX2, l1_bytes=8 << 10, l2_bytes=1 << 15)
    place = (IndexTerm(1, None, 512),), (IndexTerm(1, None, 1),)
    body = (Load(0, Access(3, 0, *place), DType.F32, Space.FULL), Store(Access(2, 0, *place), 0, DType.F32, Space.FULL))
    buffers = tuple(BufferArgument(name, DType.F32, name == "tile") for name in ("left", "right", "result", "tile"))
    what = specialisation(ContractionKernel("product", buffers, (), (Stage(body),), contract), machine)
    nest = emit(what, machine, 32)
    assert cuts_items(nest.body)
    return print_nest(replace(nest, before=None)), call_of(what, nest, machine, [1 << 20] * 3, nest.shared_bytes)


@pytest.mark.parametrize("is_blocked_along_sum", [False, True])
def test_rectangles_of_items_stay_inside(is_blocked_along_sum: bool) -> None:
    text, call = rectangles(is_blocked_along_sum)
    assert not unproved(read_nest(text, OPS), call, BOUNDS)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (r"else (\d+)\n", r"else 1\g<1>\n"),  # a rectangle of more panels than there are
        (r"= begin % (\d+)", r"= begin % 1\g<1>"),
        (r"= end // (\d+)", r"= begin // \g<1>"),
        (r"= (i\d+) // 4\n", r"= \g<1> // 9\n"),  # fewer groups of tiles, each larger than its room
        (r"= (i\d+) // 4\n", r"= begin // 40\n"),  # a number of groups that has nothing to do with the tiles
    ],
)
def test_rectangles_that_leave_their_memory_are_refused(right: str, wrong: str) -> None:
    text, call = rectangles(is_blocked_along_sum=True)
    changed, times = re.subn(right, wrong, text, count=1)
    assert times == 1, text
    assert unproved(read_nest(changed, OPS), call, BOUNDS)


def test_rectangles_of_items_store_all_elements() -> None:
    text, call = rectangles(is_blocked_along_sum=True)
    assert not unproved(read_nest(text, OPS), call, [Law.STORED])
    loops = [*re.finditer(r"for i\d+ in (0)\.\.i\d+:", text)]
    of_tiles, of_panels, *_, panels, tiles = loops
    for loop in (of_tiles, of_panels, panels, tiles):  # over the shares of both, and within one
        less = text[: loop.start(1)] + "1" + text[loop.end(1) :]
        assert unproved(read_nest(less, OPS), call, [Law.STORED]), loop[0]


def test_rectangles_of_a_batch_store_each_element_once() -> None:
    """Where a stretch of the tiles is the product of two numbers, and a share of them as well: they have one order."""
    text, call = rectangles(is_blocked_along_sum=False, rows=BatchExtent(16))
    assert not unproved(read_nest(text, OPS), call, [Law.ONCE])
    repeated = re.sub(r"for (i\d+) in i\d+\.\.(i\d+):(\n +i\d+ = \1 \* 6\n)", r"for \1 in 0..\2:\3", text)
    assert repeated != text
    assert unproved(read_nest(repeated, OPS), call, [Law.ONCE])
