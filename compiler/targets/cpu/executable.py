"""A compiled program in this process: its code loaded, its memory laid out, ready to run steps."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from operator import is_
from struct import Struct
from typing import Any

import numpy as np

from compiler.errors.diagnostics import CompilerBug
from compiler.interface import Results, Steps, Tensors
from compiler.support.arrays import Array
from compiler.targets.available_memory import expect_memory
from compiler.targets.cpu import runner
from compiler.targets.cpu.plan_tables import control_layout, entry_rows, most_moving_arguments, relocation_rows
from compiler.targets.cpu.team import Team
from compiler.targets.manifest import (
    BATCH_ARENA,
    FIRST_TENSOR,
    SCRATCH_ARENA,
    STATIC_ARENA,
    InputSlot,
    Manifest,
    ResultSlot,
    TensorSpec,
    capacity_for,
    expect_rows,
    lines_of_tensors,
    rounded_up,
)
from compiler.targets.memory import LARGE_PAGE, SLACK, TensorStore, Workspace, address_of, reserve
from compiler.tuning import MOST_TILE_ROWS
from compiler.types import BatchExtent, DType, numpy_dtype

PAGE = 4096  # bytes; what is readable on a page is readable to its end


CONTROL = Struct("=Q8q")  # SEED to LINE_REACHED
WORD = (1 << 64) - 1


class NativeExecutable:
    """Runs the execution plan of a manifest on a team."""

    def __init__(self, manifest: Manifest, team: Team) -> None:
        self.manifest = manifest
        self._team = team
        self._shared_rows = manifest.shared_rows or sys.maxsize
        layout = control_layout(manifest)
        self._control = reserve(layout.size)
        control = address_of(self._control)
        self._settings = [
            (ctypes.c_double if dtype is DType.F64 else ctypes.c_float).from_address(control + 8 * slot)
            for slot, dtype in enumerate(manifest.setting_dtypes, runner.SETTINGS)
        ]
        self._line = ctypes.c_int64.from_address(control + 8 * runner.LINE_REACHED)
        self._control_bytes = memoryview(self._control)  # type: ignore[arg-type]
        self._flags = self._control_bytes[layout.flags : layout.flags + len(manifest.checked_stores)]
        self._static = reserve(manifest.static_bytes)
        self._scratch = reserve(0)
        self._shared = reserve(manifest.shared_bytes)
        self._workspace = Workspace()
        self._user = object()  # what stands for this program in a workspace
        self._capacity = self._filled = 0  # the most rows that there is room for, and that what runs once has filled
        self._tables = (
            self._entry_table(),
            np.array(relocation_rows(manifest) or [(0, 0, 0)], np.int64),
            np.array(manifest.advances or [()], np.int64),
        )
        self._program = self._program_block(layout.arguments)
        self._lay_out_addresses()
        self._rows, self._rows_a_step, self._steps = np.arange(0), 0, 0
        self._span: tuple[int, int] | None = None  # the rows of a call that reads them where they lie
        self._phases: list[tuple[int, int, int, int]] = []
        self._names = [slot.name for slot in manifest.inputs]
        self._fed: Sequence[Array | None] = [None] * len(self._names)
        self._kept: list[Array] = []
        self._copied: list[tuple[int, Array]] = []
        self._all_rows = np.arange(0)
        self._none = TensorStore(())
        self._bound: tuple[TensorStore | None, int] = (None, 0)

    def _lay_out_addresses(self) -> None:
        """Room for the addresses that the runner is given, and those that stay as they are."""
        manifest = self.manifest
        slots = FIRST_TENSOR + len(manifest.tensors)
        first = slots + len(manifest.inputs)
        self._input_slots = range(slots, first)
        self._outlets = [Outlet(slot, number) for number, slot in enumerate(manifest.results, first)]
        self._arenas = (ctypes.c_int64 * (first + len(manifest.results)))()
        self._arenas[:FIRST_TENSOR] = [
            address_of(a) for a in (self._control, self._static, self._workspace.block, self._scratch, self._shared)
        ]
        # where each input lies, then the bytes from row to row of each
        self._inputs = (ctypes.c_int64 * (2 * len(manifest.inputs) + 1))()
        self._outputs = (ctypes.c_int64 * (len(manifest.results) + 1))()
        arenas, inputs, outputs = map(ctypes.addressof, (self._arenas, self._inputs, self._outputs))
        self._blocks = (address_of(self._program), arenas, inputs, outputs)

    @property
    def tensors(self) -> Sequence[TensorSpec]:
        return self.manifest.tensors

    @property
    def threads(self) -> int:
        """Those of the team; a program without work for several leaves all but one alone."""
        return self._team.threads

    @cached_property
    def lines(self) -> Mapping[str, int]:
        return lines_of_tensors(self.manifest)

    def watch(self) -> Callable[[], int]:
        line = self._line
        line.value = 0  # what the step before has left
        return lambda: line.value

    def _entry_table(self) -> Array:
        addresses = [self._team.library.address(symbol) for symbol in self.manifest.functions]
        table = np.zeros((len(self.manifest.entries) + 1, runner.ENTRY_SLOTS), np.int64)
        for row, (function, *others) in zip(table, entry_rows(self.manifest), strict=False):
            row[:] = (addresses[function] if function >= 0 else 0, *others)
        return table

    def _program_block(self, arguments_offset: int) -> Array:
        entries, relocations, advances = self._tables
        block = np.zeros(runner.PROGRAM_SLOTS, np.int64)
        block[:] = (
            runner.ABI_VERSION,
            address_of(entries),
            len(self.manifest.entries),
            address_of(relocations),
            len(self.manifest.relocations),
            arguments_offset,
            self.manifest.scratch_bytes,
            self.manifest.once,
            address_of(advances),
            advances.shape[1],
            most_moving_arguments(self.manifest),
        )
        return block

    def run(self, steps: Steps) -> Results:
        tensors, data, rows, batch = steps.tensors, steps.data, steps.rows, steps.batch
        assert isinstance(tensors, TensorStore)
        fresh = self._bind(tensors)
        if tensors.workspace is not self._workspace or self._workspace.user is not self._user:
            self._take(tensors.workspace)
        if self._settings:
            self._set(steps.settings)
        moved = False
        if rows is not self._rows or batch != self._rows_a_step:
            self._lay_out(rows, batch)
            moved = True
        if moved or not self._is_fed(data):
            self._feed([data[name] for name in self._names])
        for place, raw in self._copied:
            self._static[place : place + raw.size] = raw
        for outlet in self._outlets:
            moved = outlet.open(self._steps, len(self._rows), self._capacity + MOST_TILE_ROWS) or moved
        broken: list[tuple[str, int]] = []
        for first, count, size, place in self._phases:
            if moved or len(self._phases) > 1:
                for number, outlet in enumerate(self._outlets):
                    self._outputs[number] = outlet.address + first * outlet.bytes_for(batch)
                    self._arenas[outlet.slot] = outlet.address if self._steps == 1 else self._own(outlet.place)
            fresh = fresh or size > self._filled
            step = steps.first_step + first
            CONTROL.pack_into(self._control_bytes, 0, steps.seed & WORD, step, 0, size, place, count, 0, fresh, 0)
            self._team.run(self._blocks, size, self._capacity, size >= self._shared_rows)
            fresh, self._filled = False, max(size, self._filled)
            if any(self._flags):
                raised = [k for k, flag in enumerate(self._flags) if flag]
                broken += [(self.manifest.checked_stores[k], step + count - 1) for k in raised]
                self._flags[:] = bytes(len(self._flags))
        if self.manifest.writes_tensors:
            tensors.version += 1
            self._bound = (tensors, tensors.version)  # what runs once does not depend on what the program writes
        return self._results(tuple(dict.fromkeys(broken)))

    def _results(self, broken: tuple[tuple[str, int], ...]) -> Results:
        scalars: dict[str, Array] = {}
        arrays: dict[str, Array] = {}
        stacks: dict[str, Array] = {}
        for outlet in self._outlets:
            if outlet.is_scalar:
                scalars[outlet.name] = outlet.steps().astype(np.float64)
                continue
            arrays[outlet.name] = outlet.logical()
            if outlet.is_static:
                stacks[outlet.name] = outlet.steps()
        return Results(scalars, arrays, broken, stacks)

    def call(
        self, inputs: Mapping[str, Array], batch: int = 1, tensors: Tensors | None = None, *, seed: int = 0
    ) -> dict[str, Array]:
        """One step on whole arrays: batch inputs have `batch` rows each, static inputs their own shape."""
        if len(self._all_rows) != batch:
            self._all_rows = np.arange(batch)
        turned = [(slot.name, slot.batch_axis) for slot in self.manifest.inputs if slot.batch_axis]
        if turned:
            inputs = {**inputs, **{name: np.moveaxis(inputs[name], axis, 0) for name, axis in turned}}
        results = self.run(Steps(tensors or self._none, inputs, self._all_rows, batch, seed=seed))
        if not results.scalars:
            return dict(results.arrays)
        exact = {outlet.name: outlet.steps()[0] for outlet in self._outlets if outlet.is_scalar}  # as f64 is not of i64
        return {slot.name: exact.get(slot.name, results.arrays.get(slot.name)) for slot in self.manifest.results}

    def _bind(self, tensors: TensorStore) -> bool:
        """Note where the tensors lie; whether their content may differ from that of the call before."""
        bound, self._bound = self._bound, (tensors, tensors.version)
        if tensors is bound[0]:
            return tensors.version != bound[1]
        for number, spec in enumerate(self.manifest.tensors):
            if tensors[spec.name].shape != spec.shape or tensors[spec.name].dtype != numpy_dtype(spec.dtype):
                raise CompilerBug("executable", f"the tensor '{spec.name}' has another shape than the program")
            self._arenas[FIRST_TENSOR + number] = tensors.address(spec.name)
        return True

    def _take(self, workspace: Workspace) -> None:
        """Go on in a workspace that holds nothing of this program, so all is laid out and fed anew."""
        self._workspace, workspace.user = workspace, self._user
        self._filled = self._rows_a_step = 0

    def _set(self, settings: Mapping[str, float]) -> None:
        for name, cell in zip(self.manifest.settings, self._settings, strict=True):
            if name not in settings:
                raise CompilerBug("executable", f"no value for the setting '{name}'")
            cell.value = settings[name]

    def _is_fed(self, data: Mapping[str, Array]) -> bool:
        """Whether the inputs are the arrays of the call before."""
        for name, array in zip(self._names, self._fed, strict=True):  # noqa: SIM110  (a generator costs more than all)
            if data[name] is not array:
                return False
        return True

    def _lay_out(self, rows: Array, batch: int) -> None:
        """Room for a call, and its phases: the full batches, then a short one."""
        self._rows, self._rows_a_step = np.ascontiguousarray(rows, np.int64), batch
        full, rest = divmod(len(rows), batch)
        self._steps = full + (rest > 0)
        consecutive = self._steps == 1 and bool((np.diff(self._rows) == 1).all())
        in_place = consecutive and len(rows) >= min(self.manifest.batch, MOST_TILE_ROWS)
        self._span = (int(self._rows[0]), int(self._rows[-1]) + 1) if in_place else None
        most = min(batch, len(rows))
        expect_rows(self.manifest, most)
        capacity = capacity_for(self.manifest.batch_bytes, most)
        if capacity > self._capacity:
            each = self.manifest.scratch_bytes + -(-self.manifest.scratch_batch_bytes * rounded_up(most) // 64) * 64
            self._expect_room(most, each * self._team.threads, self.manifest.batch_bytes * capacity)
            self._scratch = reserve(each * self._team.threads)
            self._program[runner.SCRATCH_BYTES] = each
            self._arenas[SCRATCH_ARENA] = address_of(self._scratch)
            self._capacity, self._filled = capacity, 0
        overshoot = MOST_TILE_ROWS * self.manifest.row_bytes
        if self._workspace.reserve(self.manifest.batch_bytes * self._capacity + overshoot + SLACK):
            self._filled = 0
        self._arenas[BATCH_ARENA] = address_of(self._workspace.block)
        begin = address_of(self._rows)
        self._phases = [
            (first, count, size, begin + 8 * first * batch)
            for first, count, size in ((0, full, batch), (full, 1, rest))
            if count and size
        ]

    def _expect_room(self, rows: int, scratch: int, values: int) -> None:
        """Raise ResourceError where steps of so many rows do not fit into memory; what is held already is no more."""
        fixed = 0 if self._capacity else self.manifest.static_bytes + self.manifest.shared_bytes
        grown = max(0, scratch - len(self._scratch)) + max(0, values - len(self._workspace.block))
        if fixed + grown < LARGE_PAGE:
            return
        what = "a step of one row" if rows == 1 else f"a step of {rows} rows"
        fix = "use a smaller model" if rows == 1 or fixed > grown else "use a smaller batch"
        expect_memory(what, {"values of the rows": grown, "values that rows share": fixed}, fix)

    def _own(self, place: tuple[bool, int]) -> int:
        """An address in the arenas, for an input or a result that is copied."""
        in_batch, offset = place
        if in_batch:
            return self._arenas[BATCH_ARENA] + offset * self._capacity
        return self._arenas[STATIC_ARENA] + offset

    def _feed(self, given: list[Array]) -> None:
        """Note where each input lies. A single step reads it there, where nothing behind it is read by mistake."""
        self._kept = [
            array if _has_overlapping_rows(array, slot) else np.require(array, numpy_dtype(slot.dtype), ("C", "A"))
            for slot, array in zip(self.manifest.inputs, given, strict=True)
        ]
        is_as_given = all(map(is_, given, self._kept))
        self._fed = given if is_as_given else [None] * len(given)  # a converted copy serves one call only
        self._copied = []
        first, last = self._span or (0, 0)
        for number, (slot, array) in enumerate(zip(self.manifest.inputs, self._kept, strict=True)):
            start = self._inputs[number] = address_of(array)
            is_dense = array.flags.c_contiguous
            self._inputs[len(given) + number] = slot.row_bytes if is_dense else array.strides[0]
            in_batch, limit = slot.batch_axis is not None, start + array.nbytes
            begin, end = (start + first * slot.row_bytes, start + last * slot.row_bytes) if in_batch else (start, limit)
            if is_dense and (self._span or not in_batch) and is_readable(end + slot.reach, limit):
                self._arenas[self._input_slots[number]] = begin
                continue
            self._arenas[self._input_slots[number]] = self._own((in_batch, slot.offset))
            if not in_batch:
                self._copied.append((slot.offset, array.reshape(-1).view(np.uint8)))


def _has_overlapping_rows(array: Array, slot: InputSlot) -> bool:
    """Whether the rows are dense, but not next to one another: windows of one series are gathered from it."""
    if slot.batch_axis is None or array.dtype != numpy_dtype(slot.dtype) or array.flags.c_contiguous or not len(array):
        return False
    return array.flags.aligned and array[:1].flags.c_contiguous and array[0].nbytes == slot.row_bytes


def is_readable(end: int, limit: int) -> bool:
    """Whether memory up to `end` belongs to the array that ends at `limit`, or to its last page."""
    return end <= limit or (end - 1) // PAGE == (limit - 1) // PAGE


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
