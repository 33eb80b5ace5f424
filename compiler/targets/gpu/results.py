"""The results of a call: where each lies on the device, and the arrays of this process that it comes back to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from compiler.interface import Results
from compiler.support.arrays import Array
from compiler.targets.gpu.feed import Piece
from compiler.targets.manifest import ResultSlot
from compiler.targets.memory import address_of
from compiler.types import BatchExtent, numpy_dtype

_ALIGNMENT = 256


class Outlet:
    """A result with `rows` for each row of the batch, or with one for each step."""

    def __init__(self, slot: ResultSlot) -> None:
        axis = next((k for k, extent in enumerate(slot.shape) if isinstance(extent, BatchExtent)), None)
        extent = None if axis is None else slot.shape[axis]
        self.name = slot.name
        self.is_scalar = not slot.shape
        self.is_static = axis is None
        self._rows = extent.multiple if isinstance(extent, BatchExtent) else None
        self._axis = axis or 0
        self._shape = tuple(extent for extent in slot.shape if isinstance(extent, int))
        self._dtype = numpy_dtype(slot.dtype)
        self._row_bytes = math.prod(self._shape) * slot.dtype.size
        self.array: Array = np.empty(0)

    def bytes_for(self, steps: int, batch: int) -> int:
        """Bytes of so many steps of a size."""
        return steps * self._row_bytes * (1 if self._rows is None else self._rows * batch)

    def room_for(self, steps: int, batch: int) -> int:
        """Bytes of the device for a piece."""
        return -(-self.bytes_for(steps, batch) // _ALIGNMENT) * _ALIGNMENT

    def open(self, steps: int, rows: int) -> None:
        """An array for a call."""
        count = steps if self._rows is None else self._rows * rows
        self.array = np.empty((count, *self._shape), self._dtype)

    def place(self, piece: Piece) -> tuple[int, int]:
        """Where the results of a piece go in this process, and how many bytes they are."""
        before = self._row_bytes * (piece.first if self._rows is None else self._rows * piece.start)
        return address_of(self.array) + before, self.bytes_for(piece.count, piece.size)

    def logical(self) -> Array:
        """The result as its type says: its batch axis where it has it; of a static one, the last step's."""
        if self._rows is None:
            return self.array[-1]
        return np.ascontiguousarray(np.moveaxis(self.array, 0, self._axis)) if self._axis else self.array


def results_of(outlets: Sequence[Outlet], broken: tuple[tuple[str, int], ...]) -> Results:
    """The results of a call, whose arrays the caller now holds."""
    scalars = {one.name: one.array.astype(np.float64) for one in outlets if one.is_scalar}
    others = [one for one in outlets if not one.is_scalar]
    stacks = {one.name: one.array for one in others if one.is_static}
    return Results(scalars, {one.name: one.logical() for one in others}, broken, stacks)
