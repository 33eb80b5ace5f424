"""Where a result goes: memory that is the caller's as soon as a call returns, and used again once nobody holds it."""

from __future__ import annotations

import math
import sys
from typing import Any, TypeAlias

import numpy as np

from compiler.targets.cpu.manifest import ResultSlot
from compiler.targets.cpu.memory import NUMPY, SLACK, address_of
from compiler.types import BatchExtent

Array: TypeAlias = np.ndarray[Any, Any]


class Outlet:
    """A result in the caller's memory: `rows` for each row of the batch, or one for each step."""

    def __init__(self, slot: ResultSlot, number: int) -> None:
        axis = next((k for k, e in enumerate(slot.shape) if isinstance(e, BatchExtent)), None)
        extent = None if axis is None else slot.shape[axis]
        self.name = slot.name
        self.slot = number
        self.place = (axis is not None, slot.offset or 0)
        self.is_scalar = not slot.shape
        self.address = 0
        self._shape = tuple(e for e in slot.shape if isinstance(e, int))
        self._dtype = NUMPY[slot.dtype]
        self._rows = extent.multiple if isinstance(extent, BatchExtent) else None
        self._batch_axis = axis or 0
        self._row_bytes = math.prod(self._shape) * slot.dtype.size
        self._call = (-1, -1, -1)
        self._block = self._view = np.empty(0, np.uint8)
        self._holders = (0, 0)

    def open(self, steps: int, rows: int, capacity: int) -> bool:
        """Memory for a call; whether it is other memory than before.

        A single step may write it in place, and read, but never use, all of its capacity.
        """
        call = (steps, rows, capacity)
        if call == self._call and self._is_free():
            return False
        count = steps if self._rows is None else self._rows * rows
        room = self.bytes_for(capacity) if steps == 1 else count * self._row_bytes
        self._block = np.empty(room + SLACK + 64, np.uint8)
        start = -address_of(self._block) % 64
        raw = self._block[start : start + count * self._row_bytes]
        self._view = raw.view(self._dtype).reshape(count, *self._shape)
        del raw
        self.address = address_of(self._view)
        self._call = call
        self._holders = (sys.getrefcount(self._view), sys.getrefcount(self._block))
        return True

    def _is_free(self) -> bool:
        """Whether nobody else holds the array of the call before, or a part of it."""
        return (sys.getrefcount(self._view), sys.getrefcount(self._block)) == self._holders

    def bytes_for(self, batch: int) -> int:
        """Bytes of one step."""
        return self._row_bytes * (1 if self._rows is None else self._rows * batch)

    def steps(self) -> Array:
        """The values of all steps."""
        return self._view

    def logical(self) -> Array:
        """The result as its type says: its batch axis where it has it; of a static one, the last step's."""
        if self._rows is None:
            return self._view[-1]
        return np.ascontiguousarray(np.moveaxis(self._view, 0, self._batch_axis)) if self._batch_axis else self._view
