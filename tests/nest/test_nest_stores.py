"""Stores of nests: each element of a result once, scratch before it is read, and nothing of another item."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nest_memory_cases import OF_ROW, OF_TILES, ROW, TILES, laws

from compiler.nest.call import Call, Memory, Result
from compiler.nest.verify_memory import Law
from compiler.types import BatchExtent

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
