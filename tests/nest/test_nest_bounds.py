"""Bounds of nests: what is proved for every batch, what is refused, and which facts a proof rests on."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from nest_cases import MACHINES, graph_cases
from nest_reader import read_nest
from nests import call_of

from compiler.errors.diagnostics import CompilerBug
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
from compiler.nest.call import Call, Memory, cuts_items
from compiler.nest.forms import BATCH, Forms, as_form
from compiler.nest.printer import print_nest
from compiler.nest.verify_bounds import unproved, verify_bounds
from compiler.ops import OPS
from compiler.targets.cpu.emit import emit
from compiler.targets.cpu.specialisation import specialisation
from compiler.types import BatchExtent, DType

HEAD = "nest: items batch by 1 times 1; scratch 64 and 0*batch bytes; lines 1\n"
TILES = """  p3 = buffer 0  @1
  p4 = buffer 1
  i5 = extent batch
  for item i6 in begin..end:
    i7 = i6 * 4
    i8 = i5 - 4
    i9 = max(i8, 0)
    i10 = min(i7, i9)
    i11 = i10 * 8
    p12 = &p3[i11] f32
    i13 = i7 - i10
    i14 = i5 - i10
    i15 = min(i14, 4)
    for i16 in 0..32 step 8 with p17 = p12:
      v18: f32x8 = load p17, align 4
      p19 = &p17[8] f32
      next p19
    for i20 in i13..i15:
      i21 = i20 + i10
      i22 = i21 * 8
      p23 = &p4[i22] f32
      store f32x8(0.0) to p23, align 4
"""
ROW = """  p3 = buffer 0  @1
  p4 = buffer 1
  p5 = scratch 32 bytes from 0
  i6 = extent 10*batch
  for item i7 in begin..end:
    i8 = i7 * 16
    i9 = i6 - i8
    i10 = min(i9, 16)
    v11: i32 = convert(i10)
    v12: i32x16 = broadcast(v11)
    v13: boolx16 = i32x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) < v12
    p14 = &p3[i8] f32
    v15: f32x16 = load p14, align 4
    p16 = &p4[i8] f32
    store v15 to p16, align 4, mask v13
    store v15 to p5, align 32
"""
OF_TILES = Call((Memory(BatchExtent(32)), Memory(BatchExtent(32)), BatchExtent()), BatchExtent(), 4, 1)
OF_ROW = Call((Memory(BatchExtent(40)), Memory(BatchExtent(40)), BatchExtent(10)), BatchExtent(10), 16, 1)


def failures(body: str, call: Call) -> int:
    return len(unproved(read_nest(HEAD + body, OPS), call))


def test_tiles_that_are_moved_back_stay_inside_for_every_batch() -> None:
    assert failures(TILES, OF_TILES) == 0


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("i15 = min(i14, 4)", "i15 = max(i14, 4)"),
        ("i11 = i10 * 8", "i11 = i10 * 9"),
        ("p19 = &p17[8]", "p19 = &p17[800]"),
        ("in i13..i15", "in 0..4"),
        ("in 0..32 step 8", "in 0..320 step 8"),
    ],
)
def test_tiles_that_leave_their_memory_are_refused(right: str, wrong: str) -> None:
    assert right in TILES
    assert failures(TILES.replace(right, wrong), OF_TILES)


def test_a_mask_keeps_a_store_inside() -> None:
    assert failures(ROW.replace("    store v15 to p5, align 32\n", ""), OF_ROW) == 0
    assert failures(ROW, OF_ROW) == 1, "64 bytes in a stretch of 32"
    assert failures(ROW.replace(", mask v13", ""), OF_ROW) == 2


CHOSEN = """  p3 = buffer 0  @1
  p4 = buffer 1
  i5 = extent batch
  for item i6 in begin..end:
    i7 = i6 + 1
    v8: bool = i7 < i5
    p9 = &p3[i6] f32
    p10 = &p9[1] f32
    p11 = p10 if v8 else p9
    store f32(0.0) to p11, align 4
    v12: i64x16 = i64x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) // i64x16(4)
    v13: f32x16 = gather p4[v12], mask boolx16(MASK)
"""
ONLY_TWELVE = ", ".join(["true"] * 12 + ["false"] * 4)
OF_CHOSEN = Call((Memory(BatchExtent(4)), Memory(12), BatchExtent()), BatchExtent(), 1, 1)


def gathers(mask: str, behind: int) -> int:
    """How many accesses have no proof, where an array of so many bytes less than are read lies before its slack."""
    call = Call((OF_CHOSEN.arguments[0], Memory(12 + behind - 128), BatchExtent()), BatchExtent(), 1, 1)
    return failures(CHOSEN.replace("MASK", mask), call)


def test_choices_of_addresses_and_constant_places() -> None:
    assert gathers(ONLY_TWELVE, 0) == 0
    assert gathers("true", 0) == 1, "the last places"
    assert gathers("true", 4) == 0
    assert failures(CHOSEN.replace("MASK", ONLY_TWELVE).replace("i7 < i5", "i7 <= i5"), OF_CHOSEN) == 1


def test_buffers_that_are_read_are_not_written() -> None:
    memory = Memory(BatchExtent(32), is_written=False)
    read = Call((OF_TILES.arguments[0], memory, BatchExtent()), BatchExtent(), 4, 1)
    with pytest.raises(CompilerBug, match="p23 is written, which is not proved to stay inside"):
        verify_bounds(read_nest(HEAD + TILES, OPS), read)


def test_loops_around_a_nest_move_its_addresses() -> None:
    memory = Memory(BatchExtent(32), behind=64)
    moved = Call((OF_TILES.arguments[0], memory, BatchExtent()), BatchExtent(), 4, 1)
    assert failures(TILES, moved) == 1


def test_quotients_and_remainders_of_items() -> None:
    forms = Forms()
    blocks = forms.quotient(BATCH + 10, as_form(11))  # ceil(batch / 11)
    item = forms.between(0, blocks * 3 - 1)
    panel, tile = forms.quotient(item, blocks), forms.remainder(item, blocks)
    assert forms.is_never_negative(as_form(2) - panel)
    assert not forms.is_never_negative(as_form(1) - panel)
    assert forms.is_never_negative(BATCH - 1 - tile * 11), "a tile begins in the batch"
    assert not forms.is_never_negative(BATCH - 11 - tile * 11), "and may end behind it"


def test_rows_that_are_turned_round_inside_of_a_batch() -> None:
    forms = Forms()
    item = forms.between(0, BATCH * 400 - 1)
    row = forms.quotient(item, as_form(400))
    place = row * 51200 - (item - row * 400) * 128 + 51072
    assert forms.is_never_negative(place)
    assert not forms.is_never_negative(place - 1)
    assert forms.is_never_negative(BATCH * 51200 - place - 128)
    assert not forms.is_never_negative(BATCH * 51200 - place - 129)


def test_facts_hold_where_they_are_known_only() -> None:
    forms = Forms()
    one, other = forms.fresh(), forms.fresh()
    with forms.where((one - other * 2 - 1,)) as may_hold:
        assert may_hold
        assert forms.is_never_negative(one * 3 - other * 6 - 3)
    assert not forms.is_never_negative(one * 3 - other * 6 - 3)
    with forms.where((as_form(-1),)) as may_hold:
        assert not may_hold


def test_faults_that_leave_memory_are_refused() -> None:
    """Of each kind of fault; the runs of `check_nests.py` find what stays inside."""
    found: Counter[tuple[str, str]] = Counter()
    for cases in graph_cases(12)[: len(MACHINES)]:
        found.update(cases.mutations(Random(1), 8))
    refused = {kind for kind, who in found if who == "proof"}
    assert {"address shifted", "loop longer", "mask dropped"} <= refused


def rectangles(is_blocked_along_sum: bool) -> tuple[str, Call]:
    """A product whose items a thread takes as rectangles, in blocks of rows or with copies of both operands."""
    axis, apart = (ContractedAxis(512, 512, 512), 1) if is_blocked_along_sum else (ContractedAxis(512, 1, 512), 512)
    contract = TileContract(0, 1, 3, 512, 512, (axis,), (), 0, 0, apart, 1, 1, DType.F32)
    machine = replace(AVX2, l1_bytes=8 << 10, l2_bytes=1 << 15)
    rows = (IndexTerm(1, None, 512),)
    body = (
        Load(0, Access(3, 0, rows, (IndexTerm(1, None, 1),)), DType.F32, Space.FULL),
        Store(Access(2, 0, rows, (IndexTerm(1, None, 1),)), 0, DType.F32, Space.FULL),
    )
    buffers = tuple(BufferArgument(name, DType.F32, name == "tile") for name in ("left", "right", "result", "tile"))
    what = specialisation(ContractionKernel("product", buffers, (), (Stage(body),), contract), machine)
    nest = emit(what, machine, 32)
    assert cuts_items(nest.body)
    return print_nest(replace(nest, before=None)), call_of(what, nest, machine, [1 << 20] * 3, nest.shared_bytes)


@pytest.mark.parametrize("is_blocked_along_sum", [False, True])
def test_rectangles_of_items_stay_inside(is_blocked_along_sum: bool) -> None:
    text, call = rectangles(is_blocked_along_sum)
    assert not unproved(read_nest(text, OPS), call)


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
    assert unproved(read_nest(changed, OPS), call)
