"""What else a proof about a nest says of its surroundings: alignment, memory of a caller, types, scratch, items."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nest_memory_cases import HEAD, OF_ROW, OF_TILES, ROW, TILES, laws
from nest_reader import read_nest

from compiler.errors.diagnostics import CompilerBug
from compiler.nest.call import Call, Memory
from compiler.nest.ir import Nest
from compiler.nest.verify import verify_nest
from compiler.nest.verify_memory import BOUNDS, Law, unproved
from compiler.ops import OPS
from compiler.types import BatchExtent

IN_LINES = """  p3 = buffer 0  @1
  p4 = scratch 64 bytes from 0
  for item i5 in begin..end:
    i6 = i5 * 16
    p7 = &p3[i6] f32
    store f32x16(zeros) to p7, align 64
    store f32x16(zeros) to p4, align 64
"""
OF_LINES = Call((Memory(BatchExtent(64)),), BatchExtent(), 1, 1)


@pytest.mark.parametrize(
    ("right", "wrong"), [("i5 * 16", "i5 * 24"), ("p7, align 64", "p7, align 128"), ("p4, align 64", "p4, align 128")]
)
def test_addresses_are_multiples_of_what_accesses_say(right: str, wrong: str) -> None:
    assert laws(IN_LINES, OF_LINES) == set()
    assert right in IN_LINES
    assert Law.ALIGNED in laws(IN_LINES.replace(right, wrong), OF_LINES)


def test_an_access_is_aligned_no_further_than_its_memory() -> None:
    memory = replace(OF_LINES.arguments[0], align=4)  # type: ignore[type-var]
    assert laws(IN_LINES, replace(OF_LINES, arguments=(memory,))) == {Law.ALIGNED}
    by_element = IN_LINES.replace("p7, align 64", "p7, align 4")
    assert laws(by_element, replace(OF_LINES, arguments=(memory,))) == set()


def test_an_access_under_a_mask_is_aligned_where_its_first_lane_lies() -> None:
    masked = ROW.replace("    store v15 to p5, align 32\n", "").replace("p16, align 4", "p16, align 64")
    assert laws(masked, OF_ROW) == set()
    assert laws(masked.replace("i8 = i7 * 16", "i8 = i7 * 8"), OF_ROW) >= {Law.ALIGNED}


def test_memory_of_a_caller_is_read_no_further_than_it_may() -> None:
    """A tile of 4 rows reads behind a batch of fewer, for which there is room in memory of our own alone."""
    rows = "    for i16 in 0..32 step 8 with p17 = p12:\n"
    assert rows in TILES
    for least, reach, found in ((4, 0, set[Law]()), (3, 0, {Law.INSIDE}), (3, 32, set[Law]()), (1, 96, set[Law]())):
        lent = replace(OF_TILES.arguments[0], lent=(reach, least))  # type: ignore[type-var]
        assert laws(TILES, replace(OF_TILES, arguments=(lent, *OF_TILES.arguments[1:]))) == found, (least, reach)


def test_a_number_that_its_type_cannot_hold_is_not_known() -> None:
    """The rest of the elements is beyond i32 in a large batch, so that its mask may be wrong."""
    alone = ROW.replace("    store v15 to p5, align 32\n", "")
    assert laws(alone, OF_ROW) == set()
    narrowed = alone.replace("v11: i32 = convert(i10)", "v11: i32 = convert(i9)")
    assert narrowed != alone
    assert Law.INSIDE in laws(narrowed, OF_ROW)


def test_arithmetic_that_may_leave_its_type_is_not_known() -> None:
    alone = ROW.replace("    store v15 to p5, align 32\n", "")
    for added, found in ((2147483631, False), (2147483632, True)):  # to at most 16 in i32
        sums = f"v40: i32 = v11 + i32({added})\n    v41: i32 = v40 - i32({added})\n    v12: i32x16 = broadcast(v41)"
        assert (Law.INSIDE in laws(alone.replace("v12: i32x16 = broadcast(v11)", sums), OF_ROW)) is found


@pytest.mark.parametrize("items", ["0..end", "begin..i6", "begin..end step 2"])
def test_a_loop_over_other_items_than_those_of_the_call_has_no_proof(items: str) -> None:
    changed = TILES.replace("item i6 in begin..end", f"item i6 in {items}").replace(
        "i6 in begin..i6", "i6 in begin..i5"
    )
    assert laws(changed, OF_TILES) == {Law.KNOWN}


def nest_of(text: str, scratch: int, of_rows: int = 0) -> Nest:
    head = HEAD.replace("scratch 64 and 0*batch", f"scratch {scratch} and {of_rows}*batch")
    assert head != HEAD or scratch == 64
    return read_nest(head + text, OPS)


def test_stretches_of_scratch_lie_apart_and_inside() -> None:
    text = "  p3 = scratch 64 bytes from 0  @1\n  p4 = scratch 64 bytes from 64\n"
    verify_nest(nest_of(text, 128))
    verify_nest(nest_of(text, 64, 64))  # the second grows with the batch
    for wrong, size in ((text.replace("from 64", "from 32"), 128), (text, 96), (text, 64)):
        with pytest.raises(CompilerBug, match="of scratch are another stretch's, or beyond it"):
            verify_nest(nest_of(wrong, size))


def test_scratch_of_a_nest_that_runs_before_is_refused() -> None:
    text = "  p3 = scratch 64 bytes from 0  @1\n"
    before = nest_of(text, 64)
    with pytest.raises(CompilerBug, match="what runs before has scratch, which nobody reserves"):
        verify_nest(replace(nest_of(text, 64), before=before))


def test_bounds_are_asked_with_verify() -> None:
    nest = read_nest(HEAD + IN_LINES.replace("i5 * 16", "i5 * 24"), OPS)
    assert Law.ALIGNED in {doubt.law for doubt in unproved(nest, OF_LINES, BOUNDS)}
