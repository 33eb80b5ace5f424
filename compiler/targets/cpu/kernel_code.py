"""The code of a kernel: its text, the arguments that it takes, and the items that it walks."""

from __future__ import annotations

from typing import TypeAlias

from compiler.record import record
from compiler.types import Extent


@record
class BufferPointer:
    """The address of the instance's buffer number `position`."""

    position: int


@record
class ExtentNumber:
    extent: Extent


@record
class StreamNumber:
    """The stream of a random draw; it differs between instances of one kernel."""

    position: int


@record
class FlagPointer:
    """The byte that reports a NaN or Inf in watched store number `position`."""

    position: int


@record
class SharedPointer:
    """The block in which one kernel leaves packed panels for the next, for all threads."""


@record
class LiteralNumber:
    """The literal that is value number `result`: it differs between instances of one kernel."""

    result: int


@record
class TotalNumber:
    """The number of elements of a walk over rows whose last row is short."""


@record
class RowsNumber:
    """The rows of each block of a walk over columns."""


@record
class ColumnsNumber:
    """The columns of a walk whose code does not depend on their number."""


@record
class PlaceNumber:
    """An offset or a stride: number `position` of those that the code does not depend on."""

    position: int


@record
class FactorNumber:
    """What to multiply with, and then shift by `ShiftNumber`, for a division by number `position`: see `factor_of`."""

    position: int


@record
class ShiftNumber:
    """The bits to shift by in a division by number `position`."""

    position: int


Argument: TypeAlias = (
    BufferPointer
    | SharedPointer
    | FlagPointer
    | ExtentNumber
    | RowsNumber
    | ColumnsNumber
    | TotalNumber
    | PlaceNumber
    | FactorNumber
    | ShiftNumber
    | LiteralNumber
    | StreamNumber
)


@record
class Items:
    """`ceil(extent / chunk) * factor` items."""

    extent: Extent
    chunk: int = 1
    factor: int = 1


@record
class KernelCode:
    """A module with the function `@KERNEL(ptr args, i64 begin, i64 end, ptr scratch)`, and what its arguments are."""

    text: str
    arguments: tuple[Argument, ...]
    items: Items
    scratch_bytes: int
    scratch_batch_bytes: int
    before: KernelCode | None = None  # runs first, with a barrier between
    shared_bytes: int = 0
    lasts: bool = False  # `before` need not run again while the tensors stay as they are
