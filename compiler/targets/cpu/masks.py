"""Stores of the first lanes of a vector, where a row ends within it: by a mask, or piece by piece."""

from __future__ import annotations

from compiler.machine import Machine
from compiler.nest.builder import Builder
from compiler.nest.ir import Constant, Operand, Value, type_of
from compiler.types import DType


def store_masked(
    nest: Builder, machine: Machine, value: Operand, place: Value, dtype: DType, mask: Operand | None
) -> None:
    """Write the lanes of a mask (`KernelNest.mask_below`) to neighbours in memory; all lanes without a mask.

    `value` has elements of the type that `dtype` has in memory.
    """
    width = type_of(value).lanes
    lanes = width if mask is None else leading_lanes(mask)
    if lanes == width:
        nest.store(value, place, dtype.size)
    elif lanes is None or machine.masks:
        nest.store(value, place, dtype.size, mask)
    else:
        _store_pieces(nest, value, place, lanes)


def leading_lanes(mask: Operand) -> int | None:
    """How many lanes, from the first on, a mask keeps; None where only the run knows."""
    if not isinstance(mask, Constant):
        return None
    assert isinstance(mask.value, tuple)
    return sum(mask.value)


def _store_pieces(nest: Builder, value: Operand, place: Value, lanes: int) -> None:
    """The first lanes in pieces of a power of two, the largest first."""
    dtype, first = type_of(value).dtype, 0
    assert dtype is not None
    while first < lanes:
        width = 1 << (lanes - first).bit_length() - 1
        nest.store(nest.lanes_of(value, first, width), nest.pointer(place, first, dtype), dtype.size)
        first += width
