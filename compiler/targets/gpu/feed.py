"""The rows of a call on the device: data that lies there, or else rows that are copied ahead, piece by piece.

Rows that are copied ahead go to a ring of two halves: while the kernels read one, the next piece fills the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.targets.gpu.device_memory import DeviceMemory
from compiler.targets.gpu.hardware import DeviceBlock, Held, PinnedBytes
from compiler.targets.manifest import InputSlot
from compiler.targets.memory import address_of

PIECE_BYTES = 32 << 20  # of rows and results, as a rule: some milliseconds of a bus
_ALIGNMENT = 256


@record
class Piece:
    """Steps of one size: `count` of them from the step `first` of the call on, whose rows begin at the row `start`."""

    first: int
    count: int
    size: int
    start: int
    ends_phase: bool

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.count * self.size)


def pieces_of(phases: Sequence[tuple[int, int, int]], batch: int, most: int) -> list[Piece]:
    """Phases (first step, count of steps, rows of a step) in pieces of up to `most` steps."""
    found: list[Piece] = []
    for first, count, size in phases:
        for start in range(0, count, most):
            steps = min(most, count - start)
            step = first + start
            found.append(Piece(step, steps, size, step * batch, start + steps == count))
    return found


@record(eq=False)
class _Half:
    """A half of the ring: where rows wait in this process, and the events that they were copied, and were read."""

    staging: PinnedBytes
    filled: Held
    read: Held


class Resident:
    """Data that lies on the device. `words` are the addresses of the inputs, then the bytes from row to row of each."""

    def __init__(self, memory: DeviceMemory, words: Sequence[int], rows: Array, table: int) -> None:
        self._table, self.words = table, tuple(words)
        memory.gpu.upload(table, rows, memory.gpu.stream)

    def prepare(self, piece: Piece) -> None:
        """Do nothing: all rows are there."""

    def begin(self, piece: Piece) -> int:
        """Let kernels wait for the rows of a piece; the address of their numbers."""
        return self._table + 8 * piece.start

    def end(self, piece: Piece) -> None:
        """All that the stream was given until now may read the rows of a piece."""


class Ring:
    """Rows that are copied ahead. All pieces have up to `most` rows."""

    def __init__(self, memory: DeviceMemory, slots: Sequence[InputSlot], most: int, block: DeviceBlock) -> None:
        self._gpu, self._slots, self._most, self._block = memory.gpu, slots, most, block
        self._places: list[int] = []
        place = 0
        for slot in slots:
            self._places.append(place)
            place += 0 if slot.batch_axis is None else _rounded(2 * most * slot.row_bytes)
        self._numbers = place
        size = sum(_rounded(most * slot.row_bytes) for slot in slots if slot.batch_axis is not None)
        gpu = memory.gpu
        self._halves = [_Half(gpu.pinned(max(1, size)), gpu.event(), gpu.event()) for _ in range(2)]
        self._next = 0
        self._half_of: dict[int, int] = {}
        self._arrays: Sequence[Array] = ()
        self._rows = np.arange(0)
        addresses = [block.value + place for place in self._places]
        self.words = (*addresses, *(slot.row_bytes for slot in slots))
        for half in self._halves:
            gpu.record(half.read, gpu.stream)  # behind what clears the block
        self._counted = np.arange(2 * most, dtype=np.int64)  # kept until it was copied
        gpu.upload(block.value + self._numbers, self._counted, gpu.stream)

    @staticmethod
    def bytes_for(slots: Sequence[InputSlot], most: int) -> int:
        """The bytes of a ring for pieces of so many rows, with the numbers of all rows behind them."""
        data = sum(_rounded(2 * most * slot.row_bytes) for slot in slots if slot.batch_axis is not None)
        return data + 2 * 8 * most

    @property
    def most(self) -> int:
        return self._most

    def open(self, arrays: Sequence[Array], rows: Array) -> None:
        """Feed the rows of a call."""
        self._arrays, self._rows, self._half_of = arrays, rows, {}

    def prepare(self, piece: Piece) -> None:
        """Gather the rows of a piece and begin to copy them."""
        number = self._next
        self._next = 1 - number
        self._half_of[piece.first] = number
        half, gpu = self._halves[number], self._gpu
        gpu.wait_for(half.filled)
        gpu.follow(gpu.copies, half.read)
        staged = 0
        rows = self._rows[piece.rows]
        for slot, array, place in zip(self._slots, self._arrays, self._places, strict=True):
            size = len(rows) * slot.row_bytes
            if slot.batch_axis is None or not size:
                continue
            part = half.staging.array[staged : staged + size]
            target = part.view(array.dtype).reshape(len(rows), *array.shape[1:])
            np.take(array, rows, axis=0, out=target, mode="clip")  # `raise` would make a copy first
            address = self._block.value + place + number * self._most * slot.row_bytes
            gpu.copy_in(address, address_of(part), size, gpu.copies)
            staged += _rounded(size)
        gpu.record(half.filled, gpu.copies)

    def begin(self, piece: Piece) -> int:
        number = self._half_of[piece.first]
        self._gpu.follow(self._gpu.stream, self._halves[number].filled)
        return self._block.value + self._numbers + 8 * number * self._most

    def end(self, piece: Piece) -> None:
        self._gpu.record(self._halves[self._half_of[piece.first]].read, self._gpu.stream)

    def close(self) -> None:
        for half in self._halves:
            for held in (half.staging.held, half.filled, half.read):
                held.close()
        self._block.close()


def _rounded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def span_of(array: Array, slot: InputSlot) -> tuple[int, int, int]:
    """Where the rows of an array begin, how many bytes they take with all between them, and those from row to row."""
    stride = slot.row_bytes if array.flags.c_contiguous else array.strides[0]
    size = (len(array) - 1) * stride + slot.row_bytes if len(array) else 0
    return address_of(array), size, stride
