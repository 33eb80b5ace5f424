"""The memory and the numbers that a nest is given, and its accesses to memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from compiler.nest import ir
from compiler.nest.forms import BATCH, Form, as_form
from compiler.nest.ir import BEGIN, Statement
from compiler.support.record import record
from compiler.types import BatchExtent, Extent

Access: TypeAlias = ir.Load | ir.Store | ir.Gather | ir.Scatter


@record
class Memory:
    """So many bytes; loops around the nest move an address by at most so many to either side."""

    bytes: Extent
    before: int = 0
    behind: int = 0
    is_written: bool = True


@record
class Call:
    """The memory and numbers that a nest is given; it has `ceil(extent / chunk) * factor` items."""

    arguments: tuple[Memory | Extent, ...]
    extent: Extent
    chunk: int
    factor: int


def cuts_items(body: Sequence[Statement]) -> bool:
    """Whether a nest divides its range of items, instead of going through it."""
    return any(isinstance(s, ir.Binary) and s.op == "div" and s.left is BEGIN for s in body)


def form_of(extent: Extent) -> Form:
    return BATCH * extent.multiple if isinstance(extent, BatchExtent) else as_form(extent)
