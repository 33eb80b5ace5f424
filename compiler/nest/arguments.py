"""The arguments of a nest: what each instance of a kernel gives to the one code of all, by kind and number."""

from __future__ import annotations

from typing import TypeAlias

from compiler.support.record import record
from compiler.types import Extent


@record
class _Numbered:
    position: int


@record
class BufferPointer(_Numbered):
    """The address of the instance's buffer number `position`."""


@record
class ExtentNumber:
    extent: Extent


@record
class StreamNumber(_Numbered):
    """The stream of a random draw; it differs between instances of one kernel."""


@record
class FlagPointer(_Numbered):
    """The byte that reports a NaN or Inf in watched store number `position`."""


@record
class SharedPointer:
    """The block in which one kernel leaves packed panels for the next, for all threads."""


@record
class LiteralNumber:
    """The literal that is value number `result`: it differs between instances of one kernel."""

    result: int


@record
class ElementsNumber:
    """The number of elements of a kernel over rows whose last row is short."""


@record
class ItemsNumber:
    """The extent by which the items of a kernel are counted."""


@record
class RowsNumber:
    """The rows of each block of a kernel over columns."""


@record
class ColumnsNumber:
    """The columns of a walk whose code does not depend on their number."""


@record
class PlaceNumber(_Numbered):
    """An offset or a stride: number `position` of those that the code does not depend on."""


@record
class FactorNumber(_Numbered):
    """A factor that, with a shift by `ShiftNumber` after it, divides by number `position`: see `factor_of`."""


@record
class ShiftNumber(_Numbered):
    """The bits to shift by in a division by number `position`."""


Argument: TypeAlias = (
    BufferPointer
    | SharedPointer
    | FlagPointer
    | ExtentNumber
    | RowsNumber
    | ColumnsNumber
    | ElementsNumber
    | ItemsNumber
    | PlaceNumber
    | FactorNumber
    | ShiftNumber
    | LiteralNumber
    | StreamNumber
)
