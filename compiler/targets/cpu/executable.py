"""A compiled program in this process: its code loaded, its memory laid out, ready to run steps."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping
from operator import is_
from typing import Any, TypeAlias

import numpy as np

from compiler.diagnostics import CompilerBug
from compiler.interface import Results, Tensors
from compiler.record import record
from compiler.targets.cpu.manifest import (
    BATCH_ARENA,
    CONTROL_ARENA,
    FIRST_TENSOR,
    FLAGS,
    SCRATCH_ARENA,
    Manifest,
    ResultSlot,
)
from compiler.targets.cpu.memory import NUMPY, SLACK, TensorStore, reserve
from compiler.targets.cpu.runner import (
    ABI_VERSION,
    ENTRY_SLOTS,
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
        )
        self._arenas = (ctypes.c_int64 * (FIRST_TENSOR + len(manifest.tensors)))()
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
        self._results = [_ResultPlan.of(slot) for slot in manifest.results]
        self._names = [slot.name for slot in manifest.inputs]
        self._only_rows = all(slot.batch_axis is not None for slot in manifest.inputs)
        self._fed: list[Array] = []
        self._row_numbers: Array | None = None
        self._last_batch = 0
        self._bound: Tensors | None = None

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
        self._bind(tensors)
        self._words[SEED] = seed  # wraps to 64 bits
        if self._settings:
            self._set(settings or {})
        self._feed(data)
        if rows is not self._row_numbers or batch != self._last_batch:
            self._lay_out(rows, batch)
        words, flags = self._words, self._flags
        words[STEP] = first_step
        broken: list[tuple[str, int]] = []
        for first, count, size, place, outputs in self._phases:
            self._outputs[:] = outputs
            self._run(place, count, size)
            if any(flags):
                raised = [k for k, flag in enumerate(flags) if flag]
                broken += [(self.manifest.watched[k], first_step + first + count - 1) for k in raised]
                flags[:] = bytes(len(flags))
        return self._gathered(tuple(dict.fromkeys(broken)) if broken else ())

    def _lay_out(self, rows: Array, batch: int) -> None:
        """Room for the results of a call, and its phases: the full batches, then a short one."""
        self._last_batch = batch
        self._row_numbers = np.ascontiguousarray(rows, np.int64)
        full, rest = divmod(len(rows), batch)
        self._outs = [plan.allocated(full + (rest > 0), len(rows)) for plan in self._results]
        places = [address_of(out) for out in self._outs]
        begin = address_of(self._row_numbers)
        self._phases = [
            (
                first,
                count,
                size,
                begin + 8 * first * batch,
                (*(p + first * plan.bytes_for(batch) for p, plan in zip(places, self._results, strict=True)), 0),
            )
            for first, count, size in ((0, full, batch), (full, 1, rest))
            if count and size
        ]

    def call(
        self, inputs: Mapping[str, Array], batch: int = 1, tensors: Tensors | None = None, seed: int = 0
    ) -> dict[str, Array]:
        """One step on whole arrays: batch inputs have `batch` rows each, static inputs their own shape."""
        axes = {slot.name: slot.batch_axis for slot in self.manifest.inputs}
        given = {k: np.ascontiguousarray(np.moveaxis(v, axes[k] or 0, 0) if axes[k] else v) for k, v in inputs.items()}
        results = self.run(tensors or TensorStore(()), given, np.arange(batch), batch, seed=seed)
        found: dict[str, Array] = {}
        for slot in self.manifest.results:
            found[slot.name] = (
                results.scalars[slot.name][0].astype(NUMPY[slot.dtype])
                if slot.name in results.scalars
                else results.arrays[slot.name]
            )
        return found

    def _bind(self, tensors: Tensors) -> None:
        if tensors is self._bound:
            return
        assert isinstance(tensors, TensorStore)
        for number, spec in enumerate(self.manifest.tensors):
            if tensors[spec.name].shape != spec.shape or tensors[spec.name].dtype != NUMPY[spec.dtype]:
                raise CompilerBug("executable", f"the tensor '{spec.name}' has another shape than the program")
            self._arenas[FIRST_TENSOR + number] = tensors.address(spec.name)
        self._bound = tensors

    def _set(self, settings: Mapping[str, float]) -> None:
        for name, cell in zip(self.manifest.settings, self._settings, strict=True):
            if name not in settings:
                raise CompilerBug("executable", f"no value for the setting '{name}'")
            cell.value = settings[name]

    def _feed(self, data: Mapping[str, Array]) -> None:
        """Note where each input lies; static ones are copied in, as kernels may read a little past their end."""
        given = [data[name] for name in self._names]
        if self._only_rows and len(given) == len(self._fed) and all(map(is_, given, self._fed)):
            return
        kept: list[Array] = []
        for number, (slot, array) in enumerate(zip(self.manifest.inputs, given, strict=True)):
            if array.dtype != NUMPY[slot.dtype] or not array.flags.c_contiguous:
                array = np.ascontiguousarray(array, NUMPY[slot.dtype])
            if slot.batch_axis is None:
                raw = array.reshape(-1).view(np.uint8)
                self._static[slot.offset : slot.offset + raw.size] = raw
            kept.append(array)
            self._inputs[number] = address_of(array)
        self._fed = kept

    def _run(self, rows: int, steps: int, batch: int) -> None:
        capacity = (batch + ROUNDING - 1) // ROUNDING * ROUNDING + ROUNDING
        if capacity > self._capacity:
            self._batch = reserve(self.manifest.batch_bytes * capacity + SLACK)
            each = self.manifest.scratch_bytes + -(-self.manifest.scratch_batch_bytes * capacity // 64) * 64
            self._scratch = reserve(each * self._team.threads)
            self._program[SCRATCH_BYTES] = each
            self._arenas[BATCH_ARENA] = address_of(self._batch)
            self._arenas[SCRATCH_ARENA] = address_of(self._scratch)
            self._capacity = capacity
        self._words[LOCAL : STOP + 1] = (0, batch, rows, steps, 0)
        self._team.run(self._blocks, batch, self._capacity, self._team.threads if self._parallel else 1)

    def _gathered(self, broken: tuple[tuple[str, int], ...]) -> Results:
        scalars: dict[str, Array] = {}
        arrays: dict[str, Array] = {}
        for plan, out in zip(self._results, self._outs, strict=True):
            if plan.is_scalar:
                scalars[plan.name] = out.astype(np.float64)
            else:
                arrays[plan.name] = plan.logical(out)
        return Results(scalars, arrays, broken)


@record
class _ResultPlan:
    """How a result lies in the caller's memory: `rows` for each row of the batch, or one for each step."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows: int | None
    batch_axis: int
    is_scalar: bool
    row_bytes: int

    @staticmethod
    def of(slot: ResultSlot) -> _ResultPlan:
        axis = next((k for k, e in enumerate(slot.shape) if isinstance(e, BatchExtent)), None)
        shape = tuple(e for e in slot.shape if isinstance(e, int))
        extent = None if axis is None else slot.shape[axis]
        rows = extent.multiple if isinstance(extent, BatchExtent) else None
        size = math.prod(shape) * slot.dtype.size
        return _ResultPlan(slot.name, NUMPY[slot.dtype], shape, rows, axis or 0, not slot.shape, size)

    def allocated(self, steps: int, rows: int) -> Array:
        return np.empty((steps if self.rows is None else self.rows * rows, *self.shape), self.dtype)

    def bytes_for(self, batch: int) -> int:
        """Bytes of one step."""
        return self.row_bytes * (1 if self.rows is None else self.rows * batch)

    def logical(self, out: Array) -> Array:
        """A copy, with the batch axis where the type has it, not first; of a static result, the last step's."""
        if self.rows is None:
            return out[-1].copy()
        return np.ascontiguousarray(np.moveaxis(out, 0, self.batch_axis)) if self.batch_axis else out.copy()


def address_of(array: Array) -> int:
    """Where an array lies; faster than `array.ctypes.data`."""
    return array.__array_interface__["data"][0]
