"""The memory and the numbers that a nest is given, and its accesses to memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from compiler.nest import ir
from compiler.nest.ir import BEGIN, END, Statement
from compiler.support.record import record
from compiler.types import Extent

Access: TypeAlias = ir.Load | ir.Store | ir.Gather | ir.Scatter


@record
class Memory:
    """So many bytes, from a multiple of `align` on; loops around the nest move an address by at most so many to either
    side.

    Arguments with the same number are the same memory, but for those without one (-1). That of an input may be `lent`
    by the caller: in a step of so many rows or more, so many bytes behind it may be read.
    """

    bytes: Extent
    before: int = 0
    behind: int = 0
    is_written: bool = True
    number: int = -1
    align: int = 64
    lent: tuple[int, int] | None = None


@record
class Result:
    """The elements of argument number `slot` that a call stores, `size` bytes each.

    They lie `offset + sum(index * stride)` bytes behind it, for the indices of `axes`, each an extent and a stride;
    there are no axes where elements are not known in this form.
    """

    slot: int
    size: int
    offset: int = 0
    axes: tuple[tuple[Extent, int], ...] | None = None


@record
class Call:
    """The memory and numbers that a nest is given; it has `ceil(extent / chunk) * factor` items.

    `before` is the call of the nest that runs before it, where there is one. All of the `results` are stored.
    Of the arguments `indexed`, elements are read or written at an index that the program made, which nothing clamps.
    """

    arguments: tuple[Memory | Extent, ...]
    extent: Extent
    chunk: int
    factor: int
    before: Call | None = None
    results: tuple[Result, ...] = ()
    indexed: frozenset[int] = frozenset()


def cuts_items(body: Sequence[Statement]) -> bool:
    """Whether a nest divides its range of items, instead of going through it."""
    return any(isinstance(s, ir.Binary) and s.op == "div" and (s.left is BEGIN or s.left is END) for s in body)
