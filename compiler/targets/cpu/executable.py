"""A compiled program in this process: its code loaded, its memory laid out, ready to run steps."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from operator import is_
from typing import Any, TypeAlias

import numpy as np

from compiler.diagnostics import CompilerBug
from compiler.interface import Results, Tensors
from compiler.targets.cpu.manifest import (
    BATCH_ARENA,
    CONTROL_ARENA,
    FIRST_TENSOR,
    FLAGS,
    SCRATCH_ARENA,
    STATIC_ARENA,
    Manifest,
)
from compiler.targets.cpu.memory import NUMPY, SLACK, TensorStore, address_of, reserve
from compiler.targets.cpu.outlet import Outlet
from compiler.targets.cpu.runner import (
    ABI_VERSION,
    ENTRY_SLOTS,
    FRESH,
    LOCAL,
    PARALLEL,
    PROGRAM_SLOTS,
    SCRATCH_BYTES,
    SEED,
    SETTINGS,
    STEP,
    STOP,
)
from compiler.targets.cpu.team import Team
from compiler.types import BatchExtent, DType

Array: TypeAlias = np.ndarray[Any, Any]
PAGE = 4096  # bytes; what is readable on a page is readable to its end
MOST_TILE_ROWS = 28  # no kernel reads more rows behind the last
ROUNDING = 16  # the capacity is the batch rounded up to this, and as much again for tiles that overshoot


class NativeExecutable:
    """Runs the step table of a manifest on a team."""

    def __init__(self, manifest: Manifest, address: Callable[[str], int], team: Team) -> None:
        self.manifest = manifest
        self._team = team
        self._parallel = team.threads > 1 and any(e.flags & PARALLEL for e in manifest.entries)
        self._arguments_offset = 8 * (SETTINGS + len(manifest.settings) + 8)
        flags_offset = self._arguments_offset + 8 * len(manifest.relocations)
        self._control = reserve(flags_offset + len(manifest.watched) + 64)
        control = address_of(self._control)
        self._words = (ctypes.c_int64 * SETTINGS).from_address(control)
        numbers = ctypes.c_float if manifest.setting_dtype is DType.F32 else ctypes.c_double
        self._settings = [numbers.from_address(control + 8 * (SETTINGS + k)) for k in range(len(manifest.settings))]
        self._flags = memoryview(self._control[flags_offset : flags_offset + len(manifest.watched)])  # type: ignore[arg-type]
        self._static = reserve(manifest.static_bytes)
        self._scratch = reserve(0)
        self._shared = reserve(manifest.shared_bytes)
        self._batch = reserve(0)
        self._capacity = 0
        self._entries = self._entry_table(address)
        self._relocations = self._relocation_table(flags_offset)
        self._program = np.zeros(PROGRAM_SLOTS, np.int64)
        self._program[:] = (
            ABI_VERSION,
            self._entries.ctypes.data,
            len(manifest.entries),
            self._relocations.ctypes.data,
            len(manifest.relocations),
            self._arguments_offset,
            manifest.scratch_bytes,
            manifest.flush,
            manifest.once,
        )
        slots = FIRST_TENSOR + len(manifest.tensors)
        self._input_slots = range(slots, slots + len(manifest.inputs))
        self._arenas = (ctypes.c_int64 * (slots + len(manifest.inputs) + len(manifest.results)))()
        self._arenas[:FIRST_TENSOR] = [
            address_of(a) for a in (self._control, self._static, self._batch, self._scratch, self._shared)
        ]
        self._inputs = (ctypes.c_int64 * (len(manifest.inputs) + 1))()
        self._outputs = (ctypes.c_int64 * (len(manifest.results) + 1))()
        self._blocks = (
            address_of(self._program),
            ctypes.addressof(self._arenas),
            ctypes.addressof(self._inputs),
            ctypes.addressof(self._outputs),
        )
        first = slots + len(manifest.inputs)
        self._outlets = [Outlet(slot, number) for number, slot in enumerate(manifest.results, first)]
        self._names = [slot.name for slot in manifest.inputs]
        self._rows: Array = np.arange(0)
        self._consecutive = self._is_first = False
        self._none = TensorStore(())
        self._fed: list[Array] = []
        self._kept: list[Array] = []
        self._bound: tuple[TensorStore | None, int] = (None, 0)

    def _entry_table(self, address: Callable[[str], int]) -> Array:
        addresses = [address(symbol) for symbol in self.manifest.functions]
        table = np.zeros((len(self.manifest.entries) + 1, ENTRY_SLOTS), np.int64)
        for row, entry in zip(table, self.manifest.entries, strict=False):
            extent = entry.extent
            base, slope = (0, extent.multiple) if isinstance(extent, BatchExtent) else (extent, 0)
            row[:7] = (
                addresses[entry.function],
                entry.first_argument,
                base,
                slope,
                entry.chunk,
                entry.factor,
                entry.flags,
            )
        return table

    def _relocation_table(self, flags_offset: int) -> Array:
        rows = [
            (CONTROL_ARENA, flags_offset + base, 0) if kind == FLAGS else (kind, base, slope)
            for kind, base, slope in self.manifest.relocations
        ]
        return np.array(rows or [(0, 0, 0)], np.int64)

    def run(
        self,
        tensors: Tensors,
        data: Mapping[str, Array],
        rows: Array,
        batch: int,
        first_step: int = 0,
        seed: int = 0,
        settings: Mapping[str, float] | None = None,
    ) -> Results:
        """Run one step for each `batch` entries of `rows`; see the protocol in `compiler.interface`."""
        words, flags = self._words, self._flags
        words[FRESH] = self._bind(tensors)
        words[SEED] = seed  # wraps to 64 bits
        words[STEP] = first_step
        if self._settings:
            self._set(settings or {})
        if rows is not self._rows:
            self._rows = np.ascontiguousarray(rows, np.int64)
            self._consecutive = bool((np.diff(self._rows) == 1).all())
            self._is_first = self._consecutive and len(rows) > 0 and int(rows[0]) == 0
        full, rest = divmod(len(self._rows), batch)
        steps = full + (rest > 0)
        self._make_room(min(batch, len(self._rows)))
        self._feed(data, steps)
        for outlet in self._outlets:
            outlet.open(steps, len(self._rows), self._capacity)
        broken: list[tuple[str, int]] = []
        begin = address_of(self._rows)
        for first, count, size in ((0, full, batch), (full, 1, rest)):
            if not count or not size:
                continue
            for number, outlet in enumerate(self._outlets):
                self._outputs[number] = outlet.address + first * outlet.bytes_for(batch)
                self._arenas[outlet.slot] = outlet.address if steps == 1 else self._own(outlet.place)
            words[LOCAL : STOP + 1] = (0, size, begin + 8 * first * batch, count, 0)
            self._team.run(self._blocks, size, self._capacity, self._team.threads if self._parallel else 1)
            words[FRESH] = 0
            if any(flags):
                raised = [k for k, flag in enumerate(flags) if flag]
                broken += [(self.manifest.watched[k], first_step + first + count - 1) for k in raised]
                flags[:] = bytes(len(flags))
        if self.manifest.writes_tensors and self._bound[0] is not None:
            self._bound[0].version += 1
        return self._results(tuple(dict.fromkeys(broken)))

    def _results(self, broken: tuple[tuple[str, int], ...]) -> Results:
        scalars: dict[str, Array] = {}
        arrays: dict[str, Array] = {}
        for outlet in self._outlets:
            if outlet.is_scalar:
                scalars[outlet.name] = outlet.steps().astype(np.float64)
            else:
                arrays[outlet.name] = outlet.logical()
        return Results(scalars, arrays, broken)

    def call(
        self, inputs: Mapping[str, Array], batch: int = 1, tensors: Tensors | None = None, seed: int = 0
    ) -> dict[str, Array]:
        """One step on whole arrays: batch inputs have `batch` rows each, static inputs their own shape."""
        axes = {slot.name: slot.batch_axis for slot in self.manifest.inputs}
        given = {k: np.ascontiguousarray(np.moveaxis(v, axes[k] or 0, 0) if axes[k] else v) for k, v in inputs.items()}
        results = self.run(tensors or self._none, given, self._first(batch), batch, seed=seed)
        found: dict[str, Array] = {}
        for slot in self.manifest.results:
            found[slot.name] = (
                results.scalars[slot.name][0].astype(NUMPY[slot.dtype])
                if slot.name in results.scalars
                else results.arrays[slot.name]
            )
        return found

    def _first(self, batch: int) -> Array:
        """The numbers of the first rows, the same array for the same call again."""
        return self._rows if len(self._rows) == batch and self._is_first else np.arange(batch)

    def _bind(self, tensors: Tensors) -> bool:
        """Note where the tensors lie; whether their content may differ from that of the call before."""
        assert isinstance(tensors, TensorStore)
        bound, self._bound = self._bound, (tensors, tensors.version)
        if tensors is bound[0]:
            return tensors.version != bound[1]
        for number, spec in enumerate(self.manifest.tensors):
            if tensors[spec.name].shape != spec.shape or tensors[spec.name].dtype != NUMPY[spec.dtype]:
                raise CompilerBug("executable", f"the tensor '{spec.name}' has another shape than the program")
            self._arenas[FIRST_TENSOR + number] = tensors.address(spec.name)
        return True

    def _set(self, settings: Mapping[str, float]) -> None:
        for name, cell in zip(self.manifest.settings, self._settings, strict=True):
            if name not in settings:
                raise CompilerBug("executable", f"no value for the setting '{name}'")
            cell.value = settings[name]

    def _make_room(self, batch: int) -> None:
        capacity = (batch + ROUNDING - 1) // ROUNDING * ROUNDING + ROUNDING
        if capacity <= self._capacity:
            return
        self._batch = reserve(self.manifest.batch_bytes * capacity + SLACK)
        each = self.manifest.scratch_bytes + -(-self.manifest.scratch_batch_bytes * capacity // 64) * 64
        self._scratch = reserve(each * self._team.threads)
        self._program[SCRATCH_BYTES] = each
        self._arenas[BATCH_ARENA] = address_of(self._batch)
        self._arenas[SCRATCH_ARENA] = address_of(self._scratch)
        self._capacity = capacity

    def _own(self, place: tuple[bool, int]) -> int:
        """An address in the arenas, for an input or a result that is copied."""
        in_batch, offset = place
        if in_batch:
            return self._arenas[BATCH_ARENA] + offset * self._capacity
        return self._arenas[STATIC_ARENA] + offset

    def _feed(self, data: Mapping[str, Array], steps: int) -> None:
        """Note where each input lies. A single step reads it there, where nothing behind it is read by mistake."""
        given = [data[name] for name in self._names]
        if len(given) != len(self._fed) or not all(map(is_, given, self._fed)):
            self._fed = given
            self._kept = [
                np.require(array, NUMPY[slot.dtype], ("C", "A"))
                for slot, array in zip(self.manifest.inputs, given, strict=True)
            ]
        for number, (slot, array) in enumerate(zip(self.manifest.inputs, self._kept, strict=True)):
            start = self._inputs[number] = address_of(array)
            size = array.nbytes
            can_stay = True
            if slot.batch_axis is not None:
                enough = len(self._rows) >= min(self.manifest.batch, MOST_TILE_ROWS)
                can_stay = steps == 1 and self._consecutive and enough
                if can_stay:
                    size = slot.row_bytes * (int(self._rows[-1]) + 1)
            if can_stay and is_readable(start + size, start + array.nbytes):
                first = int(self._rows[0]) * slot.row_bytes if slot.batch_axis is not None else 0
                self._arenas[self._input_slots[number]] = start + first
                continue
            self._arenas[self._input_slots[number]] = self._own((slot.batch_axis is not None, slot.offset))
            if slot.batch_axis is None:
                raw = array.reshape(-1).view(np.uint8)
                self._static[slot.offset : slot.offset + raw.size] = raw


def is_readable(end: int, limit: int) -> bool:
    """Whether SLACK bytes behind `end` belong to the array that ends at `limit`, or to its last page."""
    return end + SLACK <= limit or (end + SLACK - 1) // PAGE == (limit - 1) // PAGE
