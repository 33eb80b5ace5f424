"""The layout of the memory that an exported library gets: tables, arenas and tensors of its functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from compiler.support.arrays import Array
from compiler.support.record import record
from compiler.targets.cpu.plan_tables import control_layout
from compiler.targets.cpu.runner import sync_bytes
from compiler.targets.manifest import FIRST_TENSOR, LARGE_ROW, ROUNDING, Manifest, ResultSlot
from compiler.targets.memory import SLACK
from compiler.targets.target import LibraryFunction, LibraryMemory, ValuesOfRows
from compiler.tuning import MOST_TILE_ROWS
from compiler.types import BatchExtent, DType

_HEAD = 64  # bytes in front of all tables


@record
class Places:
    """Where the tables and arenas of a function lie in the caller's memory, in bytes."""

    arenas: int
    inputs: int
    outputs: int
    control: int
    static: int
    results: int  # those of the compiler's own, one after the other, each in a line of the caches


@record
class Layout:
    """Where things lie in the caller's memory, in bytes; those that grow with the rows stand behind the others.

    `tensors` are the places of the persistent tensors by name, where some function changes them.
    """

    sync: int
    shared: int
    scratch: int
    functions: tuple[Places, ...]
    tensors: Mapping[str, int]
    memory: LibraryMemory


@record
class Function:
    """A function of the library: its program, its place among the others, and its settings' names and values."""

    number: int
    program: LibraryFunction
    manifest: Manifest


def settings_of(function: Function) -> tuple[tuple[str, DType, float], ...]:
    """The settings that the caller gives, with the values that they have in the text."""
    types = dict(zip(function.manifest.settings, function.manifest.setting_dtypes, strict=True))
    return tuple(
        (name, types[name], function.program.settings[name]) for name in function.program.given if name in types
    )


def results_of(function: Function) -> list[ResultSlot]:
    """Those that the caller gets."""
    return [result for result in function.manifest.results if not is_own(result)]


def is_own(result: ResultSlot) -> bool:
    """Whether a result is the compiler's own: it lies in a line of its own, or of rows behind all values."""
    return ":" in result.name


def bytes_of_row(result: ResultSlot) -> int:
    """Bytes of a result for each row, so many that each begins at a multiple of 8; 0 for one without rows."""
    rows = [extent.multiple for extent in result.shape if isinstance(extent, BatchExtent)]
    elements = prod(extent for extent in result.shape if isinstance(extent, int))
    return -(-rows[0] * elements * result.dtype.size // 8) * 8 if rows else 0


def layout_of(functions: Sequence[Function], changing: Mapping[str, Array]) -> Layout:
    manifests = [function.manifest for function in functions]
    end = _HEAD

    def place(size: int) -> int:
        nonlocal end
        begin, end = end, end + rounded_up(size)
        return begin

    tensors = {name: place(array.nbytes) for name, array in changing.items()}
    place(SLACK)
    static = place(max(m.static_bytes for m in manifests) + SLACK)  # each function fills it anew behind another one
    places = tuple(
        Places(
            arenas=place(8 * (FIRST_TENSOR + len(m.tensors) + len(m.inputs) + len(m.results))),
            inputs=place(16 * len(m.inputs)),
            outputs=place(8 * len(m.results)),
            control=place(control_layout(m).size),
            static=static,
            results=place(64 * sum(map(is_own, m.results))),
        )
        for m in manifests
    )
    sync, shared = place(sync_bytes(1)), place(max(m.shared_bytes for m in manifests) + SLACK)
    scratch = place(max(m.scratch_bytes for m in manifests) + SLACK)
    values = tuple(map(_values_of_rows, manifests))
    memory = LibraryMemory(end, max(m.scratch_batch_bytes for m in manifests), values, ROUNDING)
    return Layout(sync, shared, scratch, places, tensors, memory)


def _values_of_rows(manifest: Manifest) -> ValuesOfRows:
    own = sum(bytes_of_row(result) for result in manifest.results if is_own(result))
    overshoot = rounded_up(MOST_TILE_ROWS * manifest.row_bytes + SLACK)
    return ValuesOfRows(manifest.batch_bytes + own, overshoot, manifest.batch_bytes < LARGE_ROW)


def rounded_up(size: int) -> int:
    return -(-size // 64) * 64
