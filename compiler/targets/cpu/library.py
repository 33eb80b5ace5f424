"""A compiled program as a library for any processor: no process of its own, no allocation, no system underneath.

The runner's tables are constants of the library's main object; all that changes lies in memory that the caller gives.
Beside it stand one object for each kernel and one with the weights, which are read where they lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from compiler.machine import Machine
from compiler.targets.cpu import runner
from compiler.targets.cpu.library_layout import (
    Function,
    Layout,
    bytes_of_row,
    is_own,
    layout_of,
    results_of,
    rounded_up,
    settings_of,
)
from compiler.targets.cpu.plan_tables import control_layout, entry_rows, most_moving_arguments, relocation_rows
from compiler.targets.llvm.emulated_multiply_add import PROBES, functions_for, probes
from compiler.targets.llvm.jit import compile_module
from compiler.targets.llvm.object_code import ObjectCode
from compiler.targets.manifest import (
    BATCH_ARENA,
    CONTROL_ARENA,
    FIRST_TENSOR,
    ROUNDING,
    SCRATCH_ARENA,
    SHARED_ARENA,
    STATIC_ARENA,
)
from compiler.targets.memory import SLACK
from compiler.targets.target import (
    ExportedLibrary,
    LibraryFunction,
    LibraryMember,
    LibraryMemory,
    LibrarySignature,
    LibraryTensors,
)
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
    ("SMALL_FILE", "the file is smaller than MODEL_FILE_BYTES"),
    ("OTHER_FILE", "the file holds other tensors than the model"),
)
"""Names and texts of the codes in the templates, from 0."""
MOST_ROWS = (1 << 31) - 1  # in a call
WEIGHTS = "model_weights"  # the symbol of the constant weights
_OF_THE_RUNNER = ("dlc_fetch", "dlc_collect", "dlc_copy")


def library(
    functions: Sequence[LibraryFunction],
    codes: Sequence[ObjectCode],
    tensors: LibraryTensors,
    seed: int,
    machine: Machine,
) -> ExportedLibrary:
    """The library of some programs on the same tensors; `codes` have the objects of each program's kernels."""
    made = [
        Function(number, program, code.manifest)
        for number, (program, code) in enumerate(zip(functions, codes, strict=True))
    ]
    places, content = _weights(tensors.values.values())
    weights = dict(zip(tensors.values, places, strict=True))
    changes = any(function.manifest.writes_tensors for function in made)
    layout = layout_of(made, tensors.values if changes else {})
    interface = [(f.program.name, f.manifest.inputs, f.manifest.results, f.manifest.settings) for f in made]
    abi = int.from_bytes(
        sha256(repr((runner.ABI_VERSION, layout, tensors.file_header, interface)).encode()).digest()[:7], "big"
    )
    kernels = {
        symbol: content
        for code in codes
        for symbol, content in zip(code.symbols, code.objects, strict=False)  # behind them stands a process's runner
    }
    text = _main_text(made, layout, tensors, weights, abi, seed, machine)
    names = ["memory", "init_abi", "error_text", "tensor", *(("save", "load", "continue") if changes else ())]
    reserved: dict[str, int] = {}
    text += functions_for(machine)
    if machine.is_web:
        text += probes(machine)
        names += PROBES
        reserved[WEIGHTS] = len(content)
    symbols = tuple(f"model_{name}" for name in (*names, *(function.program.name for function in made)))
    members = (
        LibraryMember("model.o", compile_module(text, machine), symbols),
        *(() if machine.is_web else (LibraryMember("weights.o", _weights_object(content, machine), (WEIGHTS,)),)),
        *(LibraryMember(f"{symbol}.o", content, (symbol,)) for symbol, content in kernels.items()),
    )
    signatures = tuple(
        LibrarySignature(f.program.name, f.manifest.inputs, tuple(results_of(f)), settings_of(f)) for f in made
    )
    return ExportedLibrary(members, machine, abi, layout.memory, signatures, changes, ERRORS, weights, reserved)


def _weights(arrays: Iterable[Array]) -> tuple[list[int], bytes]:
    """Where each array lies, and all of them in one piece, readable beyond the end as kernels may read."""
    places: list[int] = []
    content = bytearray()
    for array in arrays:
        places.append(len(content))
        content += np.ascontiguousarray(array).tobytes()
        content += bytes(rounded_up(len(content)) - len(content))
    return places, bytes(content) + bytes(SLACK)


def _weights_object(content: bytes, machine: Machine) -> bytes:
    text = f'@{WEIGHTS} = hidden constant [{len(content)} x i8] c"{_escaped(content)}", align 64\n'
    return compile_module(text, machine)


def _escaped(content: bytes) -> str:
    """Bytes as LLVM writes them in a string, of which there is at least one."""
    return "\\" + content.hex("\\")


def _main_text(
    functions: Sequence[Function],
    layout: Layout,
    tensors: LibraryTensors,
    weights: Mapping[str, int],
    abi: int,
    seed: int,
    machine: Machine,
) -> str:
    """The LLVM text of the object with all functions; `weights` are the places of tensors in the other."""
    memory, header = layout.memory, tensors.file_header
    common: dict[str, object] = {
        "LESS_THAN_ROUNDING": ROUNDING - 1,
        "ROUNDING": ROUNDING,
        "SCRATCH_OF_ROW": memory.scratch_of_row,
        "FIXED": memory.fixed,
        "VALUES": _lines(_most_values(memory)),
        "MOST_ROWS": MOST_ROWS,
        "ABI": abi,
        "SEED": seed,
        "ERRORS": len(ERRORS),
        "TENSOR_COUNT": len(weights),
        "TENSOR_BASE": "%memory" if layout.tensors else "@model_weights",
        "HEADER_BYTES": len(header),
        "FILE_BYTES": tensors.file_bytes,
        "TENSORS": _lines(_copied_weights(layout, tensors.values, weights)),
        "FUNCTIONS": _lines(
            f"call void @{function.program.name}_lay_out(ptr %memory, i64 %rows, ptr %numbers)"
            for function in functions
        ),
    }
    templates = ("library", "tensors", *(["changing_tensors"] if layout.tensors else []))
    texts = ", ".join(f"ptr @text.{number}" for number in range(len(ERRORS)))
    kernels = sorted({name for f in functions for name in f.manifest.functions} - {*_OF_THE_RUNNER})
    return "\n".join(
        [
            runner.runner_text(machine, alone=True),
            *(f"declare void @{kernel}(ptr, i64, i64, ptr)" for kernel in kernels),
            f"@{WEIGHTS} = external hidden constant i8",
            *(_text(f"text.{number}", text) for number, (_, text) in enumerate(ERRORS)),
            _text("unknown", "unknown error"),
            f"@texts = internal constant [{len(ERRORS)} x ptr] [{texts}]",
            *_tensor_table(layout.tensors or weights, tensors.values),
            f'@file_header = internal constant [{len(header)} x i8] c"{_escaped(header)}"',
            *(_filled(name, common) for name in templates),
            *(_function_text(function, layout, weights, abi) for function in functions),
        ]
    )


def _filled(template: str, words: Mapping[str, object]) -> str:
    """The text of a template; the longest words first, since none may be the beginning of one that is still there."""
    text = Path(__file__).with_name(f"{template}.ll").read_text(encoding="utf-8")
    for name in sorted(words, key=len, reverse=True):
        text = text.replace(f"${name}", str(words[name]))
    return text


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(line if line.endswith(":") else f"  {line}" for line in lines)


def _text(name: str, text: str) -> str:
    return f'@{name} = internal constant [{len(text) + 1} x i8] c"{text}\\00"'


def _most_values(memory: LibraryMemory) -> list[str]:
    """The most bytes that the values of a function's rows take, as `%values`."""
    rows: list[str] = []
    most = "0"
    for number, values in enumerate(memory.values):
        name = "%values" if number + 1 == len(memory.values) else f"%values.{number}"
        rows.append(f"%grown.{number} = mul i64 {'%rounded' if values.is_rounded else '%rows'}, {values.of_row}")
        rows.append(f"%padded.{number} = add i64 %grown.{number}, {values.overshoot + 63}")
        rows.append(f"%whole.{number} = and i64 %padded.{number}, -64")
        rows.append(f"{name} = call i64 @llvm.umax.i64(i64 {most}, i64 %whole.{number})")
        most = name
    return rows


def _copied_weights(layout: Layout, values: Mapping[str, Array], weights: Mapping[str, int]) -> list[str]:
    """Put tensors that change into the caller's memory."""
    rows: list[str] = []
    for number, (name, place) in enumerate(layout.tensors.items()):
        rows.append(f"%tensor.{number} = getelementptr i8, ptr %memory, i64 {place}")
        start = f"ptr getelementptr (i8, ptr @model_weights, i64 {weights[name]})"
        operands = f"ptr %tensor.{number}, {start}, i64 {values[name].nbytes}, i1 false"
        rows.append(f"call void @llvm.memcpy.p0.p0.i64({operands})")
    return rows


def _tensor_table(places: Mapping[str, int], values: Mapping[str, Array]) -> list[str]:
    """Of each tensor: its name, its place, and its bytes."""
    names = [
        f'@name.{n} = internal constant [{len(name.encode()) + 1} x i8] c"{_escaped(name.encode())}\\00"'
        for n, name in enumerate(places)
    ]
    line = "{ ptr, i64, i64 }"
    rows = [f"{line} {{ ptr @name.{n}, i64 {places[k]}, i64 {values[k].nbytes} }}" for n, k in enumerate(places)]
    return [*names, f"@tensors = internal constant [{len(rows)} x {line}] [{', '.join(rows)}]"]


def _function_text(function: Function, layout: Layout, weights: Mapping[str, int], abi: int) -> str:
    manifest, places = function.manifest, layout.functions[function.number]
    words: dict[str, object] = {
        "NAME": function.program.name,
        "NUMBER": function.number,
        "ABI": abi,
        "IS_ROUNDED": str(layout.memory.values[function.number].is_rounded).lower(),
        "ARENAS": places.arenas,
        "INPUTS": places.inputs,
        "OUTPUTS": places.outputs,
        "CONTROL": places.control,
        "STATIC": places.static,
        "SYNC": layout.sync,
        "ROWS_SLOT": runner.ROWS,
        "UPDATES": int(manifest.writes_tensors),
        "PARAMETERS": "".join(f", ptr {name}" for name in _parameters(function)),
        "NULLS": _lines(_null_checks(["%memory", *_parameters(function)])),
        "PLACES": _lines(_fixed_places(function, layout, weights)),
        "FED": _lines(_fed(function)),
        "CONTROLS": _lines(_controls()),
    }
    return "\n".join([*_constants(function), _filled("function", words)])


def _parameters(function: Function) -> list[str]:
    manifest = function.manifest
    settings = ["%settings"] if settings_of(function) else []
    inputs = [f"%in.{number}" for number in range(len(manifest.inputs))]
    outputs = [f"%out.{number}" for number, result in enumerate(manifest.results) if not is_own(result)]
    return [*settings, *inputs, *outputs]


def _null_checks(names: Sequence[str]) -> list[str]:
    rows: list[str] = []
    for number, name in enumerate(names):
        following = f"check.{number + 1}" if number + 1 < len(names) else "nonnull"
        rows.append(f"%null.{number} = icmp eq ptr {name}, null")
        rows.append(f"br i1 %null.{number}, label %null, label %{following}")
        if number + 1 < len(names):
            rows.append(f"{following}:")
    return rows


def _put(table: str, slot: int, value: str, name: str = "") -> list[str]:
    """Store a typed value in a slot of a table."""
    name = name or f"{table}.{slot}"
    return [f"%{name}.at = getelementptr i64, ptr %{table}, i64 {slot}", f"store {value}, ptr %{name}.at, align 8"]


def _fixed_places(function: Function, layout: Layout, weights: Mapping[str, int]) -> list[str]:
    """The addresses that stay in their tables, and the settings, of which the caller gives some in each call."""
    manifest, places = function.manifest, layout.functions[function.number]
    rows = _put("arenas", CONTROL_ARENA, "ptr %control")
    rows += _put("arenas", STATIC_ARENA, "ptr %static")
    rows += _put("arenas", BATCH_ARENA, "ptr %batch")
    for slot, place in ((SCRATCH_ARENA, layout.scratch), (SHARED_ARENA, layout.shared)):
        rows.append(f"%arena.{slot} = getelementptr i8, ptr %memory, i64 {place}")
        rows += _put("arenas", slot, f"ptr %arena.{slot}")
    slot = FIRST_TENSOR
    for spec in manifest.tensors:
        if spec.name in layout.tensors:
            rows.append(f"%tensor.{slot} = getelementptr i8, ptr %memory, i64 {layout.tensors[spec.name]}")
            rows += _put("arenas", slot, f"ptr %tensor.{slot}")
        else:
            rows += _put("arenas", slot, f"ptr getelementptr (i8, ptr @model_weights, i64 {weights[spec.name]})")
        slot += 1
    for number, item in enumerate(manifest.inputs):
        rows += _own(slot, item.offset, item.batch_axis is not None)
        rows += _put("inputs", len(manifest.inputs) + number, f"i64 {item.row_bytes}")
        slot += 1
    for result in manifest.results:
        if result.offset is not None:
            rows += _own(slot, result.offset, any(isinstance(extent, BatchExtent) for extent in result.shape))
        slot += 1
    values = layout.memory.values[function.number]
    line, of_row = places.results, manifest.batch_bytes
    for number, result in enumerate(manifest.results):
        if not is_own(result):
            continue
        if size := bytes_of_row(result):
            rows.append(f"%result.{number}.offset = mul i64 %capacity, {of_row}")
            rows.append(f"%result.{number}.begin = getelementptr i8, ptr %batch, i64 %result.{number}.offset")
            rows.append(f"%result.{number} = getelementptr i8, ptr %result.{number}.begin, i64 {values.overshoot}")
            of_row += size
        else:
            rows.append(f"%result.{number} = getelementptr i8, ptr %memory, i64 {line}")
            line += 64
        rows += _put("outputs", number, f"ptr %result.{number}")
    for number, (name, dtype) in enumerate(
        zip(manifest.settings, manifest.setting_dtypes, strict=True), runner.SETTINGS
    ):
        rows += _put("control", number, _number(function.program.settings[name], dtype))
    return rows


def _own(slot: int, offset: int, in_batch: bool) -> list[str]:
    """A place in the arenas, for an input or a result that is copied."""
    rows = [f"%own.{slot}.offset = mul i64 {'%capacity' if in_batch else '1'}, {offset}"]
    base = "%batch" if in_batch else "%static"
    rows.append(f"%own.{slot} = getelementptr i8, ptr {base}, i64 %own.{slot}.offset")
    return rows + _put("arenas", slot, f"ptr %own.{slot}")


def _number(value: float, dtype: DType) -> str:
    """A typed constant with exactly these bits; LLVM writes an f32 as the f64 that it is."""
    wide = np.float64(value if dtype is DType.F64 else np.float32(value))
    return f"{'double' if dtype is DType.F64 else 'float'} 0x{int(wide.view(np.uint64)):016X}"


def _fed(function: Function) -> list[str]:
    """The addresses of inputs and results, inputs without rows, which are copied, and settings."""
    manifest = function.manifest
    rows: list[str] = []
    for number, item in enumerate(manifest.inputs):
        rows += _put("inputs", number, f"ptr %in.{number}")
        if item.batch_axis is None:
            rows.append(f"%copy.{number} = getelementptr i8, ptr %static, i64 {item.offset}")
            operands = f"ptr %copy.{number}, ptr %in.{number}, i64 {item.row_bytes}, i1 false"
            rows.append(f"call void @llvm.memcpy.p0.p0.i64({operands})")
    for number, result in enumerate(manifest.results):
        if not is_own(result):
            rows += _put("outputs", number, f"ptr %out.{number}")
    place = 0
    slots = {name: slot for slot, name in enumerate(manifest.settings, runner.SETTINGS)}
    for name, dtype, _ in settings_of(function):
        number = slots[name]
        place = -(-place // dtype.size) * dtype.size
        kind = "double" if dtype is DType.F64 else "float"
        rows.append(f"%setting.{number}.from = getelementptr i8, ptr %settings, i64 {place}")
        rows.append(f"%setting.{number} = load {kind}, ptr %setting.{number}.from, align {dtype.size}")
        rows += _put("control", number, f"{kind} %setting.{number}")
        place += dtype.size
    return rows


def _controls() -> list[str]:
    """The slots of the control block that the runner reads or changes in a call."""
    values = {
        runner.SEED: "i64 %seed",
        runner.STEP: "i64 %step",
        runner.LOCAL: "i64 0",
        runner.BATCH: "i64 %rows",
        runner.REMAINING: "i64 1",
        runner.FRESH: "i64 %fresh",
    }
    return [line for slot, value in values.items() for line in _put("control", slot, value, f"slot.{slot}")]


def _constants(function: Function) -> list[str]:
    """The tables of a program that the runner reads."""
    manifest, name = function.manifest, function.program.name
    line = "{ ptr, i64, i64, i64, i64, i64, i64, i64 }"
    entries = [
        f"{line} {{ ptr {f'@{manifest.functions[number]}' if number >= 0 else 'null'}, "
        + ", ".join(f"i64 {word}" for word in words)
        + " }"
        for number, *words in entry_rows(manifest)
    ]
    block = (
        f"i64 {runner.ABI_VERSION}",
        f"ptr @{name}_entries",
        f"i64 {len(entries)}",
        f"ptr @{name}_relocations",
        f"i64 {len(manifest.relocations)}",
        f"i64 {control_layout(manifest).arguments}",
        f"i64 {manifest.scratch_bytes}",  # of one thread: nothing lies behind it
        f"i64 {int(manifest.flush)}",
        f"i64 {manifest.once}",
        f"ptr @{name}_advances",
        f"i64 {len(manifest.advances[0]) if manifest.advances else 0}",
        f"i64 {most_moving_arguments(manifest)}",
    )
    types = ", ".join(word.split()[0] for word in block)
    return [
        f"@{name}_entries = internal constant [{len(entries)} x {line}] [{', '.join(entries)}]",
        _numbers(f"{name}_relocations", [number for row in relocation_rows(manifest) for number in row]),
        _numbers(f"{name}_advances", [number for row in manifest.advances for number in row]),
        f"@{name}_program = internal constant {{ {types} }} {{ {', '.join(block)} }}",
    ]


def _numbers(name: str, numbers: Sequence[int]) -> str:
    values = ", ".join(f"i64 {number}" for number in numbers)
    return f"@{name} = internal constant [{len(numbers)} x i64] [{values}]"
