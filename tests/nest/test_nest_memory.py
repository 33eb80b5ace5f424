"""Memory of nests: accesses that are proved to stay inside for every batch; those that leave it are refused."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from nest_cases import MACHINES, graph_cases
from nest_memory_cases import HEAD, OF_ROW, OF_TILES, ROW, TILES, failures
from nest_reader import read_nest

from compiler.errors.diagnostics import CompilerBug
from compiler.nest.call import Call, Memory
from compiler.nest.verify_memory import verify_memory
from compiler.ops import OPS
from compiler.types import BatchExtent


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


def test_faults_that_leave_memory_are_refused() -> None:
    """Of each kind of fault; the runs of `check_nests.py` find what stays inside."""
    found: Counter[tuple[str, str]] = Counter()
    for cases in graph_cases(12)[: len(MACHINES)]:
        found.update(cases.mutations(Random(1), 4))
    refused = {kind for kind, who in found if who == "proof"}
    assert {"address shifted", "loop longer", "mask dropped"} <= refused
