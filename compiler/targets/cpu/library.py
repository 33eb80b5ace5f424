"""A compiled program as a library for any processor: no process of its own, no allocation, no system underneath.

The runner's tables are constants of the library's main object; all that changes lies in memory that the caller gives.
Beside it stand one object for each kernel and one with the weights, which are read where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from compiler.interface import Tensors
from compiler.machine import Machine
from compiler.support.record import record
from compiler.targets.cpu.plan_tables import control_layout, entry_rows, most_moving_arguments, relocation_rows
from compiler.targets.cpu.runner import (
    ABI_VERSION,
    BATCH,
    FRESH,
    LOCAL,
    REMAINING,
    ROWS,
    SEED,
    SETTINGS,
    STEP,
    runner_text,
    sync_bytes,
)
from compiler.targets.llvm.jit import compile_module
from compiler.targets.llvm.object_code import ObjectCode
from compiler.targets.manifest import (
    BATCH_ARENA,
    CONTROL_ARENA,
    FIRST_TENSOR,
    LARGE_ROW,
    ROUNDING,
    SCRATCH_ARENA,
    SHARED_ARENA,
    STATIC_ARENA,
    Manifest,
)
from compiler.targets.memory import SLACK
from compiler.targets.target import ExportedLibrary, LibraryMember, LibraryMemory
from compiler.tuning import MOST_TILE_ROWS
from compiler.types import BatchExtent, DType

Array: TypeAlias = np.ndarray[Any, Any]

ERRORS = (
    ("OK", "no error"),
    ("WRONG_ROWS", "rows is below 1, or more than the memory was laid out for"),
    ("SMALL_MEMORY", "the memory is smaller than MODEL_MEMORY(rows)"),
    ("UNALIGNED", "the memory does not begin at a multiple of MODEL_ALIGNMENT bytes"),
    ("NOT_INITIALISED", "model_init has not laid out this memory"),
    ("NULL_POINTER", "an argument is a null pointer"),
    ("OTHER_HEADER", "the library was made with another header"),
)
"""Names and texts of the codes in `library.ll`, from 0."""
FUNCTIONS = ("model_memory", "model_init_abi", "model_predict", "model_error_text")
MOST_ROWS = (1 << 31) - 1  # in a call
_HEAD = 64  # bytes in front of the tables


@record
class MemoryLayout:
    """Where things lie in the caller's memory, in bytes; what grows with the rows stands behind them."""

    arenas: int
    inputs: int
    outputs: int
    sync: int
    control: int
    static: int
    shared: int
    scratch: int
    growing: LibraryMemory


def library(code: ObjectCode, tensors: Tensors, settings: Mapping[str, float], machine: Machine) -> ExportedLibrary:
    """The library of a program that changes no tensor; `code` has the object of each of its kernels."""
    manifest = code.manifest
    assert not manifest.writes_tensors
    places, content = placed_weights([tensors[spec.name] for spec in manifest.tensors])
    layout = memory_layout(manifest)
    signature = repr((ABI_VERSION, layout, manifest.inputs, manifest.results))
    abi = int.from_bytes(sha256(signature.encode()).digest()[:7], "big")
    main = compile_module(main_text(manifest, settings, machine, abi, places), machine)
    weights = compile_module(weights_text(content), machine)
    kernels = zip(code.symbols, code.objects, strict=False)  # behind them stands the runner for a process
    members = (
        LibraryMember("model.o", main, FUNCTIONS),
        LibraryMember("weights.o", weights, ("model_weights",)),
        *(LibraryMember(f"{symbol}.o", content, (symbol,)) for symbol, content in kernels),
    )
    return ExportedLibrary(members, machine, abi, layout.growing, manifest.inputs, manifest.results, ERRORS)


def memory_layout(manifest: Manifest) -> MemoryLayout:
    slots = FIRST_TENSOR + len(manifest.tensors) + len(manifest.inputs) + len(manifest.results)
    sizes = {
        "arenas": 8 * slots,
        "inputs": 16 * len(manifest.inputs),
        "outputs": 8 * len(manifest.results),
        "sync": sync_bytes(1),
        "control": control_layout(manifest).size,
        "static": manifest.static_bytes + SLACK,
        "shared": manifest.shared_bytes + SLACK,
        "scratch": manifest.scratch_bytes + SLACK,
    }
    places: dict[str, int] = {}
    place = _HEAD
    for name, size in sizes.items():
        places[name] = place
        place += _up(size)
    overshoot = _up(MOST_TILE_ROWS * manifest.row_bytes + SLACK) + 63
    is_rounded = manifest.batch_bytes < LARGE_ROW
    growing = LibraryMemory(place, manifest.scratch_batch_bytes, manifest.batch_bytes, overshoot, ROUNDING, is_rounded)
    return MemoryLayout(**places, growing=growing)


def _up(size: int) -> int:
    return -(-size // 64) * 64


def main_text(
    manifest: Manifest, settings: Mapping[str, float], machine: Machine, abi: int, weights: Sequence[int]
) -> str:
    """The LLVM text of a library's main object; `weights` are the places of the manifest's tensors in theirs."""
    layout = memory_layout(manifest)
    words: dict[str, object] = {
        "LESS_THAN_ROUNDING": ROUNDING - 1,
        "ROUNDING": ROUNDING,
        "SCRATCH_OF_ROW": layout.growing.scratch_of_row,
        "FIXED": layout.growing.fixed,
        "IS_ROUNDED": str(layout.growing.is_rounded).lower(),
        "BATCH_OF_ROW": layout.growing.batch_of_row,
        "OVERSHOOT": layout.growing.overshoot,
        "MOST_ROWS": MOST_ROWS,
        "ERRORS": len(ERRORS),
        "ABI": abi,
        "ARENAS": layout.arenas,
        "INPUTS": layout.inputs,
        "OUTPUTS": layout.outputs,
        "SYNC": layout.sync,
        "STATIC": layout.static,
        "CONTROL": layout.control,
        "PLACES": "\n".join(_places(manifest, layout, weights, settings)),
        "PARAMETERS": "".join(f", ptr {name}" for name in _parameters(manifest)),
        "NULLS": "\n".join(_null_checks(manifest)),
        "FED": "\n".join(_fed(manifest)),
        "ROWS_SLOT": ROWS,
        "SEED_SLOT": SEED,
        "STEP_SLOT": STEP,
        "LOCAL_SLOT": LOCAL,
        "BATCH_SLOT": BATCH,
        "REMAINING_SLOT": REMAINING,
        "FRESH_SLOT": FRESH,
    }
    text = Path(__file__).with_suffix(".ll").read_text(encoding="utf-8")
    for name in sorted(words, key=len, reverse=True):  # no word is the beginning of one that is still there
        text = text.replace(f"${name}", str(words[name]))
    return "\n".join([runner_text(machine, alone=True), *_constants(manifest), text])


def weights_text(content: bytes) -> str:
    """The LLVM text of the object with the weights."""
    array = "".join(f"\\{byte:02X}" for byte in content)
    return f'@model_weights = hidden constant [{len(content)} x i8] c"{array}", align 64\n'


def placed_weights(arrays: Sequence[Array]) -> tuple[list[int], bytes]:
    """Where each array lies, and all of them in one piece, readable beyond the end as kernels may read."""
    places: list[int] = []
    content = bytearray()
    for array in arrays:
        places.append(len(content))
        content += np.ascontiguousarray(array).tobytes()
        content += bytes(_up(len(content)) - len(content))
    return places, bytes(content) + bytes(SLACK)


def _parameters(manifest: Manifest) -> list[str]:
    inputs = [f"%in.{number}" for number in range(len(manifest.inputs))]
    return inputs + [f"%out.{number}" for number in range(len(manifest.results))]


def _null_checks(manifest: Manifest) -> list[str]:
    names = ["%memory", *_parameters(manifest)]
    rows: list[str] = []
    for number, name in enumerate(names):
        following = f"check.{number + 1}" if number + 1 < len(names) else "nonnull"
        rows.append(f"  %null.{number} = icmp eq ptr {name}, null")
        rows.append(f"  br i1 %null.{number}, label %null, label %{following}")
        if number + 1 < len(names):
            rows.append(f"{following}:")
    return rows


def _places(
    manifest: Manifest, layout: MemoryLayout, weights: Sequence[int], settings: Mapping[str, float]
) -> list[str]:
    """What stays in the tables of addresses, and the settings."""
    rows: list[str] = []

    def put(table: str, slot: int, value: str) -> None:
        rows.append(f"  %{table}.{slot}.at = getelementptr i64, ptr %{table}, i64 {slot}")
        rows.append(f"  store {value}, ptr %{table}.{slot}.at, align 8")

    def own(slot: int, offset: int, in_batch: bool) -> None:
        """A place in the arenas, for an input or a result that is copied."""
        if in_batch:
            rows.append(f"  %own.{slot}.offset = mul i64 %capacity, {offset}")
        base, place = ("%batch", f"%own.{slot}.offset") if in_batch else ("%static", str(offset))
        rows.append(f"  %own.{slot} = getelementptr i8, ptr {base}, i64 {place}")
        put("arenas", slot, f"ptr %own.{slot}")

    put("arenas", CONTROL_ARENA, "ptr %control")
    put("arenas", STATIC_ARENA, "ptr %static")
    put("arenas", BATCH_ARENA, "ptr %batch")
    for slot, place in ((SCRATCH_ARENA, layout.scratch), (SHARED_ARENA, layout.shared)):
        rows.append(f"  %arena.{slot} = getelementptr i8, ptr %memory, i64 {place}")
        put("arenas", slot, f"ptr %arena.{slot}")
    slot = FIRST_TENSOR
    for place in weights:
        put("arenas", slot, f"ptr getelementptr (i8, ptr @model_weights, i64 {place})")
        slot += 1
    for number, item in enumerate(manifest.inputs):
        own(slot, item.offset, item.batch_axis is not None)
        put("inputs", len(manifest.inputs) + number, f"i64 {item.row_bytes}")
        slot += 1
    for result in manifest.results:
        if result.offset is not None:
            own(slot, result.offset, any(isinstance(extent, BatchExtent) for extent in result.shape))
        slot += 1
    for number, (name, dtype) in enumerate(zip(manifest.settings, manifest.setting_dtypes, strict=True), SETTINGS):
        put("control", number, _number(settings[name], dtype))
    return rows


def _number(value: float, dtype: DType) -> str:
    """A typed constant with exactly these bits."""
    bits = np.array(value, np.float64 if dtype is DType.F64 else np.float32)
    wide = np.float64(bits)  # LLVM writes an f32 as the f64 that it is
    return f"{'double' if dtype is DType.F64 else 'float'} 0x{int(wide.view(np.uint64)):016X}"


def _fed(manifest: Manifest) -> list[str]:
    """The addresses of inputs and results, and inputs without rows, which are copied."""
    rows: list[str] = []
    for number, item in enumerate(manifest.inputs):
        rows.append(f"  %inputs.{number}.at = getelementptr i64, ptr %inputs, i64 {number}")
        rows.append(f"  store ptr %in.{number}, ptr %inputs.{number}.at, align 8")
        if item.batch_axis is None:
            rows.append(f"  %copy.{number} = getelementptr i8, ptr %static, i64 {item.offset}")
            operands = f"ptr %copy.{number}, ptr %in.{number}, i64 {item.row_bytes}, i1 false"
            rows.append(f"  call void @llvm.memcpy.p0.p0.i64({operands})")
    for number, _ in enumerate(manifest.results):
        rows.append(f"  %outputs.{number}.at = getelementptr i64, ptr %outputs, i64 {number}")
        rows.append(f"  store ptr %out.{number}, ptr %outputs.{number}.at, align 8")
    return rows


def _constants(manifest: Manifest) -> list[str]:
    entries = [
        f"{{ ptr {f'@{manifest.functions[function]}' if function >= 0 else 'null'}, "
        + ", ".join(f"i64 {number}" for number in others)
        + " }"
        for function, *others in entry_rows(manifest)
    ]
    numbers = [number for row in relocation_rows(manifest) for number in row]
    advances = [number for line in manifest.advances for number in line]
    line = "{ ptr, i64, i64, i64, i64, i64, i64, i64 }"
    block = (
        f"i64 {ABI_VERSION}",
        "ptr @entry_table",
        f"i64 {len(entries)}",
        "ptr @relocation_table",
        f"i64 {len(manifest.relocations)}",
        f"i64 {control_layout(manifest).arguments}",
        f"i64 {manifest.scratch_bytes}",  # of one thread: nothing lies behind it
        f"i64 {int(manifest.flush)}",
        f"i64 {manifest.once}",
        "ptr @advance_table",
        f"i64 {len(manifest.advances[0]) if manifest.advances else 0}",
        f"i64 {most_moving_arguments(manifest)}",
    )
    types = ", ".join(word.split()[0] for word in block)
    own = {"dlc_fetch", "dlc_collect", "dlc_copy"}
    kernels = [f"declare void @{f}(ptr, i64, i64, ptr)" for f in manifest.functions if f not in own]
    texts = [
        f'@text.{n} = internal constant [{len(text) + 1} x i8] c"{text}\\00"' for n, (_, text) in enumerate(ERRORS)
    ]
    return [
        *kernels,
        *texts,
        _text("unknown", "unknown error"),
        f"@texts = internal constant [{len(ERRORS)} x ptr] [{', '.join(f'ptr @text.{n}' for n in range(len(ERRORS)))}]",
        "@model_weights = external hidden constant i8",
        f"@entry_table = internal constant [{len(entries)} x {line}] [{', '.join(f'{line} {e}' for e in entries)}]",
        _numbers("relocation_table", numbers),
        _numbers("advance_table", advances),
        f"@program = internal constant {{ {types} }} {{ {', '.join(block)} }}",
    ]


def _numbers(name: str, numbers: Sequence[int]) -> str:
    values = ", ".join(f"i64 {number}" for number in numbers)
    return f"@{name} = internal constant [{len(numbers)} x i64] [{values}]"


def _text(name: str, text: str) -> str:
    return f'@{name} = internal constant [{len(text) + 1} x i8] c"{text}\\00"'
