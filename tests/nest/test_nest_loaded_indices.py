"""Numbers that a nest reads from memory and uses as indices: a clamp bounds them, and nothing else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from nest_memory_cases import HEAD, failures, laws
from nest_reader import read_nest

from compiler.errors.diagnostics import CompilerBug
from compiler.nest.call import Call, Memory, Result
from compiler.nest.terms import MOST_LOADED
from compiler.nest.verify_memory import Law, verify_memory
from compiler.ops import OPS
from compiler.types import BatchExtent


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
