"""A compiled program in this process: its code loaded, its memory laid out, ready to run steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from compiler.diagnostics import CompilerBug
from compiler.interface import Results, Tensors
from compiler.targets.cpu.manifest import BATCH_ARENA, CONTROL_ARENA, FIRST_TENSOR, FLAGS, SCRATCH_ARENA, Manifest
from compiler.targets.cpu.memory import NUMPY, SLACK, TensorStore, reserve
from compiler.targets.cpu.runner import (
    ABI_VERSION,
    BATCH,
    ENTRY_SLOTS,
    LOCAL,
    PARALLEL,
    PROGRAM_SLOTS,
    REMAINING,
    ROWS,
    SCRATCH_BYTES,
    SEED,
    SETTINGS,
    STEP,
    STOP,
)
from compiler.targets.cpu.team import Team
from compiler.types import BatchExtent, DType, at_batch, depends_on_batch

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
        self._words = self._control[: 8 * SETTINGS].view(np.int64)
        settings = self._control[8 * SETTINGS : 8 * (SETTINGS + len(manifest.settings))]
        self._settings = settings.view(NUMPY[manifest.setting_dtype])[:: 8 // manifest.setting_dtype.size]
        self._flags = self._control[flags_offset : flags_offset + len(manifest.watched)]
        self._static = reserve(manifest.static_bytes)
        self._scratch = reserve(0)
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
        self._arenas = np.zeros(FIRST_TENSOR + len(manifest.tensors), np.int64)
        self._arenas[:FIRST_TENSOR] = [a.ctypes.data for a in (self._control, self._static, self._batch, self._scratch)]
        self._inputs = np.zeros(len(manifest.inputs) + 1, np.int64)
        self._outputs = np.zeros(len(manifest.results) + 1, np.int64)
        self._program_address = self._program.ctypes.data
        self._arenas_address = self._arenas.ctypes.data
        self._inputs_address, self._outputs_address = self._inputs.ctypes.data, self._outputs.ctypes.data
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
        self._set(seed, settings or {})
        rows = np.ascontiguousarray(rows, np.int64)
        full, rest = divmod(len(rows), batch)
        sizes = [(0, full, batch)] * (full > 0) + [(full, 1, rest)] * (rest > 0)
        kept = [self._feed(slot.name, data) for slot in self.manifest.inputs]
        outputs = [self._output(slot.shape, slot.dtype, full + (rest > 0), len(rows)) for slot in self.manifest.results]
        self._inputs[: len(kept)] = [a.ctypes.data for a in kept]
        self._flags[:] = 0
        self._words[STEP] = first_step
        broken: list[tuple[str, int]] = []
        for first, steps, size in sizes:
            for number, (slot, out) in enumerate(zip(self.manifest.results, outputs, strict=True)):
                offset = first * (batch * (out.strides[0] if out.ndim else 0) if depends_on_batch(slot.shape) else out.strides[0])
                multiple = _multiple(slot.shape) if depends_on_batch(slot.shape) else 1
                self._outputs[number] = out.ctypes.data + offset * multiple
            self._steps(rows.ctypes.data + 8 * first * batch, steps, size)
            if self._flags.any():
                broken += [(self.manifest.watched[k], first_step + first + steps - 1) for k in np.flatnonzero(self._flags)]
                self._flags[:] = 0
        return self._results(outputs, tuple(dict.fromkeys(broken)))

    def call(self, inputs: Mapping[str, Array], batch: int = 1, tensors: Tensors | None = None, seed: int = 0) -> dict[str, Array]:
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

    def _set(self, seed: int, settings: Mapping[str, float]) -> None:
        self._words[SEED] = np.int64(np.uint64(seed % 2**64).astype(np.int64))
        for number, name in enumerate(self.manifest.settings):
            if name not in settings:
                raise CompilerBug("executable", f"no value for the setting '{name}'")
            self._settings[number] = settings[name]

    def _feed(self, name: str, data: Mapping[str, Array]) -> Array:
        slot = next(s for s in self.manifest.inputs if s.name == name)
        array = data[name]
        if array.dtype != NUMPY[slot.dtype] or not array.flags.c_contiguous:
            array = np.ascontiguousarray(array, NUMPY[slot.dtype])
        if slot.batch_axis is None:
            raw = array.reshape(-1).view(np.uint8)
            self._static[slot.offset : slot.offset + raw.size] = raw
        return array

    def _output(self, shape: tuple[int | BatchExtent, ...], dtype: DType, steps: int, rows: int) -> Array:
        if depends_on_batch(shape):
            order = [e for e in shape if not isinstance(e, BatchExtent)]
            return np.empty((_multiple(shape) * rows, *order), NUMPY[dtype])
        return np.empty((steps, *shape), NUMPY[dtype])

    def _steps(self, rows: int, steps: int, batch: int) -> None:
        capacity = (batch + ROUNDING - 1) // ROUNDING * ROUNDING + ROUNDING
        if capacity > self._capacity:
            self._batch = reserve(self.manifest.batch_bytes * capacity + SLACK)
            each = self.manifest.scratch_bytes + -(-self.manifest.scratch_batch_bytes * capacity // 64) * 64
            self._scratch = reserve(each * self._team.threads)
            self._program[SCRATCH_BYTES] = each
            self._arenas[BATCH_ARENA] = self._batch.ctypes.data
            self._arenas[SCRATCH_ARENA] = self._scratch.ctypes.data
            self._capacity = capacity
        words = self._words
        words[LOCAL], words[BATCH], words[ROWS], words[REMAINING], words[STOP] = 0, batch, rows, steps, 0
        self._team.run(
            self._program_address,
            self._arenas_address,
            self._inputs_address,
            self._outputs_address,
            batch,
            self._capacity,
            self._team.threads if self._parallel else 1,
        )

    def _results(self, outputs: list[Array], broken: tuple[tuple[str, int], ...]) -> Results:
        scalars: dict[str, Array] = {}
        arrays: dict[str, Array] = {}
        for slot, out in zip(self.manifest.results, outputs, strict=True):
            if not slot.shape:
                scalars[slot.name] = out.astype(np.float64)
            elif depends_on_batch(slot.shape):
                arrays[slot.name] = _logical(out, slot.shape)
            else:
                arrays[slot.name] = out[-1]
        return Results(scalars, arrays, broken)


def _multiple(shape: tuple[int | BatchExtent, ...]) -> int:
    return next(e.multiple for e in shape if isinstance(e, BatchExtent))


def _logical(out: Array, shape: tuple[int | BatchExtent, ...]) -> Array:
    """Rows are stored batch first; put the batch axis where the type has it."""
    place = next(k for k, e in enumerate(shape) if isinstance(e, BatchExtent))
    return out if place == 0 else np.ascontiguousarray(np.moveaxis(out, 0, place))


_ = (math, at_batch)
