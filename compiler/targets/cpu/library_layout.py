"""The layout of the memory that an exported library gets: tables, arenas and tensors of its functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TypeAlias

from compiler.machine import Machine
from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.targets.cpu.plan_tables import control_layout
from compiler.targets.cpu.runner import COUNTERS
from compiler.targets.manifest import FIRST_TENSOR, LARGE_ROW, ROUNDING, Manifest, ResultSlot, TensorSpec
from compiler.targets.target import LibraryFunction, LibraryMemory, ValuesOfRows
from compiler.tuning import MOST_TILE_ROWS, READABLE_BEHIND
from compiler.types import BatchExtent, DType

_HEAD = 64  # bytes in front of all tables
_FEW_ROWS = 4
_TEAM = 8 * 11  # those of the words that `alone.ll` names


@record
class Places:
    """Where the tables and arenas of a function lie in the caller's memory, in bytes."""

    arenas: int
    inputs: int
    outputs: int
    control: int
    static: int
    results: int  # those that the caller does not get, one after the other, in whole lines of the caches


@record
class Layout:
    """Where things lie in the caller's memory, in bytes; those that grow with the rows stand behind the others.

    `tensors` are the places of the persistent tensors by name, where some function changes them; `states` those of
    tensors that begin with zeros, between the positions of a sequence. At `team` stand the words of `alone.ll`, at
    `state` those of the first worker, with its scratch behind them, and at `sequence` the tokens that the states hold.
    """

    team: int
    shared: int
    state: int
    scratch: int
    functions: tuple[Places, ...]
    tensors: Mapping[str, int]
    states: Mapping[str, int]
    sequence: int
    memory: LibraryMemory


@record
class Function:
    """A program of the library, and its place among the others."""

    number: int
    program: LibraryFunction
    manifest: Manifest

    def is_own(self, result: ResultSlot) -> bool:
        """Whether a result is not given to the caller: it lies in lines of its own, or of rows behind all values."""
        return ":" in result.name or not self.program.tells

    @property
    def results(self) -> list[ResultSlot]:
        """Those that the caller gets."""
        return [result for result in self.manifest.results if not self.is_own(result)]


Settings: TypeAlias = tuple[tuple[str, DType, float], ...]


def settings_of(functions: Sequence[Function]) -> Settings:
    """The settings that the caller of some programs gives, with the values that they have in the text."""
    types = {n: t for f in functions for n, t in zip(f.manifest.settings, f.manifest.setting_dtypes, strict=True)}
    program = functions[0].program
    return tuple((name, types[name], program.settings[name]) for name in program.given if name in types)


def places_of_settings(settings: Settings) -> dict[str, int]:
    """Where each setting stands in the caller's struct, in bytes."""
    places: dict[str, int] = {}
    end = 0
    for name, dtype, _ in settings:
        places[name] = -(-end // dtype.size) * dtype.size
        end = places[name] + dtype.size
    return places


def bytes_of_row(result: ResultSlot) -> int:
    """Bytes of a result for each row, so many that each begins at a multiple of 8; 0 for one without rows."""
    rows = [extent.multiple for extent in result.shape if isinstance(extent, BatchExtent)]
    return -(-rows[0] * _bytes_of(result) // 8) * 8 if rows else 0


def bytes_without_rows(result: ResultSlot) -> int:
    """Bytes of a result that has no rows, whole lines of them; 0 for another."""
    return 0 if bytes_of_row(result) else rounded_up(_bytes_of(result))


def _bytes_of(result: ResultSlot) -> int:
    return prod(extent for extent in result.shape if isinstance(extent, int)) * result.dtype.size


def layout_of(
    functions: Sequence[Function],
    changing: Mapping[str, Array],
    states: Sequence[TensorSpec],
    window: int,
    machine: Machine,
) -> Layout:
    """The places of all that lies in memory; `changing` are the persistent tensors that lie there too.

    Kernels may read behind what they need, but use nothing of it: other things lie there.

    `window`: of how many tokens `generate_next` keeps a copy.
    """
    manifests = [function.manifest for function in functions]
    end = _HEAD

    def place(size: int) -> int:
        nonlocal end
        begin, end = end, end + rounded_up(size)
        return begin

    tensors = {name: place(array.nbytes) for name, array in changing.items()}
    kept = {spec.name: place(prod(spec.shape) * spec.dtype.size) for spec in states}
    static = place(max(m.static_bytes for m in manifests))  # each function fills it anew behind another one
    places = tuple(
        Places(
            arenas=place(8 * (FIRST_TENSOR + len(m.tensors) + len(m.inputs) + len(m.results))),
            inputs=place(16 * len(m.inputs)),
            outputs=place(8 * len(m.results)),
            control=place(control_layout(m).size),
            static=static,
            results=place(sum(bytes_without_rows(result) for result in m.results if f.is_own(result))),
        )
        for f, m in zip(functions, manifests, strict=True)
    )
    sequence = place(8 * window)
    team, shared = place(_TEAM), place(max(m.shared_bytes for m in manifests))
    state = place(8 * (COUNTERS + max(len(m.advances[0]) if m.advances else 0 for m in manifests)))
    scratch = place(max(m.scratch_bytes for m in manifests) + READABLE_BEHIND)
    values = tuple(_values_of_rows(function, machine) for function in functions)
    memory = LibraryMemory(end, end - state, max(m.scratch_batch_bytes for m in manifests), values, ROUNDING)
    return Layout(team, shared, state, scratch, places, tensors, kept, sequence, memory)


def _values_of_rows(function: Function, machine: Machine) -> ValuesOfRows:
    """Where memory is scarce, buffers begin at a multiple of four bytes, and as many rows are read behind the last
    one as a tile can have there: a sum takes a register at least."""
    manifest = function.manifest
    own = sum(bytes_of_row(result) for result in manifest.results if function.is_own(result))
    is_small = machine.is_microcontroller
    tile = min(MOST_TILE_ROWS, machine.registers) if is_small else MOST_TILE_ROWS
    overshoot = rounded_up(tile * manifest.row_bytes + READABLE_BEHIND)
    rounding = 1 if manifest.batch_bytes >= LARGE_ROW else _FEW_ROWS if is_small else ROUNDING
    return ValuesOfRows(manifest.batch_bytes + own, overshoot, rounding)


def rounded_up(size: int) -> int:
    return -(-size // 64) * 64
