"""Stores to padded pictures, whose pixels are numbered along all of them: each is proved to be stored once."""

from __future__ import annotations

import pytest
from nest_reader import read_nest

from compiler.nest.call import Call, Memory, Result
from compiler.nest.verify_memory import Law, unproved
from compiler.ops import OPS
from compiler.types import BatchExtent

PICTURES = """  p3 = buffer 0  @1
  for item i4 in begin..end:
    i5 = i4 // 3
    i6 = i4 % 3
    i7 = i6 * 5
    i8 = min(i7, 9)
    i9 = i5 // 14
    i10 = i5 % 14
    i11 = i9 * 196
    i12 = i10 * 14
    i13 = i11 + i12
    i14 = i13 + i8
    i15 = i7 - i8
    for i16 in i15..5:
      i17 = i14 + i16
      i18 = i17 // 196
      i19 = i18 * 256
      i20 = i17 // 14
      i21 = i20 % 14
      i22 = i21 * 16
      i23 = i17 % 14
      i24 = i19 + i22
      i25 = i24 + i23
      p26 = &p3[i25] f32
      p27 = &p26[17] f32
      store f32(0.0) to p27, align 4
"""
BLOCKS = """  p3 = buffer 0  @1
  for item i4 in begin..end:
    i5 = i4 * 196
    for i6 in 0..196 step 4:
      i7 = i5 + i6
      i8 = i4 * 256
      i9 = i7 // 14
      i10 = i9 % 14
      i11 = i10 * 16
      i12 = i7 % 14
      i13 = i8 + i11
      i14 = i13 + i12
      p15 = &p3[i14] f32
      p16 = &p15[17] f32
      store f32x2(0.0) to p16, align 4
      i17 = i7 + 2
      i18 = i17 // 14
      i19 = i18 % 14
      i20 = i19 * 16
      i21 = i17 % 14
      i22 = i8 + i20
      i23 = i22 + i21
      p24 = &p3[i23] f32
      p25 = &p24[17] f32
      store f32x2(0.0) to p25, align 4
"""
OF_PICTURES = Result(0, 4, 68, ((BatchExtent(), 1024), (14, 64), (14, 4)))


@pytest.mark.parametrize(
    ("body", "extent", "factor", "faults"),
    [
        (
            PICTURES,
            14,
            3,
            (("min(i7, 9)", "min(i7, 8)"), ("% 3", "% 2"), ("i17 % 14", "i17 % 13"), ("i11 + i12", "i11 + i10")),
        ),
        (BLOCKS, 1, 1, (("i7 + 2", "i7 + 3"), ("0..196", "0..192"), ("i19 * 16", "i19 * 15"))),
    ],
)
def test_pixels_of_padded_pictures_are_stored_once(
    body: str, extent: int, factor: int, faults: tuple[tuple[str, str], ...]
) -> None:
    """Tiles of five that are moved back, and blocks of four that lie in two rows."""
    head = f"nest: items {extent}*batch by 1 times {factor}; scratch 0 and 0*batch bytes; lines 1\n"
    call = Call((Memory(BatchExtent(1024)),), BatchExtent(extent), 1, factor, None, (OF_PICTURES,))
    assert not unproved(read_nest(head + body, OPS), call)
    for right, wrong in faults:
        assert right in body
        nest = read_nest(head + body.replace(right, wrong), OPS)
        assert unproved(nest, call, [Law.STORED, Law.ONCE, Law.INSIDE]), wrong
