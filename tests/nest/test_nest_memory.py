"""Memory of nests: what is proved for every batch, and which faults are refused, each under its law."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
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
from compiler.nest.call import Call, Memory, Result, cuts_items
from compiler.nest.printer import print_nest
from compiler.nest.terms import MOST_LOADED
from compiler.nest.verify_memory import BOUNDS, Law, unproved, verify_memory
from compiler.ops import OPS
from compiler.targets.cpu.emit import emit
from compiler.targets.cpu.specialisation import specialisation
from compiler.types import BatchExtent, DType, Extent

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
    return len(unproved(read_nest(HEAD + body, OPS), call, BOUNDS))


def laws(body: str, call: Call) -> set[Law]:
    """Those of which no proof was found."""
    return {doubt.law for doubt in unproved(read_nest(HEAD + body, OPS), call)}


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
    with pytest.raises(CompilerBug, match=r"an access may leave its memory \(p23\)"):
        verify_memory(read_nest(HEAD + TILES, OPS), read)


def test_loops_around_a_nest_move_its_addresses() -> None:
    memory = Memory(BatchExtent(32), behind=64)
    moved = Call((OF_TILES.arguments[0], memory, BatchExtent()), BatchExtent(), 4, 1)
    assert failures(TILES, moved) == 1


# Items are numbered by panels of all tiles, of which there are as many as the batch needs. A panel is packed once.
PANELS = """  p3 = buffer 0  @1
  p4 = buffer 1
  p5 = scratch 256 bytes from 0
  i6 = extent batch
  i7 = i6 + 3
  i8 = i7 // 4
  for item i9 in begin..end with i10 = -1:
    i11 = i9 // i8
    i12 = i9 % i8
    v13: bool = i11 != i10
    if v13:
      for i14 in 0..4:
        i15 = i14 * 16
        i16 = i11 * 64
        i17 = i16 + i15
        p18 = &p3[i17] f32
        v19: f32x16 = load p18, align 4
        p20 = &p5[i15] f32
        store v19 to p20, align 64
    i21 = i12 * 4
    i22 = i6 - 4
    i23 = max(i22, 0)
    i24 = min(i21, i23)
    i25 = i21 - i24
    i26 = i6 - i24
    i27 = min(i26, 4)
    for i28 in i25..i27:
      i29 = i28 + i24
      i30 = i29 * 32
      i31 = i11 * 16
      i32 = i30 + i31
      p33 = &p4[i32] f32
      i34 = i28 * 16
      p35 = &p5[i34] f32
      v36: f32x16 = load p35, align 64
      store v36 to p33, align 4
    next i11
"""
OF_PANELS = Call((Memory(512), Memory(BatchExtent(128)), BatchExtent()), BatchExtent(), 4, 2)
ADDED = """  p3 = buffer 0  @1
  for item i4 in begin..end:
    i5 = i4 * 16
    p6 = &p3[i5] f32
    store f32x16(zeros) to p6, align 4
    for i7 in 0..9:
      v8: f32x16 = load p6, align 4
      v9: f32x16 = v8 + f32x16(1.0)
      store v9 to p6, align 4
"""
OF_ADDED = Call((Memory(BatchExtent(64)),), BatchExtent(), 1, 1)
OF_HALVES = Call((Memory(BatchExtent(128)),), BatchExtent(), 1, 1)


def test_tiles_of_panels_are_stored_once_and_read_what_was_packed() -> None:
    assert laws(PANELS, OF_PANELS) == set()
    assert laws(ADDED, OF_ADDED) == set(), "sums are stored again and again, by one item"


@pytest.mark.parametrize(
    ("right", "wrong", "law"),
    [
        ("for i28 in i25..i27", "for i28 in 0..i27", Law.ONCE),  # rows that the tile before has
        ("i31 = i11 * 16", "i31 = i11 * 0", Law.ONCE),  # two items store one element
        ("i31 = i11 * 16", "i31 = i11 * 8", Law.ONCE),  # halves of two vectors overlap
        ("i12 = i9 % i8", "i12 = i9 // i8", Law.ONCE),
        ("for i14 in 0..4", "for i14 in 0..3", Law.FILLED),  # the panel lacks a row
        ("for i14 in 0..4", "for i14 in 1..4", Law.FILLED),
        ("with i10 = -1", "with i10 = 0", Law.FILLED),  # the first panel is taken for packed
        ("v13: bool = i11 != i10", "v13: bool = i12 != i10", Law.FILLED),
        ("i34 = i28 * 16", "i34 = i28 * 34", Law.INSIDE),
    ],
)
def test_faults_of_panels_are_refused(right: str, wrong: str, law: Law) -> None:
    assert right in PANELS
    assert law in laws(PANELS.replace(right, wrong), OF_PANELS)


def test_sums_of_another_item_are_not_touched() -> None:
    halves = ADDED.replace("i5 = i4 * 16", "i5 = i4 * 8")
    assert laws(halves, OF_HALVES) == {Law.ONCE, Law.APART}
    not_added = ADDED.replace("v8: f32x16 = load p6, align 4", "v8: f32x16 = f32x16(1.0) + f32x16(1.0)")
    assert laws(not_added, OF_ADDED) == {Law.ONCE}


def test_elements_that_another_item_stores_are_not_read() -> None:
    """In place, which is right where an item reads what it stores, and wrong where it reads its neighbour."""
    call = Call((Memory(BatchExtent(64), number=7), Memory(BatchExtent(64), number=7)), BatchExtent(), 1, 1)
    apart = Call((Memory(BatchExtent(64), number=7), Memory(BatchExtent(64), number=8)), BatchExtent(), 1, 1)
    text = """  p3 = buffer 0  @1
  p4 = buffer 1
  for item i5 in begin..end:
    i6 = i5 + SHIFT
    i7 = i6 * 16
    p8 = &p3[i7] f32
    v9: f32x16 = load p8, align 4
    i10 = i5 * 16
    p11 = &p4[i10] f32
    store v9 to p11, align 4
"""
    assert laws(text.replace("SHIFT", "0"), call) == set()
    assert Law.APART in laws(text.replace("SHIFT", "1"), call)
    assert Law.APART not in laws(text.replace("SHIFT", "1"), apart)


IN_PLACE = """  p3 = buffer 0  @1
  p4 = scratch 64 bytes from 0
  i5 = place 0
  for item i6 in begin..end:
    i7 = i6 * i5
    p8 = &p3[i7] f32
    for i9 in 0..i5 step 16:
      i10 = i5 - i9
      v11: i32 = convert(i10)
      v12: i32x16 = broadcast(v11)
      v13: boolx16 = i32x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) < v12
      p14 = &p8[i9] f32
      v15: f32x16 = load p14, align 4
      v16: f32x16 = mul(v15, v15)
      v17: f32x16 = v16 if v13 else f32x16(-0.0)
      store v17 to p4, align 64
      store v16 to p14, align 4, mask v13
"""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("", ""),
        ("v16 if v13 else f32x16(-0.0)", "f32x16(-0.0) if v13 else v16"),  # the lanes behind the row
        ("align 4, mask v13", "align 4"),
        ("store v17 to p4", "store v16 to p4"),
    ],
)
def test_lanes_that_a_mask_leaves_out_may_be_of_another_item(right: str, wrong: str) -> None:
    """Rows of 10 numbers in vectors of 16, in place: the last 6 lanes are of the next row."""
    call = Call((Memory(BatchExtent(40), number=7), 10), BatchExtent(), 1, 1)
    assert right in IN_PLACE
    assert (Law.APART in laws(IN_PLACE.replace(right, wrong), call)) is (right != wrong)


ALONE = ROW.replace("    store v15 to p5, align 32\n", "")
LESS = """      v37: bool = i28 < 3
      if v37:
        store v36 to p33, align 4
"""
STORING = {  # nests with the rows of their results
    "tiles": (TILES, replace(OF_TILES, results=(Result(1, 4, 0, ((BatchExtent(), 32), (8, 4))),))),
    "row": (ALONE, replace(OF_ROW, results=(Result(1, 4, 0, ((BatchExtent(10), 4),)),))),
    "panels": (PANELS, replace(OF_PANELS, results=(Result(1, 4, 0, ((BatchExtent(), 128), (32, 4))),))),
    "sums": (ADDED, replace(OF_ADDED, results=(Result(0, 4, 0, ((BatchExtent(16), 4),)),))),
}


@pytest.mark.parametrize("name", STORING)
def test_all_elements_of_results_are_stored(name: str) -> None:
    assert laws(*STORING[name]) == set()


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("tiles", "i15 = min(i14, 4)", "i15 = min(i14, 3)"),  # a loop ends one early
        ("tiles", "for i20 in i13..i15", "for i20 in i13..i15 step 2"),
        ("tiles", "i7 = i6 * 4", "i7 = i6 * 5"),  # a row between tiles
        ("tiles", "store f32x8", "store f32x4"),  # half of a row
        ("row", "i10 = min(i9, 16)", "i10 = min(i9, 15)"),  # a mask is too strict
        ("row", "in begin..end", "in begin..end step 2"),
        ("row", "i9 = i6 - i8", "i9 = i8 - i8"),
        ("panels", "i27 = min(i26, 4)", "i27 = min(i26, 3)"),
        ("panels", "i25 = i21 - i24", "i25 = i24 - i24"),  # rows are stored twice, and none lacks
        ("panels", "i22 = i6 - 4", "i22 = i6 - 5"),  # the last tile is moved too far
        ("panels", "i31 = i11 * 16", "i31 = i11 * 0"),
        ("panels", "      store v36 to p33, align 4\n", LESS),  # a guard is too strict
        ("sums", "store f32x16(zeros) to p6", "store f32x8(zeros) to p6"),
    ],
)
def test_results_that_lack_an_element_are_refused(name: str, right: str, wrong: str) -> None:
    text, call = STORING[name]
    assert right in text
    is_same = wrong.startswith(("i25", "store f32x8(zeros)"))  # what another store writes
    assert bool(laws(text.replace(right, wrong), call) & {Law.STORED, Law.KNOWN}) is not is_same


def test_rows_that_heads_and_their_blocks_share_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each item stores 8 rows of one of 4 heads, 4 rows apart."""
    text = """  p3 = buffer 0  @1
  for item i4 in begin..end:
    i5 = i4 // 8
    i6 = i4 % 8
    i7 = i5 // 4
    i8 = i5 % 4
    i9 = i7 * 256
    i10 = i8 + i9
    i11 = i6 * 32
    i12 = i11 + i10
    i13 = i12 * 16
    p14 = &p3[i13] f32
    store f32x16(zeros) to p14, align 4
"""
    rows = [f"    p{k} = &p14[{64 * (k - 14)}] f32\n    store f32x16(zeros) to p{k}, align 4\n" for k in range(15, 22)]
    axes = (BatchExtent(256), 64), (16, 4)
    call = Call((Memory(BatchExtent(16384)),), BatchExtent(4), 1, 8, None, (Result(0, 4, 0, axes),))
    assert laws(text + "".join(rows), call) == set()
    monkeypatch.setattr("compiler.nest.verify_memory.MOST_OPERATIONS", 10_000)
    monkeypatch.setattr("compiler.nest.verify_memory.FEW_OPERATIONS", 10_000)
    assert laws(text + "".join(rows[1:]), call) == {Law.STORED}


def test_a_condition_of_which_nothing_is_known_stores_nothing() -> None:
    _, call = STORING["sums"]
    guarded = """  p3 = buffer 0  @1
  p4 = buffer 1
  for item i5 in begin..end:
    i6 = i5 * 16
    p7 = &p3[i6] f32
    v8: f32 = load p4, align 4
    v9: bool = v8 unordered v8
    if v9:
      store f32x16(zeros) to p7, align 4
"""
    given = replace(call, arguments=(*call.arguments, Memory(4)))
    assert laws(guarded, given) == {Law.STORED}
    assert laws(guarded.replace("    if v9:\n  ", ""), given) == set()


def test_stores_in_a_share_that_nobody_knows_count_where_its_bounds_do_not() -> None:
    """A sum is split by the batch; its result is stored behind the loop over a part of it, or in each round of that."""
    text = """  p3 = buffer 0  @1
  i4 = extent batch
  for item i5 in begin..end:
    i6 = i5 * i4
    i7 = i6 // 4
    i8 = i5 + 1
    i9 = i8 * i4
    i10 = i9 // 4
    i11 = i5 * 16
    p12 = &p3[i11] f32
    for i13 in i7..i10:
      v14: i64x16 = i64x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) + i64x16(1)
    store f32x16(zeros) to p12, align 4
"""
    call = Call((Memory(256), BatchExtent()), 4, 1, 1, None, (Result(0, 4, 0, ((64, 4),)),))
    assert laws(text, call) == set()
    assert Law.STORED in laws(text.replace("    store f32x16", "      store f32x16"), call)  # a share may be empty


SHARES = """  p3 = buffer 0  @1
  p4 = buffer 1
  i5 = extent batch
  i6 = i5 + 1
  i7 = i6 // 2
  for item i8 in begin..end:
    for i9 in 0..i7:
      store f32(0.0) to p4, align 4
      i10 = i5 * i9
      i11 = i10 // i7
      i12 = i10 % i7
      i13 = i9 + 1
      i14 = i5 * i13
      i15 = i14 // i7
      i16 = i14 % i7
      for i17 in i11..i15:
        p18 = &p3[i17] f32
        store f32(0.0) to p18, align 4
"""
OF_SHARES = Call((Memory(BatchExtent(4)), Memory(4), BatchExtent()), 1, 1, 1)


def test_a_store_before_the_bounds_of_a_share_are_known_repeats_in_each_share() -> None:
    assert laws(SHARES, OF_SHARES) == {Law.ONCE}


def test_numbers_from_memory_are_bounded_by_their_clamp_alone() -> None:
    text = """  p3 = buffer 0  @1
  p4 = buffer 1
  for item i5 in begin..end:
    p6 = &p3[i5] i64
    i7 = load p6, align 8
    i8 = max(i7, 0)
    i9 = min(i8, 5)
    p10 = &p4[i9] f32
    v11: f32 = load p10, align 4
"""
    call = Call((Memory(BatchExtent(8)), Memory(24)), BatchExtent(), 1, 1)
    assert failures(text, call) == 0
    for right, wrong in (("min(i8, 5)", "min(i8, 99)"), ("max(i7, 0)", "max(i7, -9)")):
        assert failures(text.replace(right, wrong), call) == 1, wrong
    unclamped = text.replace("i9 = min(i8, 5)", "i9 = i8 + 1")
    assert laws(unclamped, call) == {Law.CLAMPED}
    with pytest.raises(CompilerBug, match=r"an index from memory has no bounds \(p10\)"):
        verify_memory(read_nest(HEAD + unclamped, OPS), call)
    assert laws(unclamped, replace(call, indexed=frozenset([1]))) == set(), "an index that the program made"


def test_numbers_from_memory_that_are_only_added_need_no_bounds() -> None:
    """As where a metric counts right answers: more of them than the verifier has dimensions for."""
    count = MOST_LOADED + 2
    loads = "".join(f"    p{6 + k} = &p3[{k}] i64\n    i{16 + k} = load p{6 + k}, align 8\n" for k in range(count))
    adds = "".join(f"    i{26 + k} = i{25 + k if k else 16} + i{16 + k}\n" for k in range(count))
    text = f"""  p3 = buffer 0  @1
  p4 = buffer 1
  for item i5 in begin..end:
{loads}{adds}    store i{25 + count} to p4, align 8
"""
    assert failures(text, Call((Memory(8 * count), Memory(8)), 1, 1, 1)) == 0


COMPUTED = """  p3 = buffer 0  @1
  p4 = buffer 1
  p5 = buffer 2
  for item i6 in begin..end:
    i7 = i6 * 16
    p8 = &p3[i7] f32
    v9: f32x16 = load p8, align 4
    v10: i32x16 = cast(v9) dtype=i32
    v11: i32x16 = add(v10, i32x16(1))
    v12: i64x16 = convert(v11)
    v13: i64x16 = max(v12, i64x16(zeros))
    v14: i64x16 = min(v13, i64x16(5))
    v15: f32x16 = gather p4[v14], mask boolx16(true)
    p16 = &p5[i7] f32
    store v15 to p16, align 4
"""


@pytest.mark.parametrize(
    ("right", "wrong", "law"),
    [
        ("", "", None),
        ("i64x16(5)", "i64x16(99)", Law.INSIDE),
        ("max(v12, i64x16(zeros))", "max(v12, i64x16(-99))", Law.INSIDE),
        ("p4[v14]", "p4[v13]", Law.CLAMPED),
        ("p4[v14]", "p4[v12]", Law.CLAMPED),
    ],
)
def test_numbers_made_of_fractions_are_bounded_by_their_clamp_alone(right: str, wrong: str, law: Law | None) -> None:
    """As where a picture is moved by a part of a dot, or a table is read at what an image holds."""
    call = Call((Memory(BatchExtent(64)), Memory(24), Memory(BatchExtent(64))), BatchExtent(), 1, 1)
    assert right in COMPUTED
    assert laws(COMPUTED.replace(right, wrong), call) == (set() if law is None else {law})


OF_WIDE = Call((Memory(BatchExtent(8)), Memory(24)), BatchExtent(), 1, 1)


def test_a_clamp_before_arithmetic_that_may_leave_its_type_is_none() -> None:
    """The largest number of i32, and 1, is the smallest."""
    text = """  p3 = buffer 0  @1
  p4 = buffer 1
  for item i5 in begin..end:
    p6 = &p3[i5] i32
    v7: i32 = load p6, align 4
    v8: i32 = max(v7, i32(0))
    v9: i32 = v8 + i32(0)
    v10: i32 = min(v9, i32(5))
    i11 = convert(v10)
    p12 = &p4[i11] f32
    v13: f32 = load p12, align 4
"""
    call = Call((Memory(BatchExtent(4)), Memory(24)), BatchExtent(), 1, 1)
    assert failures(text.replace("v8 + i32(0)", "min(v8, i32(5))"), call) == 0
    assert failures(text.replace("v8 + i32(0)", "v8 + i32(1)"), call) == 1
    assert failures(text.replace("i32(5)", "i32(4)").replace("v9: i32 = v8", "v9: i32 = v7"), call) == 1
    halves = text.replace("v8 + i32(0)", "convert(i8)").replace("v8: i32 = max(v7, i32(0))", "i8 = max(i7, 0)")
    assert failures(halves.replace("v7: i32 = load", "i7 = load").replace("i5] i32", "i5] i64"), OF_WIDE) == 1


def clamped_reads(clamps: Sequence[int], reads: Sequence[tuple[int, int]]) -> str:
    """So many numbers from memory with a clamp for each; some are read with, each behind the clamp of another."""
    lines = ["  p3 = buffer 0  @1", "  p4 = buffer 1", "  for item i5 in begin..end:"]
    for k, clamp in enumerate(clamps):
        p, i, lower, upper = (f"{6 + 4 * k + n}" for n in range(4))
        lines += [f"    p{p} = &p3[{k}] i64", f"    i{i} = load p{p}, align 8"]
        lines += [f"    i{lower} = max(i{i}, 0)", f"    i{upper} = min(i{lower}, {clamp})"]
        for place, (behind, read) in enumerate(reads):
            if behind == k:
                n = 6 + 4 * len(clamps) + 2 * place
                lines += [f"    p{n} = &p4[i{9 + 4 * read}] f32", f"    v{n + 1}: f32 = load p{n}, align 4"]
    return "\n".join((*lines, ""))


def test_each_of_many_numbers_from_memory_has_its_own_clamp() -> None:
    """More of them than have a dimension at once: that of the oldest is taken, and what was known by it forgotten."""
    count = MOST_LOADED + 3
    clamps, at_once = [5] * count, [(k, k) for k in range(count)]
    call = Call((Memory(8 * count), Memory(24)), 1, 1, 1)
    assert failures(clamped_reads(clamps, at_once), call) == 0
    assert failures(clamped_reads(clamps, [(count - 1, count - 2), (count - 1, count - 1)]), call) == 0
    assert failures(clamped_reads(clamps, [(count - 1, 0)]), call) == 1, "which is forgotten"
    for k in range(count):
        assert failures(clamped_reads([*clamps[:k], 99, *clamps[k + 1 :]], at_once), call) == 1


def test_a_store_at_an_index_from_memory_fills_one_element_of_scratch() -> None:
    text = """  p3 = buffer 0  @1
  p4 = scratch 64 bytes from 0
  for item i5 in begin..end:
    p6 = &p3[i5] i64
    i7 = load p6, align 8
    i8 = max(i7, 0)
    i9 = min(i8, 15)
    p10 = &p4[i9] f32
    store f32(0.0) to p10, align 4
    v11: f32x16 = load p4, align 4
"""
    assert laws(text, OF_WIDE) == {Law.FILLED}
    assert laws(text.replace("f32(0.0) to p10", "f32x16(zeros) to p4"), OF_WIDE) == set()


def test_a_loop_between_numbers_from_memory_may_have_no_round() -> None:
    text = """  p3 = buffer 0  @1
  p4 = buffer 1
  for item i5 in begin..end:
    p6 = &p3[i5] i64
    i7 = load p6, align 8
    i8 = max(i7, 0)
    i9 = min(i8, 16)
    i10 = i5 * 16
    p11 = &p4[i10] f32
    for i12 in 0..i9:
      p13 = &p11[i12] f32
      store f32(0.0) to p13, align 4
"""
    result = Result(1, 4, 0, ((BatchExtent(16), 4),))
    call = Call((Memory(BatchExtent(8)), Memory(BatchExtent(64))), BatchExtent(), 1, 1, None, (result,))
    assert laws(text, call) == {Law.STORED}
    assert laws(text.replace("0..i9", "0..16"), call) == set()


def test_faults_that_leave_memory_are_refused() -> None:
    """Of each kind of fault; the runs of `check_nests.py` find what stays inside."""
    found: Counter[tuple[str, str]] = Counter()
    for cases in graph_cases(12)[: len(MACHINES)]:
        found.update(cases.mutations(Random(1), 4))
    refused = {kind for kind, who in found if who == "proof"}
    assert {"address shifted", "loop longer", "mask dropped"} <= refused


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
