"""Nests in tiles and in masked rows with their calls, and the laws of memory that have no proof for a nest."""

from __future__ import annotations

from nest_reader import read_nest

from compiler.nest.call import Call, Memory
from compiler.nest.verify_memory import BOUNDS, Law, unproved
from compiler.ops import OPS
from compiler.types import BatchExtent

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
