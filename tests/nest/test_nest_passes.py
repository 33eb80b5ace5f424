"""Passes over nests, from text to text."""

from __future__ import annotations

import pytest
from nest_reader import read_nest

from compiler.machine import AVX2, AVX512, NEON, Machine
from compiler.nest.printer import print_nest
from compiler.nest.verify import verify_nest
from compiler.targets.cpu.nest_passes import store_in_pieces

RESTS = """nest: items 4 by 1 times 1; scratch 0 and 0*batch bytes; lines 1 2
  p3 = buffer 0  @1
  for item i4 in begin..end:
    p5 = &p3[i4] f32  @2
    v6: f32x16 = load p5, align 4
    v7: boolx16 = v6 unordered v6
    store v6 to p5, align 4, mask v7
    if bool(true):
      store v6 to p5, align 4, mask boolx16({lanes})
"""
PIECES = """      v8: f32x8 = shuffle(v6) lanes 0..7
      store v8 to p5, align 4
      v9: f32x2 = shuffle(v6) lanes 8 9
      p10 = &p5[8] f32
      store v9 to p10, align 4
      v11: f32x1 = shuffle(v6) lanes 10
      p12 = &p5[10] f32
      store v11 to p12, align 4
"""


def rests(lanes: int) -> str:
    return RESTS.format(lanes=", ".join("true" if k < lanes else "false" for k in range(16)))


@pytest.mark.parametrize(("machine", "is_whole"), [(AVX512, True), (AVX2, False), (NEON, False)])
def test_known_rests_are_stored_in_pieces_where_no_store_has_a_mask(machine: Machine, is_whole: bool) -> None:
    found = store_in_pieces(read_nest(rests(11), ()), machine)
    verify_nest(found)
    *above, masked = rests(11).splitlines(keepends=True)
    assert print_nest(found) == "".join(above) + (masked if is_whole else PIECES)
    assert print_nest(read_nest(print_nest(found), ())) == print_nest(found)
