"""Where a result goes: memory that is the caller's as soon as a call returns, and used again once nobody holds it."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from compiler.support.arrays import Array
from compiler.targets.manifest import ResultSlot
from compiler.targets.memory import SLACK, address_of
from compiler.types import BatchExtent, numpy_dtype

KEPT = 2  # blocks: a caller often holds one result until it has the next


class Outlet:
    """A result in the caller's memory: `rows` for each row of the batch, or one for each step."""

    def __init__(self, slot: ResultSlot, number: int) -> None:
        axis = next((k for k, e in enumerate(slot.shape) if isinstance(e, BatchExtent)), None)
        extent = None if axis is None else slot.shape[axis]
        self.name = slot.name
        self.slot = number
        self.place = (axis is not None, slot.offset or 0)
        self.is_scalar = not slot.shape
        self.is_static = axis is None
        self.address = 0
        self._shape = tuple(e for e in slot.shape if isinstance(e, int))
        self._dtype = numpy_dtype(slot.dtype)
        self._rows = extent.multiple if isinstance(extent, BatchExtent) else None
        self._batch_axis = axis or 0
        self._row_bytes = math.prod(self._shape) * slot.dtype.size
        self._call: tuple[int, int, int] = (-1, -1, -1)
        self._blocks: list[_Block] = []

    def open(self, steps: int, rows: int, reach: int) -> bool:
        """Memory for a call; whether it is other memory than before.

        A single step may write it in place, and read, but never use, as many rows as it may `reach`.
        """
        call = (steps, rows, reach)
        if call != self._call:
            self._call, self._blocks = call, []
        number: int | None = 0
        if not (self._blocks and self._blocks[0].is_free()):
            number = next((k for k, block in enumerate(self._blocks) if k and block.is_free()), None)
        if number is None:
            count = steps if self._rows is None else self._rows * rows
            room = self.bytes_for(reach) if steps == 1 else count * self._row_bytes
            self._blocks = [_Block(room, (count, *self._shape), self._dtype), *self._blocks[: KEPT - 1]]
        elif number:
            self._blocks.insert(0, self._blocks.pop(number))
        before, self.address = self.address, self._blocks[0].address
        return before != self.address

    def bytes_for(self, batch: int) -> int:
        """Bytes of one step."""
        return self._row_bytes * (1 if self._rows is None else self._rows * batch)

    def steps(self) -> Array:
        """The values of all steps."""
        return self._blocks[0].view

    def logical(self) -> Array:
        """The result as its type says: its batch axis where it has it; of a static one, the last step's."""
        view = self._blocks[0].view
        if self._rows is None:
            return view[-1]
        return np.ascontiguousarray(np.moveaxis(view, 0, self._batch_axis)) if self._batch_axis else view


class _Block:
    """Memory with an array at its start, and who held both when it was made."""

    def __init__(self, room: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._bytes = np.empty(room + SLACK + 64, np.uint8)
        start = -address_of(self._bytes) % 64
        self.view: Array = np.ndarray(shape, dtype, self._bytes.data, start)
        self.address = address_of(self.view)
        self._holders = (sys.getrefcount(self.view), sys.getrefcount(self._bytes))

    def is_free(self) -> bool:
        """Whether nobody else holds the array, or a part of it."""
        return (sys.getrefcount(self.view), sys.getrefcount(self._bytes)) == self._holders
