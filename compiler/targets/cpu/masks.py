"""Stores of the first lanes of a vector, where a row ends within it: by a mask, or piece by piece."""

from __future__ import annotations

from compiler.machine import Machine
from compiler.targets.cpu.text import LANES, MEMORY, SUFFIX, Text
from compiler.types import DType


def store_masked(
    text: Text, machine: Machine, value: str, place: str, dtype: DType, mask: str | None, width: int = LANES
) -> None:
    """Write the lanes of a mask (`KernelText.mask_below`) to neighbours in memory; all lanes without a mask.

    `value` has `width` elements of the type that `dtype` has in memory.
    """
    type_, size = MEMORY[dtype], dtype.size
    vector = f"<{width} x {type_}>"
    lanes = width if mask is None else leading_lanes(mask)
    if lanes == width:
        text.line(f"store {vector} {value}, ptr {place}, align {size}")
    elif lanes is None or machine.masks:
        text.line(
            f"call void @llvm.masked.store.v{width}{SUFFIX[type_]}.p0({vector} {value}, ptr align {size} {place}, "
            f"<{width} x i1> {mask})"
        )
    else:
        _store_pieces(text, value, place, dtype, lanes, width)


def leading_lanes(mask: str) -> int | None:
    """How many lanes, from the first on, a mask keeps; None where only the run knows."""
    return None if mask.startswith("%") else mask.count("true")


def _store_pieces(text: Text, value: str, place: str, dtype: DType, lanes: int, whole_width: int) -> None:
    """The first lanes in pieces of a power of two, the largest first."""
    type_, first = MEMORY[dtype], 0
    while first < lanes:
        width = 1 << (lanes - first).bit_length() - 1
        picks = ", ".join(f"i32 {first + k}" for k in range(width))
        whole = f"<{whole_width} x {type_}>"
        piece = text.let(f"shufflevector {whole} {value}, {whole} poison, <{width} x i32> <{picks}>")
        where = text.pointer(place, str(first), type_)
        text.line(f"store <{width} x {type_}> {piece}, ptr {where}, align {dtype.size}")
        first += width
