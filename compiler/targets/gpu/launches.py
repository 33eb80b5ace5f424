"""The steps of one call: everything that the device is given for them, in order, without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any

import numpy as np

from compiler.errors.diagnostics import CompilerBug
from compiler.interface import Steps
from compiler.support.arrays import Array
from compiler.targets.cpu.runner import SETTINGS
from compiler.targets.gpu.device_memory import DeviceMemory
from compiler.targets.gpu.feed import PIECE_BYTES, Piece, Resident, Ring, pieces_of, span_of
from compiler.targets.gpu.hardware import Held
from compiler.targets.gpu.results import Outlet
from compiler.targets.gpu.room import Room, arenas_of
from compiler.targets.gpu.step_graph import Addresses
from compiler.targets.manifest import InputSlot, Manifest
from compiler.targets.memory import TensorStore, address_of
from compiler.types import DType, numpy_dtype

_HEAD = Struct("=Q7q")  # SEED to FRESH of the control block
_WORD = (1 << 64) - 1
_PARTS_OF_FREE = 4  # of the device's free memory, those of which a piece may take one
_RESULT_BYTES = 256 << 20  # of a piece whose rows lie on the device


class Launches:
    """A call of a program. What the device reads of this process is kept until the caller has waited for the stream."""

    def __init__(
        self,
        manifest: Manifest,
        memory: DeviceMemory,
        room: Room,
        steps: Steps,
        tensors: TensorStore,
        outlets: Sequence[Outlet],
    ) -> None:
        self._manifest, self._memory, self._room, self._gpu = manifest, memory, room, memory.gpu
        self._steps, self._outlets = steps, outlets
        self._kept: list[object] = []
        self.has_begun = False  # whether kernels may have changed tensors
        self.spans: list[tuple[Held, Held]] | None = None  # where steps are timed: events around those of each piece
        self._rows = np.ascontiguousarray(steps.rows, np.int64)
        self._batch = steps.batch
        full, rest = divmod(len(self._rows), steps.batch)
        self._phases = [phase for phase in ((0, full, steps.batch), (full, 1, rest)) if phase[1] and phase[2]]
        self._count = full + (rest > 0)
        self._most = min(steps.batch, len(self._rows))
        names = [spec.name for spec in manifest.tensors]
        self._check(tensors)
        values = room.grow(self._most)
        self._arenas = arenas_of(manifest, room, values, memory.bound(tensors, names))
        self._arrays = [self._given(slot, steps.data[slot.name]) for slot in manifest.inputs]
        self._put_static_inputs()
        self._settings = self._packed_settings()

    def run(self, is_fresh: bool) -> list[tuple[Array, int]]:
        """Give the device all steps; flag bytes of the checked stores and the last step of each phase, once it is done.

        `is_fresh`: what runs once must run again.
        """
        for outlet in self._outlets:
            outlet.open(self._count, len(self._rows))
        feed, targets, most = self._feed()
        pieces = pieces_of(self._phases, self._batch, most)
        flags: list[tuple[Array, int]] = []
        for piece in pieces[:1]:
            feed.prepare(piece)
        for number, piece in enumerate(pieces):
            self._launch(piece, feed, targets, is_fresh)
            is_fresh = False
            for later in pieces[number + 1 : number + 2]:
                feed.prepare(later)
            self._collect(piece, targets)
            if piece.ends_phase:
                flags.append((self._taken_flags(), self._steps.first_step + piece.first + piece.count - 1))
        return flags

    def _check(self, tensors: TensorStore) -> None:
        for spec in self._manifest.tensors:
            if tensors.form(spec.name) != (spec.shape, numpy_dtype(spec.dtype)):
                raise CompilerBug("executable", f"the tensor '{spec.name}' has another shape than the program")

    # what goes in

    def _given(self, slot: InputSlot, array: Array) -> Array:
        """An input as kernels read it: dense, but for rows that overlap."""
        dtype = numpy_dtype(slot.dtype)
        if slot.batch_axis is not None and _has_dense_rows(array, dtype, slot.row_bytes):
            return array
        return np.require(array, dtype, ("C", "A"))

    def _put_static_inputs(self) -> None:
        for slot, array in zip(self._manifest.inputs, self._arrays, strict=True):
            if slot.batch_axis is None:
                self._gpu.upload(self._room.static.value + slot.offset, array, self._gpu.stream)

    def _feed(self) -> tuple[Resident | Ring, list[int], int]:
        """Where the rows come from, where results of a piece lie on the device, and the most steps of a piece."""
        results = sum(outlet.bytes_for(1, self._most) for outlet in self._outlets)
        longest = max((count for _, count, _ in self._phases), default=1)
        if self._steps.lasting:
            most = max(1, min(longest, _RESULT_BYTES // max(1, results)))
            table = self._room.growing("row numbers", 8 * max(1, len(self._rows)))
            targets = self._targets(most)
            words = self._resident_words()  # at the end: memory that is asked for may take the place of data
            if words is not None:
                return Resident(self._memory, words, self._rows, table), targets, most
        each = sum(slot.row_bytes for slot in self._manifest.inputs if slot.batch_axis is not None) * self._most
        most = max(1, min(longest, PIECE_BYTES // max(1, each + results)))
        if self._room.ring is None or self._room.ring.most < most * self._most:
            spare = self._gpu.memory().free // _PARTS_OF_FREE
            most = max(1, min(most, spare // max(1, each + results)))
        ring = self._room.reserve_ring(most * self._most)
        ring.open(self._arrays, self._rows)
        return ring, self._targets(most), most

    def _resident_words(self) -> list[int] | None:
        """The addresses of the inputs on the device, and the bytes from row to row; None where they do not fit."""
        addresses: list[int] = []
        strides: list[int] = []
        for slot, array in zip(self._manifest.inputs, self._arrays, strict=True):
            if slot.batch_axis is None or not slot.row_bytes:
                addresses.append(0)
                strides.append(slot.row_bytes)
                continue
            start, size, stride = span_of(array, slot)
            block = self._memory.data(self._steps.data[slot.name], start, size)
            if block is None:
                return None
            addresses.append(block.value)
            strides.append(stride)
        return [*addresses, *strides]

    def _packed_settings(self) -> bytes:
        manifest, given = self._manifest, self._steps.settings
        slots = np.zeros(SETTINGS - _HEAD.size // 8 + len(manifest.settings), np.int64)
        for place, (name, dtype) in enumerate(zip(manifest.settings, manifest.setting_dtypes, strict=True)):
            if name not in given:
                raise CompilerBug("executable", f"no value for the setting '{name}'")
            slot = slots[SETTINGS - _HEAD.size // 8 + place :]
            slot.view(np.float64 if dtype is DType.F64 else np.float32)[0] = given[name]
        return slots.tobytes()

    # steps

    def _launch(self, piece: Piece, feed: Resident | Ring, targets: Sequence[int], is_fresh: bool) -> None:
        """The steps of a piece, and before them what runs once, where it must."""
        gpu, steps = self._gpu, self._steps
        numbers = feed.begin(piece)
        step = steps.first_step + piece.first
        head = _HEAD.pack(steps.seed & _WORD, step, 0, piece.size, numbers, piece.count, 0, is_fresh)
        self._upload(self._room.control.value, np.frombuffer(head + self._settings, np.uint8))
        arenas, capacity = self._arenas, self._room.capacity
        once, graph = self._room.graphs(Addresses(arenas, feed.words, tuple(targets), piece.size, capacity))
        if is_fresh or piece.size > self._room.filled:
            once.launch(gpu.stream)
        self._room.filled = max(self._room.filled, piece.size)
        self.has_begun = True
        if self.spans is not None:
            self.spans.append((gpu.event(has_time=True), gpu.event(has_time=True)))
            gpu.record(self.spans[-1][0], gpu.stream)
        for _ in range(piece.count):
            graph.launch(gpu.stream)
        if self.spans is not None:
            gpu.record(self.spans[-1][1], gpu.stream)
        feed.end(piece)

    def _upload(self, address: int, array: Array) -> None:
        self._kept.append(array)
        self._gpu.upload(address, array, self._gpu.stream)

    # what comes back

    def _targets(self, most: int) -> list[int]:
        """Where the results of a piece of up to so many steps lie on the device."""
        sizes = [outlet.room_for(most, self._most) for outlet in self._outlets]
        begin = self._room.growing("results", sum(sizes))
        return [begin + sum(sizes[:number]) for number in range(len(sizes))]

    def _collect(self, piece: Piece, targets: Sequence[int]) -> None:
        for outlet, address in zip(self._outlets, targets, strict=True):
            place, size = outlet.place(piece)
            self._gpu.download(place, address, size, self._gpu.stream)

    def _taken_flags(self) -> Array:
        """The flag bytes of a phase, which are cleared."""
        count = len(self._manifest.checked_stores)
        found = np.zeros(count, np.uint8)
        address = self._room.control.value + self._room.layout.flags
        self._gpu.download(address_of(found), address, count, self._gpu.stream)
        self._gpu.clear(address, count, self._gpu.stream)
        return found


def _has_dense_rows(array: Array, dtype: np.dtype[Any], row_bytes: int) -> bool:
    """Whether each row is dense; rows may overlap, or lie apart."""
    if array.dtype != dtype or not array.flags.aligned or not len(array) or array.strides[0] < 0:
        return False
    return array[:1].flags.c_contiguous and array[0].nbytes == row_bytes
